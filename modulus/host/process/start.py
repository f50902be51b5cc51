"""Starts a program by itself, without the time that a library for it takes.

To import sh and to start four programs by it is a fifth of a warm start.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from modulus.errors import ToolchainError

ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
"""What asks a program to end."""

_PR_SET_PDEATHSIG = 1
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""By Python, and so by what it starts."""


def start(words: list[str], env: Mapping[str, str], prepare: Callable[[], None]) -> int:
    """Starts ``words``, a path and its arguments, in a session of its own; returns its pid.

    The caller waits for it, with waitpid(2). ``prepare`` runs in the child; where it, or the
    program's start, fails, the status is 255.
    """
    # Until its own program runs it has our handlers, which would swallow a signal.
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
    """A started program, with what is used of sh's RunningCommand."""

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
    """Has this process get signal ``number`` when ``parent`` dies, which started it."""
    prctl()(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(255)


@functools.cache
def prctl() -> Any:
    """prctl(2), to be called before a fork for the first time."""
    # Each CDLL brings a class of its own along, and who starts programs may stay for months.
    import ctypes

    found = ctypes.CDLL(None, use_errno=True).prctl
    found.argtypes = (ctypes.c_int, ctypes.c_ulong)
    return found
