"""A root folder with the compiler that built a kernel and all that a build runs.

It is made of the distribution's packages and kept by content in ``toolchains/ID/root``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modulus.core.distribution.families import Distribution
from modulus.core.kernel.release import Compiler
from modulus.core.record import forms
from modulus.core.record.forms import Fields, Form
from modulus.errors import ToolchainError
from modulus.host.distribution import debs
from modulus.host.distribution.apt.packages import Apt
from modulus.host.distribution.entries import Entries
from modulus.host.distribution.tool_root import finish
from modulus.host.files import atomic
from modulus.host.files.tree_digest import tree_digest
from modulus.host.report.reporter import Reporter

_OLD_NAME = re.compile("[12]/")
"""How their names began before they were called by their content."""


def _version(value: object) -> str:
    return Fields(value, "a package")("version", forms.word)


_FIELDS: Mapping[str, Form[object]] = {
    "cc": forms.word,
    "packages": forms.map_of(forms.word, _version),
}


def toolchain_entries(cache: Path, stores: Sequence[Path]) -> Entries:
    """The entries of toolchains."""
    return Entries("toolchains", "root", cache, stores, "usr/bin/make", _FIELDS)


def outdated(entries: Entries) -> frozenset[Path]:
    """Those of ``entries`` with old names, by their packages; nothing finds them now."""
    return frozenset(
        path
        for path in entries.all()
        if (names := entries.names(path)) and all(map(_OLD_NAME.match, names))
    )


@dataclass(frozen=True)
class Toolchain:
    """A root folder; ``cc`` is the compiler's command in it, ``packages`` map to versions."""

    id: str
    root: Path
    cc: str
    packages: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """The folder of the root's entry."""
        return self.root.parent


class ToolchainProvider:
    """Finds recorded toolchains, and provides the others.

    ``open_apt`` gives the distribution's archive, or raises ToolchainError.
    """

    def __init__(
        self,
        cache: Path,
        distribution: Distribution | None,
        stores: Sequence[Path],
        open_apt: Callable[[Reporter], Apt],
    ) -> None:
        self.entries = toolchain_entries(cache, stores)
        self._distribution = distribution
        self._open_apt = open_apt

    def recorded(self, compiler: Compiler) -> Toolchain | None:
        """The root with ``compiler`` if it is at hand; no process is run."""
        found = self.entries.find(self._name(compiler))
        if found is None and self._distribution:
            # A kernel of the release before was made by that one's compiler.
            name = rf"{self._distribution.any_release.pattern}/{re.escape(compiler.name)}"
            found = self.entries.find(re.compile(name))
        if found is None:
            return None
        path, record = found
        packages = {name: entry["version"] for name, entry in record["packages"].items()}
        return Toolchain(path.name, path / "root", compiler.command, packages)

    def provide(self, compiler: Compiler, reporter: Reporter) -> Toolchain:
        """The root with ``compiler``, made now if need be. The caller holds a lock."""
        found = self.recorded(compiler)
        if found:
            return found
        if self._distribution is None:
            raise ToolchainError(
                f"{compiler.command} cannot be had: this system's packages are not known",
                "set build.container: none to build with the compiler installed here",
            )
        apt = self._open_apt(reporter)
        groups = [name.split("|") for name in self._distribution.family.tools]
        groups += [[name] for name in self._distribution.compiler_packages(compiler)]
        lacking: list[str] = []

        def choose() -> dict[str, str] | None:
            known = apt.versions(name for group in groups for name in group)
            chosen = [next((name for name in group if name in known), "") for group in groups]
            lacking[:] = [
                group[0] for group, name in zip(groups, chosen, strict=True) if not name
            ]
            return None if lacking else apt.closure(chosen)

        with atomic.scratch(self.entries.folder, "new") as folder:
            folder.chmod(0o755)
            (folder / "archives").mkdir()
            archives = apt.obtain(choose, folder / "archives")
            if archives is None:
                raise self._missing(apt, compiler, lacking)
            new = folder / "entry"
            reporter.phase("provision", f"unpacking the toolchain of {compiler.command}")
            debs.unpack(archives, new / "root", reporter)
            finish(new / "root")
            packages = debs.recorded(archives)
            self.entries.commit(
                new,
                {
                    "id": tree_digest(new / "root"),
                    "found_by": [self._name(compiler)],
                    "cc": compiler.command,
                    "packages": packages,
                    "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                },
            )
        made = self.recorded(compiler)
        if made is None:
            raise ToolchainError(
                f"the packages of {compiler.command} do not have what a build needs",
                "check that the apt sources belong to one release",
            )
        return made

    def _missing(self, apt: Apt, compiler: Compiler, lacking: Sequence[str]) -> ToolchainError:
        there = sorted(
            name
            for name in apt.names(f"{compiler.kind}-")
            if name.removeprefix(f"{compiler.kind}-").replace(".", "").isdigit()
        )
        return apt.missing(
            f"{self._distribution} has no {', '.join(lacking)}, which the kernel was built with"
            if compiler.command in lacking
            else f"{self._distribution} has no {', '.join(lacking)}",
            f"it has {', '.join(there)}; take a kernel of this distribution"
            if there
            else "check the apt sources below /etc/apt",
        )

    def _name(self, compiler: Compiler) -> str:
        return f"{self._distribution}/{compiler.name}"
