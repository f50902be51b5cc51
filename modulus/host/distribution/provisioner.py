"""Kernel headers, toolchains and source packages: recorded ones at once, others provided.

Providing takes one lock for the whole cache, so that concurrent calls do the work once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from modulus.core.distribution.deb822 import upstream_version
from modulus.core.distribution.families import Distribution
from modulus.core.kernel.release import Compiler
from modulus.core.record import forms
from modulus.core.record.forms import Fields
from modulus.errors import FetchError, ToolchainError
from modulus.host.distribution.apt.packages import Apt
from modulus.host.distribution.entries import Entries, explained
from modulus.host.distribution.headers import HeaderProvider, Headers
from modulus.host.distribution.toolchain import Toolchain, ToolchainProvider
from modulus.host.files import atomic
from modulus.host.files.digest import hash_file
from modulus.host.files.lock import locked
from modulus.host.files.place import make_dirs
from modulus.host.files.record import read_record
from modulus.host.report.reporter import Reporter

Made = TypeVar("Made", Headers, Toolchain)
"""What is provided."""


@dataclass(frozen=True)
class SourcePackage:
    """A downloaded package: its file, the file's sha256, and the package's full version."""

    path: Path
    sha256: str
    version: str


class Provisioner:
    """What builds need from the node's distribution, kept below ``cache``.

    ``root`` is the node's root, ``distribution`` is None where its packages are not known, and
    ``stores`` are read-only folders laid out like ``cache``. Nothing is downloaded ``offline``.
    ``lock_timeout`` is how many seconds to wait for another process that provides;
    ``kernel_sources`` are files of the node's apt sources that are trusted for headers too.
    """

    def __init__(
        self,
        cache: Path,
        root: Path,
        distribution: Distribution | None,
        stores: Sequence[Path],
        *,
        proxy: str | None = None,
        ca_bundle: Path | None = None,
        offline: bool = False,
        lock_timeout: float | None = None,
        kernel_sources: Sequence[str] = (),
    ) -> None:
        self._cache = cache
        self._root = root
        self._distribution = distribution
        self._proxy = proxy
        self._ca_bundle = ca_bundle
        self._offline = offline
        self._lock_timeout = lock_timeout
        self._kernel_sources = kernel_sources
        self._headers = HeaderProvider(
            cache,
            root,
            distribution,
            stores,
            lambda release, reporter: self._apt(
                f"the headers of {release}", reporter, self._kernel_sources
            ),
        )
        self._toolchains = ToolchainProvider(
            cache, distribution, stores, lambda reporter: self._apt("the toolchain", reporter)
        )

    def headers_recorded(self, release: str) -> Headers | None:
        """The header tree of kernel ``release`` if it is at hand, in some milliseconds."""
        return self._headers.recorded(release)

    def headers(self, release: str, reporter: Reporter) -> Headers:
        """The header tree of kernel ``release``, all of it hashed; ToolchainError if it cannot
        be had."""
        return self._provided(
            f"the headers of {release}",
            self._headers.entries,
            lambda: self._headers.recorded(release),
            lambda: self._headers.provide(release, reporter),
            reporter,
        )

    def toolchain_recorded(self, compiler: Compiler) -> Toolchain | None:
        """The toolchain with ``compiler`` if it is at hand."""
        return self._toolchains.recorded(compiler)

    def toolchain(self, compiler: Compiler, reporter: Reporter) -> Toolchain:
        """The toolchain with ``compiler``, all of it hashed; ToolchainError if it cannot be
        had."""
        return self._provided(
            f"the toolchain of {compiler.command}",
            self._toolchains.entries,
            lambda: self._toolchains.recorded(compiler),
            lambda: self._toolchains.provide(compiler, reporter),
            reporter,
        )

    def _provided(
        self,
        what: str,
        entries: Entries,
        recorded: Callable[[], Made | None],
        provide: Callable[[], Made],
        reporter: Reporter,
    ) -> Made:
        """The recorded entry if it is sound, else a provided one; bad ones are set aside."""
        found = recorded()
        if found and entries.damage(found.folder) is None:
            return found
        with self._providing(what, reporter):
            while found := recorded():
                problem = entries.damage(found.folder)
                if problem is None:
                    return found
                reporter.warn(f"{found.folder} ({what}) is bad and not used: {problem}")
                entries.discard(found.folder)
            return provide()

    def source_package(self, package: str, version: str, reporter: Reporter) -> SourcePackage:
        """The package of the upstream version ``version``, kept in ``downloads/SHA256``.

        Raises FetchError if the distribution does not have it or it cannot be downloaded.
        """
        try:
            with self._providing(f"the package {package}", reporter):
                return self._source_package(package, version, reporter)
        except ToolchainError as error:
            raise FetchError(error.message, error.hint) from error

    def _source_package(self, package: str, version: str, reporter: Reporter) -> SourcePackage:
        record = self._cache / "downloads" / f".{package}_{version}.json"
        found = self._downloaded(record)
        if found:
            return found
        apt = self._apt(f"the package {package}", reporter)

        def choose() -> dict[str, str] | None:
            for known in apt.versions([package]).get(package, ()):
                if version in (known.version, upstream_version(known.version)):
                    return {package: known.version}
            return None

        with atomic.scratch(self._cache / "downloads", "new") as folder:
            folder.chmod(0o755)
            archives = apt.obtain(choose, folder)
            if archives is None:
                others = [known.version for known in apt.versions([package]).get(package, ())]
                raise apt.missing(
                    f"{self._distribution} has no {package} of version {version}",
                    f"it has {', '.join(others)}" if others else "check the package's name",
                )
            got = archives[0].package
            target = self._cache / "downloads" / got.sha256
            archives[0].path.replace(target)
            atomic.write_json(record, {"sha256": got.sha256, "version": got.version})
        return SourcePackage(target, got.sha256, got.version)

    def _downloaded(self, record: Path) -> SourcePackage | None:
        known = read_record(record, _parse_package)
        if known is None:
            return None
        sha256, version = known
        path = record.parent / sha256
        if not path.is_file() or hash_file(path) != sha256:
            return None
        return SourcePackage(path, sha256, version)

    def _apt(self, what: str, reporter: Reporter, kernel_sources: Sequence[str] = ()) -> Apt:
        if self._distribution is None:
            raise ToolchainError(
                f"{what} cannot be had: this system's packages are not known to Modulus",
                "those of Debian and Ubuntu are; elsewhere name a folder that has it in stores",
            )
        if self._offline:
            raise ToolchainError(
                f"{what} would have to be downloaded, and offline is set",
                "provide it once with offline: false, or name a folder that has it in stores",
            )
        name = str(self._distribution).replace("/", "-")
        return Apt(
            # What is trusted for headers alone does not get into the lists for the rest.
            self._cache / "apt" / (f"{name}-kernels" if kernel_sources else name),
            self._root,
            self._distribution,
            reporter,
            proxy=self._proxy,
            ca_bundle=self._ca_bundle,
            kernel_sources=kernel_sources,
        )

    @contextlib.contextmanager
    def _providing(self, what: str, reporter: Reporter) -> Iterator[None]:
        with providing(self._cache, what, reporter, self._lock_timeout):
            for kind in ("headers", "toolchains", "downloads"):
                atomic.sweep(self._cache / kind, "new")
            yield


@contextlib.contextmanager
def providing(
    cache: Path, what: str, reporter: Reporter, lock_timeout: float | None
) -> Iterator[None]:
    """Keeps others from providing or removing headers, toolchains and packages."""
    with explained(cache):
        # Unlike the folder of other locks, the cache lasts.
        make_dirs(cache)
        with locked(cache / ".provision.lock", what, reporter, lock_timeout):
            yield


def _parse_package(value: object) -> tuple[str, str]:
    of = Fields(value, "the record of a package")
    return of("sha256", forms.sha256), of("version", forms.word)
