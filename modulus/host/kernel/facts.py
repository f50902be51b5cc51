"""Cheap facts that change with a kernel and with what its modules are built from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from modulus.core.store.keys import digest
from modulus.host.distribution import header_tree
from modulus.host.distribution.dpkg_status import unfinished
from modulus.host.files.paths import resolve
from modulus.host.files.place import below
from modulus.host.kernel.probe import installed_kernels, probe

MODULES = "/lib/modules"
BELL = "/run/modulus/kernels"
"""The folder in which the hooks of kernel packages touch a file."""

_BUILDS = "builds"


def kernel_facts(root: Path) -> dict[str, str]:
    """A digest for each installed release. It changes with the kernel's package, even one of
    the same release, and with the header tree on the node."""
    return {release: _facts(root, release) for release in installed_kernels(root)}


def being_installed(root: Path, releases: Iterable[str]) -> tuple[str, ...]:
    """The packages of the kernels ``releases`` and of their headers that dpkg has begun and is
    not done with: what a build would be told of them is not all there yet."""
    distribution = probe(root).distribution
    if distribution is None:
        return ()
    packages = [
        package
        for release in releases
        for package in (
            *distribution.image_packages(release),
            distribution.headers_package(release),
        )
    ]
    return unfinished(root, packages)


def kernel_folders(root: Path) -> Iterator[Path]:
    """The folders that change when a kernel or its headers come or go; some may be missing."""
    modules = below(root, MODULES)
    yield modules
    try:
        entries = [entry.name for entry in os.scandir(modules) if entry.is_dir()]
    except OSError:
        return
    for name in sorted(entries):
        yield modules / name
        if os.path.lexists(modules / name / "build"):
            yield resolve(root, f"{MODULES}/{name}/build")


def all_builds(cache: Path) -> frozenset[str]:
    """The builds in the ``cache``'s own store, as ``RELEASE/KEY``."""
    try:
        releases = os.listdir(cache / _BUILDS)
    except OSError:
        return frozenset()
    return frozenset(
        f"{release}/{key}" for release in releases for key in stored_builds(cache, release)
    )


def stored_builds(cache: Path, release: str) -> frozenset[str]:
    """The names of the builds for ``release`` in the ``cache``'s own store."""
    try:
        names = os.listdir(cache / _BUILDS / release)
    except OSError:
        return frozenset()
    # Scratch folders and logs of failures are no builds.
    return frozenset(name for name in names if "." not in name)


def _facts(root: Path, release: str) -> str:
    seen: list[object] = []
    try:
        state = (below(root, f"{MODULES}/{release}") / "modules.builtin").stat()
        seen += [state.st_mtime_ns, state.st_size, state.st_ino]
    except OSError:
        pass
    tree = header_tree.find(root, release)
    return digest([*seen, tree.fingerprint() if tree else None])
