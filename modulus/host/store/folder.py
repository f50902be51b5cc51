"""Where the cache is: in the place that ``cache_dir`` names, if that may hold it."""

from __future__ import annotations

from pathlib import Path

from modulus.errors import ConfigError
from modulus.host.files import sysfs
from modulus.host.files.place import below, check_inside
from modulus.host.files.trust import objection

_OURS = frozenset(
    (
        *("apt", "bad", "builds", "compiled", "downloads", "headers", "objects", "proofs"),
        *("sources", "toolchains", "userspace", "lost+found"),
    )
)
"""What may be in the cache; the last is a file system's own."""


def cache_folder(root: Path, path: str, *, usual: bool) -> Path:
    """Where the cache ``path``, absolute in ``root``, lies on this machine.

    ConfigError where it is not all in the root and, unless ``path`` is the ``usual`` place,
    where it holds what is not of a cache, or users other than root could change it.
    """
    cache = below(root, path)
    check_inside(root, cache)
    if not usual:
        _check(root, path, cache)
    return cache


def _check(root: Path, path: str, cache: Path) -> None:
    others = [
        name for name in sysfs.names(cache) if name not in _OURS and not name.startswith(".")
    ]
    if others:
        raise ConfigError(
            f"cache_dir: {path} holds what is not Modulus's, such as {sorted(others)[0]}",
            "name a folder of its own for it; it need not be there yet",
        )
    try:
        problem = objection(root, path, content=False)
    except (FileNotFoundError, NotADirectoryError):
        problem = None  # It is made by us, or whoever writes to it says why it cannot be.
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise ConfigError(
            f"cache_dir: {path} cannot be used, since who can change it has what the kernel "
            f"loads: {problem}",
            "have it and all folders on the way to it belong to root, for nobody else to write",
        )
