"""A kernel's header tree: the node's own, else the distribution's packages.

Trees are kept by content in ``headers/ID/tree``, in the normal form of ``header_form``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modulus.core.distribution.families import Distribution
from modulus.core.kernel.release import KernelConfig
from modulus.core.record import forms
from modulus.core.record.forms import Form
from modulus.core.store.keys import digest
from modulus.errors import ToolchainError
from modulus.host.distribution import debs, header_form, header_tree
from modulus.host.distribution.apt.packages import Apt
from modulus.host.distribution.dpkg_status import installed_versions
from modulus.host.distribution.entries import Entries
from modulus.host.distribution.header_packages import HeaderChoice, missing
from modulus.host.files import atomic
from modulus.host.files.digest import hash_file
from modulus.host.files.paths import inside
from modulus.host.files.regular import read_text
from modulus.host.report.reporter import Reporter

_FIELDS: Mapping[str, Form[object]] = {
    "release": forms.release,
    "origin": forms.one_of("node", "packages"),
    "symvers_sha256": forms.sha256,
}


def header_entries(cache: Path, stores: Sequence[Path]) -> Entries:
    """The entries of header trees."""
    return Entries("headers", "tree", cache, stores, "build/Module.symvers", _FIELDS)


@dataclass(frozen=True)
class Headers:
    """A header tree at ``path``, with the digest ``id``; ``origin`` is node or packages."""

    id: str
    path: Path
    release: str
    origin: str
    symvers_sha256: str

    @property
    def folder(self) -> Path:
        """The folder of the tree's entry."""
        return self.path.parent

    @property
    def config(self) -> KernelConfig:
        """The kernel's configuration; ToolchainError where it cannot be read."""
        path = self.path / "build/.config"
        try:
            return KernelConfig.parse(read_text(path))
        except OSError as error:
            raise ToolchainError(
                f"{path} cannot be read: {error.strerror}",
                f"remove {self.path.parent}, so that the headers are taken anew",
            ) from error


