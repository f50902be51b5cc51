"""Runs other programs; the only module that imports ``sh``.

Argument lists and never shell strings, a minimal environment, no standard input, a time
limit, and on failure the whole error output with the command as a line that can be pasted.
No program outlives the process that runs it, not even where SIGKILL ends that process, unless
it is run ``unbroken``.
Works with sh 1.14 (Debian 12) and 2.x: ``sh`` starts and reaps, and this module reads, in the
caller's thread, so that a callback's exception or a Ctrl-C ends the program. What runs beside
its caller is started by ``spawn``.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from modulus.errors import ModulusError, ToolchainError
from modulus.host.process.lines import Lines
from modulus.host.process.pump import pump
from modulus.host.report.notify import ask_for_time

ANY_STATUS = range(-64, 256)
"""For ``ok``: every exit status; the negative ones are signals."""

_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
"""The signals that ask a program to end."""
_NOT_STARTED = 255
_PR_SET_PDEATHSIG = 1
_BUS = "DBUS_SYSTEM_BUS_ADDRESS"
_PASSED_THROUGH = ("PATH", "HOME", "TMPDIR", "http_proxy", "https_proxy", "no_proxy", _BUS)
_LONGEST_SILENCE = 3600.0
"""Seconds; a command that may take longer has to show progress."""


@dataclass(frozen=True)
class Result:
    """What a command left behind: its exit status and its decoded output."""

    status: int
    stdout: str
    stderr: str


class CommandError(ModulusError):
    """A command failed; callers turn it into the error of their own subject.

    ``status`` is None where a time limit ended the command.
    """

    def __init__(self, argv: Sequence[str], status: int | None, output: str) -> None:
        self.argv = tuple(argv)
        self.status = status
        self.output = output
        last = output.strip().splitlines()[-1] if output.strip() else "no output"
        how = "ran out of time" if status is None else f"failed with status {status}"
        super().__init__(f"{argv[0]} {how}: {last}", f"run it by hand: {shlex.join(argv)}")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The minimal environment every command gets, with ``extra`` on top."""
    kept = {name: os.environ[name] for name in _PASSED_THROUGH if name in os.environ}
    return {**kept, "LANG": "C.UTF-8", **(extra or {})}


def find(program: str) -> Path | None:
    """Where PATH has ``program``, or None."""
    found = shutil.which(program)
    return Path(found) if found else None


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float | None = 120,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    ok: Sequence[int] = (0,),
    on_line: Callable[[str], object] | None = None,
    preexec: Callable[[], None] | None = None,
    stdin: IO[bytes] | None = None,
    unbroken: bool = False,
    check: Callable[[], object] | None = None,
) -> Result:
    """Runs ``argv`` to its end and returns its output.

    ``timeout`` is in seconds; up to an hour, the service manager is asked for as much. With
    ``on_line`` standard error joins standard output, each line (see ``lines.Lines``) is handed
    over as it comes, and none of it is kept. ``preexec`` runs in the child before the program,
    ``check`` here twice a second. Raises CommandError for a status not in ``ok`` or a passed
    time limit, ToolchainError where PATH has no such program; then, as with any exception, the
    program and its process group have been killed.

    An ``unbroken`` program comes to its own end: it ignores the signals that ask programs to
    end, it outlives its caller, an exception waits for it, and past the time limit it runs on.
    """
    words = [str(word) for word in argv]
    deadline = None if timeout is None else time.monotonic() + timeout
    if timeout is not None and timeout <= _LONGEST_SILENCE:
        ask_for_time(timeout)
    out, err = bytearray(), bytearray()
    lines = None if on_line is None else Lines(on_line)
    with contextlib.ExitStack() as stack:
        child_in = stdin or stack.enter_context(open(os.devnull, "rb"))
        read, write = _pipe(stack)
        sinks = {read: lines.feed if lines else out.extend}
        options: dict[str, Any] = {"_in": child_in, "_out": write, "_tty_out": False}
        options["_new_session"] = True
        if lines:
            options["_err_to_out"] = True
        else:
            err_read, options["_err"] = _pipe(stack)
            sinks[err_read] = err.extend
        if cwd is not None:
            options["_cwd"] = str(cwd)
        running = _start(words, environment(env), preexec, options, unbroken)
        try:
            write.close()
            if not lines:
                options["_err"].close()
            in_time = pump(running.pid, sinks, deadline, check)
            if not in_time:
                raise CommandError(words, None, _text(err or out))
            status = _status(running)
            if lines:
                lines.close()
        except BaseException:
            if not unbroken:
                _kill_group(running.pid)
                _status(running)
            elif pump(running.pid, {}, deadline):
                _status(running)
            raise
    result = Result(status, _text(out), _text(err))
    if status not in ok:
        raise CommandError(words, status, result.stderr or result.stdout)
    return result


