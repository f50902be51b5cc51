"""A fake node, and the archive of packages that its apt sources name."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modulus.core.distribution.families import Distribution, Family
from modulus.host.distribution.provisioner import Provisioner
from modulus.host.report.reporter import PlainReporter
from tests.support.archive import Archive, Server, SigningKey, add_headers_of
from tests.support.headertrees import RELEASE, write


@dataclass
class World:
    """A fake node and the archive its apt sources name."""

    base: Path
    archive: Archive
    server: Server
    distribution: Distribution
    said: io.StringIO = field(default_factory=io.StringIO)

    @property
    def reporter(self) -> PlainReporter:
        return PlainReporter(self.said)

    @property
    def root(self) -> Path:
        return self.base / "root"

    @property
    def cache(self) -> Path:
        return self.root / "var/cache/modulus"

    def provisioner(
        self,
        *,
        proxy: str | None = None,
        offline: bool = False,
        cache: Path | None = None,
        kernel_sources: Sequence[str] = (),
    ) -> Provisioner:
        return Provisioner(
            cache or self.cache,
            self.root,
            self.distribution,
            (),
            proxy=proxy,
            offline=offline,
            kernel_sources=kernel_sources,
        )

    def left(self, kind: str) -> list[str]:
        """The entries of ``kind``, hidden ones included."""
        return sorted(path.name for path in (self.cache / kind).glob("*"))


def make_world(
    base: Path, key: SigningKey, server: Server, family: Family, codename: str
) -> World:
    distribution = Distribution(family, codename, "amd64")
    world = World(base, Archive(base / "archive", codename, key), server, distribution)
    key.public(Path(f"{world.root}{family.archive.keyrings[0]}"))
    sources = "etc/apt/sources.list.d/own.sources"
    write(
        world.root / sources,
        f"Types: deb\nURIs: {server.url}\nSuites: {codename}\nComponents: main\n",
    )
    return world


def another(
    world: World,
    name: str,
    key: SigningKey,
    release: str,
    *,
    codename: str = "",
    package: str = "",
) -> Archive:
    """An archive beside the world's, at URL/NAME, with the headers of ``release``."""
    archive = Archive(world.archive.folder / name, codename or name, key, suite=name)
    add_headers_of(archive, release, package=package)
    archive.publish()
    return archive


def install_image(world: World, version: str) -> None:
    write(
        world.root / "var/lib/dpkg/status",
        f"Package: linux-image-{RELEASE}\nStatus: install ok installed\nVersion: {version}\n",
    )
