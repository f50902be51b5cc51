"""Packages of the node's distribution: looked up, resolved, downloaded and verified by apt.

This apt is private: it has its own sources (those that are trusted), lists and empty status.
Of the node's configuration and state it uses only the credentials for mirrors and the proxies,
and it installs nothing. The caller holds the lock that admits one process at a time.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from modulus.core.distribution.deb822 import stanzas
from modulus.core.distribution.families import Distribution
from modulus.errors import IntegrityError, ToolchainError
from modulus.host.distribution.apt.archive import Archives, candidates, sources_in
from modulus.host.distribution.apt.config import write_config
from modulus.host.distribution.apt.kernel_sources import by_name
from modulus.host.distribution.apt.node import NodeApt
from modulus.host.distribution.apt.tool import AptTool
from modulus.host.distribution.apt.trouble import failure, remedy
from modulus.host.files import atomic
from modulus.host.files.digest import hash_file
from modulus.host.files.full_disk import check_full
from modulus.host.files.place import make_dirs
from modulus.host.process.run import CommandError
from modulus.host.report.reporter import Reporter

_STATUS = re.compile(r"dlstatus:[^:]*:([0-9.]+):")
_URI = re.compile(r"^'[^']*' (\S+)_(\S+)_[a-z0-9]+\.deb ", re.MULTILINE)
_STALE = re.compile(r"\b404\b|Hash Sum mismatch|unexpected size|was not found")
_RELEASES_ONLY = ("-o", "Acquire::IndexTargets::deb::Packages::DefaultEnabled=false")
_UPDATE_SECONDS = 900
_DOWNLOAD_SECONDS = 3600


@dataclass(frozen=True)
class AptPackage:
    """One version of a package that the archive offers; ``size`` in bytes."""

    name: str
    version: str
    sha256: str
    size: int
    depends: str


@dataclass(frozen=True)
class AptArchive:
    """A downloaded package whose bytes match the signed lists."""

    package: AptPackage
    path: Path


class StaleListsError(ToolchainError):
    """The archive no longer has what the package lists name; an update may help."""


class Apt:
    """The archive of ``distribution`` as configured below ``root``; state is in ``folder``.

    ``kernel_sources`` are files of the node's apt sources that are trusted too.
    """

    def __init__(
        self,
        folder: Path,
        root: Path,
        distribution: Distribution,
        reporter: Reporter,
        *,
        proxy: str | None = None,
        ca_bundle: Path | None = None,
        kernel_sources: Sequence[str] = (),
    ) -> None:
        self._reporter = reporter
        self._problem = ""
        make_dirs(folder)
        arch = distribution.arch
        self._node = NodeApt(folder / "node.conf", root, arch)
        system = NodeApt(folder / "system.conf", Path("/"), arch)
        nodes = [self._node] if root == Path("/") else [self._node, system]
        node, trusted = candidates(nodes, distribution)
        trusted = (*trusted, *by_name(self._node, kernel_sources))
        # The setting comes before what the node's apt is told.
        proxies = () if proxy else node.proxies
        config = write_config(folder, node.root, arch, trusted, proxies, ca_bundle)
        # In the environment, not in a file or on a command line: it may hold a password.
        environment = {"http_proxy": proxy, "https_proxy": proxy} if proxy else {}
        self._tool = AptTool(config, environment)
        self._archives = Archives(folder, self._tool, distribution, trusted)

    def names(self, prefix: str) -> tuple[str, ...]:
        """The names of all known packages that begin with ``prefix``."""
        return tuple(self._tool.query("apt-cache", "pkgnames", prefix).split())

    def ending(self, suffix: str) -> tuple[str, ...]:
        """The names of all known packages that end with ``suffix``."""
        return tuple(name for name in self.names("") if name.endswith(suffix))

    def elsewhere(self, suffix: str) -> tuple[tuple[str, str], ...]:
        """The packages whose names end with ``suffix`` in the lists of the node's own apt, each
        with the file of the source, which is none that is used here."""
        used = {(one.source.uri, one.source.suite) for one in self._archives.used}
        found = []
        with contextlib.suppress(ToolchainError):
            for name, source in self._node.offers(suffix):
                outside = self._node.outside(source)
                if (outside.uri, outside.suite) not in used:
                    found.append((name, self._node.name_of(source)))
        return tuple(found)

    def versions(self, names: Iterable[str]) -> dict[str, tuple[AptPackage, ...]]:
        """Each of ``names`` with its versions in the lists at hand, best first."""
        words = tuple(names)
        if not words:
            return {}
        # Status 100: apt-cache does not know one name; it shows the others all the same.
        text = self._tool.query("apt-cache", "show", *words, ok=(0, 100))
        found: dict[str, tuple[AptPackage, ...]] = {}
        for fields in stanzas(text):
            package = AptPackage(
                fields.get("package", ""),
                fields.get("version", ""),
                fields.get("sha256", ""),
                int(fields.get("size", "0")),
                fields.get("depends", ""),
            )
            if package not in found.get(package.name, ()):
                found[package.name] = (*found.get(package.name, ()), package)
        return found

    def update(self) -> None:
        """Brings the lists up to date; a failure is a warning, and the cause in ``missing``."""
        self._reporter.phase("provision", "reading the distribution's package lists")
        unsure = self._archives.unsure()
        asked = self._update(*_RELEASES_ONLY, *sources_in(unsure)) if unsure else []
        self._archives.choose()
        if not self._archives.used:
            self._problem = failure(asked)
            check_full(self._problem)
            return
        self._problem = failure(self._update())
        check_full(self._problem)
        self._archives.choose()
        for source, date in self._archives.outdated():
            self._reporter.warn(
                f"{source} was valid until {date:%Y-%m-%d}; it is taken all the same, because "
                "apt is told check-valid-until=no"
            )
        if self._problem:
            self._reporter.warn(f"package lists are not complete: {self._problem}")

    def _update(self, *arguments: str) -> list[str]:
        """What ``apt-get update`` says."""
        lines: list[str] = []
        try:
            self._tool.run(
                *("apt-get", "update", "-qq", *arguments),
                timeout=_UPDATE_SECONDS,
                on_line=lines.append,
                ok=(0, 100),
            )
        except CommandError:
            lines.append("E: apt-get update ran out of time")
        return lines

    def missing(self, what: str, hint: str) -> ToolchainError:
        """The error for ``what`` the archive lacks; it names a failed update as the cause."""
        if self._problem:
            return ToolchainError(f"{what}: {self._problem}", remedy(self._problem))
        if not self._archives.used:
            return self._archives.none()
        return ToolchainError(what, hint)

    def closure(self, names: Sequence[str]) -> dict[str, str]:
        """``names`` and all the packages they need, each with its version."""
        text = self._tool.query("apt-get", "install", "--print-uris", "-qq", "-y", "--", *names)
        return {name: unquote(version) for name, version in _URI.findall(text)}

    def obtain(
        self, choose: Callable[[], Mapping[str, str] | None], into: Path
    ) -> tuple[AptArchive, ...] | None:
        """Downloads what ``choose`` finds in the lists; None if it finds nothing.

        The lists are updated only when needed: ``choose`` finds nothing in those at hand, or
        the archive no longer has what they name.
        """
        wanted = choose()
        if wanted is not None:
            try:
                return self.download(wanted, into)
            except StaleListsError as error:
                self._reporter.phase("provision", f"{error.message}; the lists may be old")
                for left in into.iterdir():
                    atomic.remove_tree(left)
        self.update()
        wanted = choose()
        return None if wanted is None else self.download(wanted, into)

    def download(self, wanted: Mapping[str, str], into: Path) -> tuple[AptArchive, ...]:
        """Fetches ``wanted`` (names with versions) into the empty folder ``into``.

        Raises ToolchainError where that fails, IntegrityError for bytes that are not what the
        signed lists say, OSError on a full disk.
        """
        words = [f"{name}={version}" for name, version in wanted.items()]
        known = self.versions(words)
        packages = [
            package
            for name, version in wanted.items()
            for package in known.get(name, ())
            if package.version == version
        ]
        total = sum(package.size for package in packages)
        what = packages[0].name if len(packages) == 1 else f"{len(packages)} packages"
        self._reporter.phase("provision", f"downloading {what}, {total / 1e6:.1f} MB")
        with _writable_for_apt(into):
            self._fetch(words, into, total)
        paths = {_name_and_version(path): path for path in into.glob("*.deb")}
        archives = []
        for package in packages:
            path = paths.get((package.name, package.version))
            if path is None:
                raise ToolchainError(
                    f"apt did not deliver {package.name} {package.version}", "try again"
                )
            if not package.sha256 or hash_file(path) != package.sha256:
                raise IntegrityError(
                    f"{path.name} is not what the distribution's signed lists say",
                    "try again; if it stays so, the mirror in the apt sources is broken",
                )
            archives.append(AptArchive(package, path))
        return tuple(archives)

    def _fetch(self, words: Sequence[str], into: Path, total: int) -> None:
        lines: list[str] = []

        def on_line(line: str) -> None:
            match = _STATUS.match(line)
            if match:
                done = int(float(match[1]) / 100 * total)
                self._reporter.progress("provision", done, total, "B")
            else:
                lines.append(line)

        try:
            self._tool.run(
                *("apt-get", "download", "-qq", "-o", "APT::Status-Fd=1", "--", *words),
                timeout=_DOWNLOAD_SECONDS,
                on_line=on_line,
                cwd=into,
            )
        except CommandError as error:
            cause = next((line[3:] for line in lines if line.startswith("E: ")), error.message)
            check_full(cause)
            kind = StaleListsError if _STALE.search(cause) else ToolchainError
            raise kind(f"packages cannot be downloaded: {cause}", remedy(cause)) from error


@contextlib.contextmanager
def _writable_for_apt(folder: Path) -> Iterator[None]:
    """Lets apt's unprivileged downloader write to ``folder`` until the block ends."""
    with contextlib.suppress(LookupError, PermissionError):
        shutil.chown(folder, "_apt")
    folder.chmod(0o755)
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.chown(folder, os.geteuid(), -1)


def _name_and_version(path: Path) -> tuple[str, str]:
    name, version, _ = path.name.split("_", 2)
    return name, unquote(version)
