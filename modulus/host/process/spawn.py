"""Starts a program that runs beside its caller."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from modulus.host.process.run import environment, prctl, tie

_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""By Python, and so by the programs that it starts."""


def spawn(
    argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, nice: int = 0
) -> int:
    """Starts ``argv``, a path and its arguments, with the caller's output; returns its pid.

    The caller waits for the program, with waitpid(2): an agent's main loop does. So neither sh
    starts it, which reaps in a thread of its own, nor a Popen, which the next Popen reaps once
    it is garbage. The program has no standard input. It has a session of its own, so that the
    caller decides about a terminal's Ctrl-C, and gets SIGTERM when the caller dies. ``nice`` is
    added to the caller's niceness, nice(2). The status is 255 where the program cannot be
    started.
    """
    words = [str(word) for word in argv]
    prctl()
    parent = os.getpid()
    # Until its program runs the child has this process's handlers, which would eat a signal.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                for number in (*_HANDLED, *_IGNORED):
                    signal.signal(number, signal.SIG_DFL)
                tie(parent, signal.SIGTERM)
                os.nice(nice)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
                os.execve(words[0], words, environment(env))  # noqa: S606 - no shell is meant
            except BaseException as error:
                os.write(2, f"{words[0]}: {error}\n".encode())
            finally:
                os._exit(255)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    return pid
