"""The inputs of a failed ``up``: if they change, another try is worth it at once."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from modulus.host.config.load import LOCAL, VENDOR
from modulus.host.files.place import below
from modulus.host.files.regular import read_bytes
from modulus.host.kernel.probe import installed_kernels


def inputs_digest(root: Path, config: Path | None) -> str:
    """A sha256 over settings, profiles and the names of the installed kernels.

    ``config`` stands in place of the settings under ``/etc``, as in ``load_settings``.
    """
    kernels = "\0".join((settings_digest(root, config), *installed_kernels(root)))
    return hashlib.sha256(kernels.encode("utf-8", "surrogateescape")).hexdigest()


def settings_digest(root: Path, config: Path | None) -> str:
    """A sha256 over settings and profiles alone."""
    digest = hashlib.sha256()
    for path in _files(root, config):
        digest.update(f"{path}\0".encode("utf-8", "surrogateescape"))
        # A file that cannot be read may be readable the next time, which is a change too.
        with contextlib.suppress(OSError):
            digest.update(hashlib.sha256(read_bytes(path)).digest())
    return digest.hexdigest()


def _files(root: Path, config: Path | None) -> Iterator[Path]:
    if config is not None:
        yield config
    for base in (VENDOR, LOCAL):
        folder = below(root, base)
        yield folder / "modulus.yaml"
        for name in ("modulus.d", "profiles"):
            yield from sorted(path for path in (folder / name).rglob("*") if path.is_file())
