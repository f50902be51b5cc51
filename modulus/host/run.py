"""Runs other programs; the only module that imports ``sh``.

Argument lists and never shell strings, a minimal environment, no standard input, a time
limit, and on failure the whole error output with the command as a line that can be pasted.
Works with sh 1.14 (Debian 12) and 2.x, whose calls return different types.
"""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modulus.errors import ModulusError, ToolchainError

_PASSED_THROUGH = ("PATH", "HOME", "TMPDIR", "http_proxy", "https_proxy", "no_proxy")


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
    import shutil

    found = shutil.which(program)
    return Path(found) if found else None


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float = 120,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    ok: Sequence[int] = (0,),
    on_line: Callable[[str], None] | None = None,
    preexec: Callable[[], None] | None = None,
) -> Result:
    """Runs ``argv`` to its end and returns its output.

    ``timeout`` is in seconds. With ``on_line`` standard error joins standard output, each
    line (without its newline) is handed over as it comes, and none of it is kept. ``preexec``
    runs in the child before the program. Raises CommandError for a status not in ``ok``,
    ToolchainError where PATH has no such program.
    """
    import sh

    words = [str(word) for word in argv]
    try:
        command = sh.Command(words[0])
    except sh.CommandNotFound:
        raise ToolchainError(
            f"{words[0]} is not installed", f"install the package that has {words[0]}"
        ) from None
    with open(os.devnull, "rb") as nothing:
        options: dict[str, Any] = {
            "_in": nothing,
            "_env": environment(env),
            "_ok_code": list(range(-64, 256)),
            "_timeout": timeout,
            "_timeout_signal": signal.SIGKILL,
            "_tty_out": False,
            "_decode_errors": "replace",
            "_truncate_exc": False,
        }
        if cwd is not None:
            options["_cwd"] = str(cwd)
        if preexec is not None:
            options["_preexec_fn"] = preexec
        if on_line is not None:
            options |= {"_out": lambda line: on_line(line.rstrip("\n")), "_err_to_out": True}
        if int(sh.__version__.split(".")[0]) >= 2:
            options["_return_cmd"] = True
        try:
            done = command(*words[1:], **options)
        except sh.TimeoutException:
            raise CommandError(words, None, "") from None
    if on_line is not None:
        result = Result(done.exit_code, "", "")
    else:
        result = Result(done.exit_code, _text(done.stdout), _text(done.stderr))
    if result.status not in ok:
        raise CommandError(words, result.status, result.stderr or result.stdout)
    return result


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")
