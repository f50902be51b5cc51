"""One digest of all that is in a folder.

It covers every file's path, content and executable bit, and every link's target. Empty
folders, owners, other modes and times make no difference to a build.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from modulus.core.store.keys import digest
from modulus.host.files.digest import hash_open
from modulus.host.files.regular import open_regular
from modulus.host.files.trust import others_may, others_may_only_add

Listing = Mapping[str, tuple[str, str]]
"""By path: "x" or "f" (executable or not) and a sha256, or "l" and the target of a link."""


def listing_digest(listing: Listing) -> str:
    """The digest of a folder with this ``listing``."""
    return digest([[name, *entry] for name, entry in sorted(listing.items())])


def tree_digest(folder: Path) -> str:
    """The digest of what is in ``folder``, all of which is read.

    Raises ValueError where it holds anything but files, folders and links, or what users may
    write who may not write ``folder`` itself: they could do so after this. Raises OSError
    where it cannot be read.
    """
    return listing_digest(dict(_listed(str(folder), "", os.lstat(folder))))


def _listed(
    folder: str, prefix: str, top: os.stat_result
) -> Iterator[tuple[str, tuple[str, str]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name, status = f"{prefix}{entry.name}", entry.stat(follow_symlinks=False)
            _check(name, status, top)
            if entry.is_symlink():
                yield name, ("l", os.readlink(entry.path))
            elif entry.is_dir(follow_symlinks=False):
                yield from _listed(entry.path, f"{name}/", top)
            elif not entry.is_file(follow_symlinks=False):
                raise ValueError(f"{name}: it is neither file, folder nor link")
            else:
                kind = "x" if status.st_mode & stat.S_IXUSR else "f"
                # Somebody may have just put a link or a pipe in its place.
                with open_regular(entry.path, follow=False) as file:
                    yield name, (kind, hash_open(file))


def _check(name: str, status: os.stat_result, top: os.stat_result) -> None:
    """Raises ValueError where users may write ``name`` who may not write ``top``."""
    problem = others_may(status)
    if problem and not others_may_only_add(status) and not _alike(status, top):
        raise ValueError(f"{name}: {problem}")


def _alike(status: os.stat_result, top: os.stat_result) -> bool:
    """Whether all its writers may also write ``top``: a store is trusted as a whole."""
    may_write = stat.S_IWGRP | stat.S_IWOTH
    same = (status.st_uid in (0, top.st_uid)) and (status.st_gid in (0, top.st_gid))
    return same and not status.st_mode & may_write & ~top.st_mode
