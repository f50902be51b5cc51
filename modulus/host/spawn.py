"""Starts a program that goes on by itself while we do something else."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modulus.host.run import environment

_PR_SET_PDEATHSIG = 1


def spawn(
    argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, nice: int = 0
) -> int:
    """Starts ``argv``, a path and its arguments, with our own output; returns its pid.

    The caller waits for it, with waitpid(2). It has no standard input and a session of its own,
    so that a terminal's Ctrl-C is ours to pass on, and gets SIGTERM when we die. ``nice`` is
    added to our own niceness, nice(2).
    """
    words = [str(word) for word in argv]
    prctl = _prctl()
    parent = os.getpid()
    # Until its own program runs it has our handlers, which would swallow a signal.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
                if os.getppid() == parent:
                    os.nice(nice)
                    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                        signal.signal(number, signal.SIG_DFL)
                    signal.pthread_sigmask(signal.SIG_SETMASK, ())
                    os.execve(words[0], words, environment(env))  # noqa: S606 - no shell is meant
            finally:
                os._exit(255)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    return pid


@functools.cache
def _prctl() -> Any:
    # Each CDLL brings a class of its own along, and who starts programs may stay for months.
    import ctypes

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = (ctypes.c_int, ctypes.c_ulong)
    return prctl