class HeaderProvider:
    """Finds recorded header trees, and provides the others.

    ``open_apt`` gives the distribution's archive for a release, or raises ToolchainError.
    """

    def __init__(
        self,
        cache: Path,
        root: Path,
        distribution: Distribution | None,
        stores: Sequence[Path],
        open_apt: Callable[[str, Reporter], Apt],
    ) -> None:
        self.entries = header_entries(cache, stores)
        self._root = root
        self._distribution = distribution
        self._open_apt = open_apt
        self._refused: set[str] = set()

    def recorded(self, release: str) -> Headers | None:
        """The tree for ``release`` if it is at hand; nothing is hashed and no process run."""
        tree = header_tree.find(self._root, release)
        if tree:
            name = self._node_name(tree, release)
            found = self._find(name)
            if found:
                return found
            if header_tree.objection(tree, release) is None and name not in self._refused:
                return None
        return self._find_packaged(release)

    def provide(self, release: str, reporter: Reporter) -> Headers:
        """The tree for ``release``, from the node or downloaded. The caller holds a lock."""
        tree = header_tree.find(self._root, release)
        reason = "there is none below /lib/modules"
        if tree:
            found = self._find(self._node_name(tree, release))
            if found:
                return found
            objection = header_tree.objection(tree, release)
            if objection is None:
                try:
                    return self._import(tree, release, reporter)
                except ToolchainError as error:
                    self._refused.add(self._node_name(tree, release))
                    objection = error.message
            reason = f"{inside(self._root, tree.build)} is no use: {objection}"
            reporter.phase("provision", reason)
        return self._find_packaged(release) or self._download(release, reason, reporter)

    def _import(
        self, tree: header_tree.HeaderTree, release: str, reporter: Reporter
    ) -> Headers:
        reporter.phase("provision", f"taking the headers in {tree.build}")
        name = self._node_name(tree, release)
        with atomic.scratch(self.entries.folder, "new") as folder:
            identity = header_form.normalise(tree, folder / "tree")
            if self._node_name(tree, release) != name:
                raise ToolchainError(
                    f"{tree.build} changed while it was read", "try again when that is done"
                )
            names = [name, *self._packaged_names(tree, release)]
            return self._commit(folder, identity, release, "node", names, {})

    def _download(self, release: str, reason: str, reporter: Reporter) -> Headers:
        if self._distribution is None:
            raise ToolchainError(
                f"no headers of kernel {release}: {reason}",
                f"install them, so that /lib/modules/{release}/build has them",
            )
        apt = self._open_apt(release, reporter)
        choice = HeaderChoice(apt, self._distribution, release, self._image_version(release))
        with atomic.scratch(self.entries.folder, "new") as folder:
            folder.chmod(0o755)
            archives_folder, root = folder / "archives", folder / "root"
            archives_folder.mkdir()
            archives = apt.obtain(choice, archives_folder)
            if archives is None:
                raise missing(apt, self._distribution, release, reason)
            if choice.other_version:
                reporter.warn(
                    f"the headers of {release} are of {choice.other_version}, the installed "
                    f"kernel is of {choice.image}"
                )
            debs.unpack(archives, root, reporter)
            tree = header_tree.find(root, release)
            objection = header_tree.objection(tree, release) if tree else "nothing in it"
            if tree is None or objection:
                raise ToolchainError(
                    f"the package {archives[0].package.name} is no use: {objection}",
                    "install another kernel release",
                )
            new = folder / "entry"
            new.mkdir()
            identity = header_form.normalise(tree, new / "tree", move=True)
            # Record the headers' own version too: by it nodes find them in a store that was
            # filled where this kernel is not installed.
            versions = (choice.image, archives[0].package.version)
            names = list(dict.fromkeys(self._named(release, version) for version in versions))
            packages = debs.recorded(archives)
            return self._commit(new, identity, release, "packages", names, packages)

    def _commit(
        self,
        folder: Path,
        identity: str,
        release: str,
        origin: str,
        names: Sequence[str],
        packages: Mapping[str, Any],
    ) -> Headers:
        path = self.entries.commit(
            folder,
            {
                "id": identity,
                "release": release,
                "origin": origin,
                "found_by": list(names),
                "packages": packages,
                "symvers_sha256": hash_file(folder / "tree/build/Module.symvers"),
                "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            },
        )
        found = self._find(names[0])
        if found is None:
            raise ToolchainError(
                f"{path} vanished as soon as it was there", "run one modulus cache gc at a time"
            )
        return found

    def _find(self, name: str) -> Headers | None:
        # Older records have the same digests, and one figure more in their names.
        kind, _, rest = name.partition("/")
        return _headers(self.entries.find(name, f"{kind}/1/{rest}"))

    def _find_packaged(self, release: str) -> Headers | None:
        """The tree of packages: of the version that the kernel is of, or of any where it is of
        none, such as while dpkg unpacks it; by whichever release of the distribution they were
        provided."""
        image = self._image_version(release)
        found = self._find(self._named(release, image))
        if found or self._distribution is None:
            return found
        version = re.escape(image) if image else "[^/]+"
        any_release = self._distribution.any_release.pattern
        name = rf"packages/(1/)?{any_release}/{re.escape(release)}/{version}"
        return _headers(self.entries.find(re.compile(name)))

    def _named(self, release: str, image: str | None) -> str:
        return f"packages/{self._distribution}/{release}/{image or 'none'}"

    def _packaged_names(self, tree: header_tree.HeaderTree, release: str) -> list[str]:
        """What ``tree`` is also found by where it is that of an installed package: nodes that
        have none of it look in their stores for the package's."""
        if self._distribution is None:
            return []
        package = self._distribution.headers_package(release)
        installed = installed_versions(self._root, [package]).get(package)
        its_own = inside(self._root, tree.build) == f"/usr/src/{package}"
        return [self._named(release, installed)] if installed and its_own else []

    def _node_name(self, tree: header_tree.HeaderTree, release: str) -> str:
        installed = {}
        if self._distribution:
            package = self._distribution.headers_package(release)
            installed = installed_versions(self._root, [package])
        return f"node/{digest([release, tree.fingerprint(), installed])}"

    def _image_version(self, release: str) -> str | None:
        if self._distribution is None:
            return None
        packages = self._distribution.image_packages(release)
        return next(iter(installed_versions(self._root, packages).values()), None)


def _headers(found: tuple[Path, Mapping[str, Any]] | None) -> Headers | None:
    """The headers of an entry and its record."""
    if found is None:
        return None
    path, record = found
    return Headers(
        path.name,
        path / "tree",
        str(record["release"]),
        str(record["origin"]),
        str(record["symvers_sha256"]),
    )
