"""Runs apt's programs with a configuration of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from modulus.errors import ToolchainError
from modulus.host.process.run import CommandError, Result, find, run

SOURCES = ("indextargets", "--no-release-info", "-o", "Dir::State::Lists=/nonexistent/")
"""What apt-get is asked for its sources; with its lists at hand it would read all of them."""

_QUERY_SECONDS = 120


class AptTool:
    """apt's programs, which read ``config`` before any other configuration.

    ``proxies`` are variables of their environment: they may hold a password.
    """

    def __init__(self, config: Path, proxies: Mapping[str, str] | None = None) -> None:
        self._env = {"APT_CONFIG": str(config), **(proxies or {})}

    def query(self, program: str, *arguments: str, ok: Sequence[int] = (0,)) -> str:
        """What ``program`` prints; ToolchainError with its last words where it fails."""
        try:
            return self.run(program, *arguments, ok=ok).stdout
        except CommandError as error:
            said = error.output.strip().splitlines() or [error.message]
            raise ToolchainError(f"{program}: {said[-1]}", error.hint) from error

    def run(
        self,
        program: str,
        *arguments: str,
        timeout: float = _QUERY_SECONDS,
        ok: Sequence[int] = (0,),
        on_line: Callable[[str], None] | None = None,
        cwd: Path | None = None,
    ) -> Result:
        """As ``process.run``; ToolchainError where there is no such program."""
        if find(program) is None:
            raise ToolchainError(
                f"{program} is not installed", f"install the package that has {program}"
            )
        return run(
            leashed(program, *arguments),
            timeout=timeout,
            ok=ok,
            on_line=on_line,
            cwd=cwd,
            env=self._env,
        )


def quoted(value: str) -> str:
    """``value`` as apt.conf(5) has it; ToolchainError for one that it cannot have."""
    if any(char in value for char in '"\n\\'):
        raise ToolchainError(
            f"apt takes no quote, backslash or line break in {value!r}",
            "use a path or an address without them",
        )
    return f'"{value}"'


def leashed(*argv: str | Path) -> list[str | Path]:
    """``argv`` in a form that dies with Modulus: the next run must not meet it at work."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *argv]
