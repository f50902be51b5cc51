"""What all kinds of build container have in common.

A kind is a list of ways to start one, best first; the first that works is kept.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modulus.errors import BuildError, ToolchainError
from modulus.host.build.container.limits import Group
from modulus.host.build.container.payload import SCRIPT, Watch
from modulus.host.process import run
from modulus.host.report.reporter import Reporter

WORK = "/build"
"""Where the payload starts."""

UID = 1000
"""The user and group ``build`` inside a user namespace. Outside, it is as far above the
namespace's first id, and owns the writable mounts."""

TIED = ("unshare", "--fork", "--pid", "--mount-proc", "--kill-child=KILL", "--")
"""Goes in front of a tool: a pid namespace that ends with us, with all in it.

It has its own ``/proc``, where systemd-nspawn looks for the child whose ids it is to map.
"""

_KILLED = 137

_SHELL = 'cd "$1" && exec "$(command -v bash || command -v sh)"'


@dataclass(frozen=True)
class Mount:
    """The host's ``source``, seen by the payload at ``target``, an empty folder of the root."""

    source: Path
    target: str
    writable: bool = False


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Way:
    """One way to start a container: its command lines up to the payload's argument list.

    ``flags`` are those of the payload's script, ``join`` says that the container's tool goes
    into the control group, ``warning`` what is worse than in earlier ways (told with why those
    failed). ``begin`` runs before a start, ``end`` removes a container whose tool was killed.
    """

    argv: tuple[str, ...]
    terminal: tuple[str, ...]
    payload: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    flags: str = ""
    join: bool = True
    warning: str = ""
    begin: Callable[[], object] = _nothing
    end: Callable[[], object] = _nothing


class Container:
    """A build container: made by ``open_container``, gone when its context ends."""

    def __init__(
        self,
        kind: str,
        ways: Sequence[Way],
        reporter: Reporter,
        *,
        group: Group | None = None,
        address_space: int | None = None,
        paths: Mapping[str, Path] | None = None,
    ) -> None:
        self.kind = kind
        self.oom = False
        self._ways = list(ways)
        self._settled = False
        self._reporter = reporter
        self._group = group
        self._address_space = address_space
        self._paths = dict(paths or {})

    def path(self, target: str) -> str:
        """Where the payload sees what is mounted at ``target`` or lies below that."""
        for mounted, source in self._paths.items():
            if target == mounted or target.startswith(f"{mounted}/"):
                return f"{source}{target[len(mounted) :]}"
        return target

    def run(
        self,
        argv: Sequence[str],
        *,
        on_line: Callable[[str], object],
        timeout: float | None = None,
        check: Callable[[], object] | None = None,
    ) -> int:
        """Runs ``argv`` in the container's ``/build`` and returns its exit status.

        The status is 128 plus a signal's number if one ended it. Output lines go to ``on_line``
        as they come; ``check`` is called twice a second. Afterwards ``oom`` says whether the
        memory limit killed a process. ToolchainError if no container starts; BuildError if
        ``timeout`` (seconds) passes. Whatever is raised, by ``on_line`` and ``check`` too,
        nothing of the payload is left.
        """
        self.oom = False
        before = self._oom_kills()
        why = ""
        while True:
            way = self._ways[0]
            seen = Watch(on_line)
            status = self._attempt(way, argv, seen, timeout, check)
            if seen.started:
                if way.warning and not self._settled:
                    self._reporter.warn(f"{way.warning} ({why})")
                self._settled = True
                self.oom = seen.oom_kills > 0 or self._oom_kills() > before
                if self.oom:
                    on_line("modulus: the memory limit was reached and a process killed for it")
                if seen.status is not None:
                    return seen.status
                # The script itself was killed, or the whole container.
                return status if status > 0 else _KILLED
            why = "; ".join(seen.before) or f"status {status}"
            if self._settled or len(self._ways) == 1:
                break
            del self._ways[0]
        raise ToolchainError(
            f"the {self.kind} build container does not start: {why}",
            f"run it by hand: {shlex.join(way.argv)} /bin/sh",
        )

    def shell(self) -> int:
        """Opens a shell in the container on our terminal; its exit status."""
        if not self._settled:
            self.run(("true",), on_line=lambda _: None)
        way = self._ways[0]
        shell = ("/bin/sh", "-c", _SHELL, "sh", self.path(WORK))
        return run.interactive(
            (*way.terminal, *way.payload, *shell), env=way.env, preexec=self._join(way)
        )

    def _attempt(
        self,
        way: Way,
        argv: Sequence[str],
        seen: Watch,
        timeout: float | None,
        check: Callable[[], object] | None,
    ) -> int:
        memory = str(self._address_space >> 10) if self._address_space else ""
        arguments = (seen.token, memory, self.path(WORK), way.flags)
        script = ("/bin/sh", "-c", SCRIPT, "sh", *arguments)
        way.begin()
        read, write = os.pipe()
        with open(read, "rb") as stdin, open(write, "wb"):
            try:
                return run.run(
                    (*way.argv, *script, *way.payload, *argv),
                    stdin=stdin,
                    env=way.env,
                    timeout=timeout,
                    ok=run.ANY_STATUS,
                    on_line=seen.line,
                    check=check,
                    preexec=self._join(way),
                ).status
            except run.CommandError:
                way.end()
                raise BuildError(
                    f"the build was stopped after {timeout:g} s",
                    "see in its log what it was waiting for",
                ) from None
            except BaseException:
                way.end()
                raise

    def _join(self, way: Way) -> Callable[[], None] | None:
        return self._group.join if self._group and way.join else None

    def _oom_kills(self) -> int:
        return self._group.oom_kills if self._group else 0


def give_writable(mounts: Sequence[Mount], uid: int) -> None:
    """Makes ``uid`` the owner of all in the writable mounts; follows no link.

    Called before any payload runs: the mounts are in a folder that only we may pass through.
    """
    for mount in mounts:
        if mount.writable:
            os.chown(mount.source, uid, uid)
            for folder, folders, names in os.walk(mount.source):
                for name in (*folders, *names):
                    os.chown(os.path.join(folder, name), uid, uid, follow_symlinks=False)
