"""The distribution's signed archive: where the node has it from, of which release, how old."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

from modulus.core.distribution.apt_sources import AptSource, parse_targets
from modulus.core.distribution.families import Archive, Distribution, key_files
from modulus.core.distribution.own_sources import own
from modulus.core.distribution.release_file import ReleaseFile, belongs, parse_release
from modulus.errors import ToolchainError
from modulus.host.distribution.apt.config import Trusted, write_sources
from modulus.host.distribution.apt.node import NodeApt
from modulus.host.distribution.apt.tool import SOURCES, AptTool
from modulus.host.files.paths import resolve
from modulus.host.files.regular import read_text


def candidates(
    nodes: Sequence[NodeApt], distribution: Distribution
) -> tuple[NodeApt, tuple[Trusted, ...]]:
    """The first of ``nodes`` with sources that can be the distribution's, and these.

    Raises ToolchainError where there are none, or the distribution's keys are not there.
    """
    refused: list[str] = []
    kept: tuple[AptSource, ...] = ()
    for node in nodes:
        kept, others = own(node.sources, distribution)
        refused += others
        if kept:
            break
    else:
        raise none_of(distribution, refused)
    roots = [each.root for each in nodes]
    trusted = []
    for source in kept:
        archive = distribution.family.archive_at(source.host)
        if keys := _keys(archive, source, node.root, roots):
            trusted.append(Trusted(node.outside(source), keys))
    if not trusted:
        name = distribution.family.archive.keyrings[0]
        raise ToolchainError(
            f"the archive keys of {distribution.family.id} are not there: {name}",
            f"install the package {Path(name).stem}",
        )
    return node, tuple(trusted)


def none_of(distribution: Distribution, reasons: Sequence[str]) -> ToolchainError:
    """The error for a node none of whose sources is the distribution's, with the first of
    the ``reasons``."""
    because = f": {reasons[0]}" if reasons else ""
    return ToolchainError(
        f"no apt source is {distribution.family.id} {distribution.codename}'s own{because}",
        f"give /etc/apt/sources.list.d an entry for {distribution.codename}, "
        "signed by the distribution",
    )


class Archives:
    """The ``trusted`` sources of the private apt whose state is in ``folder``.

    Which of them are of ``distribution``'s release is what their signed Release files say,
    once they are at hand.
    """

    def __init__(
        self,
        folder: Path,
        tool: AptTool,
        distribution: Distribution,
        trusted: Sequence[Trusted],
    ) -> None:
        self._folder = folder
        self._distribution = distribution
        self._trusted = trusted
        for name in ("all", "unsure", "sources"):
            (folder / name).mkdir(exist_ok=True)
        write_sources(folder / "all", trusted, distribution.arch)
        text = tool.query("apt-get", *SOURCES, *sources_in(folder / "all"))
        self._files = {
            (source.uri, source.suite): folder / "lists" / source.release
            for source in parse_targets(text, distribution.arch)
        }
        self.used: list[Trusted] = []
        self.choose()

    def unsure(self) -> Path | None:
        """Makes a folder with the sources that are not called as the release, so that what
        they are of has to be asked; None if there are none."""
        trusted = [one for one in self._trusted if not self._named(one)]
        if not trusted:
            return None
        write_sources(self._folder / "unsure", trusted, self._distribution.arch)
        return self._folder / "unsure"

    def choose(self) -> None:
        """Has apt use the sources of the release, by the Release files at hand."""
        self.used = [one for one in self._trusted if self._fits(one)]
        write_sources(self._folder / "sources", self.used, self._distribution.arch)

    def none(self) -> ToolchainError:
        """The error for sources of which none is of the release."""
        others = (
            f"{one.source}: of {release.codename}"
            for one in self._trusted
            if (release := self._release(one)) and not self._fits(one)
        )
        return none_of(self._distribution, list(others))

    def outdated(self) -> Iterator[tuple[AptSource, datetime]]:
        """The sources that are used although their dates have passed, with these."""
        now = datetime.now(timezone.utc)
        for one in self.used:
            release = self._release(one)
            if release and release.valid_until and release.valid_until < now:
                yield one.source, release.valid_until

    def _named(self, one: Trusted) -> bool:
        return one.by_name or belongs(one.source.suite, self._distribution.codename)

    def _fits(self, one: Trusted) -> bool:
        release = None if one.by_name else self._release(one)
        return release.is_of(self._distribution.codename) if release else self._named(one)

    def _release(self, one: Trusted) -> ReleaseFile | None:
        """The Release file of a source, if apt has one that is signed as it should be."""
        base = self._files.get((one.source.uri, one.source.suite))
        for name in ("InRelease", "Release") if base else ():
            with contextlib.suppress(OSError):
                return parse_release(read_text(f"{base}{name}"))
        return None


def sources_in(folder: Path) -> tuple[str, str]:
    """Arguments with which apt takes the sources in ``folder`` alone."""
    return ("-o", f"Dir::Etc::SourceParts={folder}")


def _keys(
    archive: Archive, source: AptSource, root: Path, roots: Sequence[Path]
) -> tuple[Path, ...]:
    """The files with the keys of ``archive``; () where there are none."""
    if archive.keyrings:
        places = (resolve(base, name) for base in roots for name in archive.keyrings)
        return tuple(path for path in places if path.is_file())[:1]
    if source.signed_by:
        paths = [resolve(root, name) for name in key_files(source.signed_by)]
    else:
        patterns = (pattern.rpartition("/") for pattern in archive.signed_by)
        paths = [
            path
            for folder, _, name in patterns
            for path in sorted(resolve(root, folder).glob(name))
        ]
    return tuple(path for path in paths if path.is_file())
