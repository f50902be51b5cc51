"""Starts a program without ``sh``, which takes time.

Importing sh and starting four programs with it is a fifth of a warm start.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from modulus.errors import ToolchainError

ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
"""The signals that ask a program to end."""

_PR_SET_PDEATHSIG = 1
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""By Python, and so by the programs that it starts."""


def start(words: list[str], env: Mapping[str, str], prepare: Callable[[], None]) -> int:
    """Starts ``words``, a path and its arguments, in a session of its own; returns its pid.

    The caller waits for it, with waitpid(2). ``prepare`` runs in the child; where it, or the
    program's start, fails, the status is 255.
    """
    # Until its program runs the child has this process's handlers, which would eat a signal.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                for number in (*_HANDLED, *_IGNORED):
                    signal.signal(number, signal.SIG_DFL)
                prepare()
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
                os.execve(words[0], words, env)  # noqa: S606 - no shell is meant
            except BaseException as error:
                os.write(2, f"{words[0]}: {error}\n".encode())
            finally:
                os._exit(255)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    return pid


class Child:
    """A started program, with the parts of sh's RunningCommand that ``run`` uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.process = self
        self._status: int | None = None

    def wait(self) -> int:
        """Its status, once it has ended; negative for a signal."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status


def start_quick(
    words: list[str],
    env: Mapping[str, str],
    preexec: Callable[[], None] | None,
    options: Mapping[str, Any],
    unbroken: bool,
) -> Child:
    """Starts a program as ``run.run`` describes it; ``options`` are those for sh."""
    program = _which(words[0])
    parent = os.getpid()
    prctl()

    def prepare() -> None:
        os.dup2(options["_in"].fileno(), 0)
        os.dup2(options["_out"].fileno(), 1)
        os.dup2(1 if options.get("_err_to_out") else options["_err"].fileno(), 2)
        if "_cwd" in options:
            os.chdir(options["_cwd"])
        if unbroken:
            for number in ENDING:
                signal.signal(number, signal.SIG_IGN)
        else:
            tie(parent, signal.SIGKILL)
        if preexec is not None:
            preexec()

    return Child(start([program, *words[1:]], env, prepare))


def not_installed(program: str) -> ToolchainError:
    """The error for a program that PATH does not have."""
    return ToolchainError(
        f"{program} is not installed", f"install the package that has {program}"
    )


def _which(program: str) -> str:
    places = [""] if "/" in program else os.get_exec_path()
    for path in (os.path.join(place, program) for place in places):
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise not_installed(program)


def tie(parent: int, number: int) -> None:
    """Has this process get signal ``number`` when its ``parent`` dies."""
    prctl()(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(255)


@functools.cache
def prctl() -> Any:
    """prctl(2); the first call must come before a fork."""
    # Cached: each CDLL makes a class of its own, and an agent starts programs for months.
    import ctypes

    found = ctypes.CDLL(None, use_errno=True).prctl
    found.argtypes = (ctypes.c_int, ctypes.c_ulong)
    return found