def interactive(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    preexec: Callable[[], None] | None = None,
) -> int:
    """Runs ``argv`` on this process's terminal and returns its exit status.

    Ctrl-C and Ctrl-\\ are the program's meanwhile, not ours. Raises ToolchainError where
    PATH has no such program.
    """
    group = os.getpgrp()

    def join_terminal() -> None:
        # sh 1.14 puts its child in a process group of its own, which may not read a terminal.
        os.setpgid(0, group)
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        if preexec is not None:
            preexec()

    options = {"_in": 0, "_out": 1, "_err": 2, "_new_session": False}
    ours = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGQUIT)}
    try:
        for number in ours:
            signal.signal(number, signal.SIG_IGN)
        words = [str(word) for word in argv]
        return _status(_start(words, environment(env), join_terminal, options))
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)


def tie(parent: int, number: int) -> None:
    """Has this process get signal ``number`` when its ``parent`` dies."""
    prctl()(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(255)


@functools.cache
def prctl() -> Any:
    """prctl(2); the first call must come before a fork."""
    # Cached: each CDLL makes a class of its own, and an agent starts programs for months.
    found = ctypes.CDLL(None, use_errno=True).prctl
    found.argtypes = (ctypes.c_int, ctypes.c_ulong)
    return found


def _start(
    words: list[str],
    env: dict[str, str],
    preexec: Callable[[], None] | None,
    options: dict[str, Any],
    unbroken: bool = False,
) -> Any:
    """The started program, as sh's RunningCommand."""
    import sh

    try:
        command = sh.Command(words[0])
    except sh.CommandNotFound:
        raise ToolchainError(
            f"{words[0]} is not installed", f"install the package that has {words[0]}"
        ) from None
    prctl()
    parent = os.getpid()

    def prepare() -> None:
        if unbroken:
            for number in _ENDING:
                signal.signal(number, signal.SIG_IGN)
        else:
            tie(parent, signal.SIGKILL)
            # sh has its background commands ignore it.
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
        if preexec is not None:
            preexec()

    try:
        return command(
            *words[1:],
            _env=env,
            _preexec_fn=prepare,
            _bg=True,
            _bg_exc=False,
            _ok_code=list(ANY_STATUS),
            **options,
        )
    except sh.ForkException as error:
        # Its text is the child's traceback.
        raise CommandError(words, _NOT_STARTED, str(error).strip().splitlines()[-1]) from None


def _pipe(stack: contextlib.ExitStack) -> tuple[int, IO[bytes]]:
    read, write = os.pipe()
    stack.callback(os.close, read)
    os.set_blocking(read, False)
    return read, stack.enter_context(open(write, "wb", buffering=0))


def _kill_group(pid: int) -> None:
    """Kills the process group that the session leader ``pid`` began."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _status(running: Any) -> int:
    """Waits for the end; negative for a signal (sh's own ``wait`` raises for some)."""
    return int(running.process.wait())


def _text(output: bytes | bytearray) -> str:
    return output.decode("utf-8", "replace")
