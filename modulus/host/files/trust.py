"""Whether users other than root could change a folder that is trusted like root.

A read-only store says which modules a node loads. Each folder on the way to it is opened in
the one before, by descriptor, so that the checked folder is the one in use. Where root owns
all of them and nobody else may write them, nobody else can replace the store afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

_READ: Mapping[str, int] = {
    "builds": 3,
    "objects": 1,
    "downloads": 1,
    "sources": 1,
    "headers": 2,
    "toolchains": 2,
}
"""What of a store is read, and how deep. Trees of headers and toolchains are looked at when
they are hashed (``tree_digest``)."""

_MOST_LINKS = 40
_NO_LINK = os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | _NO_LINK
"""Unlike O_PATH and stat(2) this has an automount made, and so sees what will be read."""


def others_may(status: os.stat_result) -> str | None:
    """Who may write a file of this ``status``, other than root and this process' user; None
    for nobody."""
    if status.st_uid not in (0, os.geteuid()):
        return f"it belongs to user {status.st_uid}"
    if stat.S_ISLNK(status.st_mode):
        return None
    if status.st_mode & stat.S_IWOTH:
        return "anyone may write it"
    # The group's bits are also what an access list (acl(5)) allows at most.
    if status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.getegid()):
        return f"group {status.st_gid} may write it"
    return None


def others_may_only_add(status: os.stat_result) -> bool:
    """Whether this is a folder like /tmp: others cannot change root's files in it."""
    ours = status.st_uid in (0, os.geteuid())
    return ours and stat.S_ISDIR(status.st_mode) and bool(status.st_mode & stat.S_ISVTX)


def objection(root: Path, path: str, *, content: bool = True) -> str | None:
    """Why others could change what is in the store ``path``, seen from ``root``, or None.

    Without ``content`` only the folder itself and the way to it are looked at. Raises OSError
    where the store is missing or cannot be read.
    """
    with contextlib.ExitStack() as held:
        problems = _Walk(root, held).problems(path, _READ if content else {})
        return next(problems, None)


class _Walk:
    """A way through folders below ``root``, each held open by its descriptor."""

    def __init__(self, root: Path, held: contextlib.ExitStack) -> None:
        self._held = held
        self._way = [self._open(str(root), None, _FOLDER)]
        self._names: list[str] = []

    def problems(self, path: str, read: Mapping[str, int]) -> Iterator[str]:
        """Where others may change the store ``path``, of which ``read`` says what is looked
        at and how deep, or the way to it."""
        yield from self._here(os.fstat(self._way[0]))
        left = path.split("/")[::-1]
        links = 0
        while left:
            part = left.pop()
            if part == "..":
                del self._names[-1:]
                del self._way[len(self._names) + 1 :]
            elif part not in ("", "."):
                target = yield from self._enter(part)
                links += target is not None
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                left += (target or "").split("/")[::-1]
        if problem := others_may(os.fstat(self._way[-1])):
            yield f"{self._shown()}: {problem}"
        for name, depth in read.items():
            yield from self._below(self._way[-1], name, self._shown(), depth)

    def _enter(self, part: str) -> Generator[str, None, str | None]:
        """Goes on to ``part``; returns its target if it is a link."""
        folder = self._way[-1]
        self._names.append(part)
        handle = self._open(part, folder, os.O_PATH | _NO_LINK)
        status = os.fstat(handle)
        if not stat.S_ISLNK(status.st_mode):
            self._way.append(self._open(part, folder, _FOLDER))
            yield from self._here(os.fstat(self._way[-1]))
            return None
        yield from self._here(status)
        if others_may(os.fstat(folder)):
            # There, anyone may make a hard link to one of root's symlinks.
            yield f"{self._shown()}: it is a link in a folder that others may write"
        self._names.pop()
        target = os.readlink("", dir_fd=handle)
        if target.startswith("/"):
            del self._names[:], self._way[1:]
        return target

    def _here(self, status: os.stat_result) -> Iterator[str]:
        """What is wrong with a folder, or link, on the way."""
        problem = others_may(status)
        if problem and not others_may_only_add(status):
            yield f"{self._shown()}: {problem}"

    def _below(self, folder: int, name: str, shown: str, depth: int) -> Iterator[str]:
        """Where others may change ``name`` in ``folder``, or its content.

        Other processes write a store: a file that vanishes meanwhile counts as absent.
        """
        with contextlib.suppress(FileNotFoundError):
            yield from self._in(folder, name, f"{shown.rstrip('/')}/{name}", depth)

    def _in(self, folder: int, name: str, shown: str, depth: int) -> Iterator[str]:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            yield f"{shown}: it is a link"
        if not stat.S_ISDIR(status.st_mode) or not depth:
            if problem := others_may(status):
                yield f"{shown}: {problem}"
        else:
            handle = os.open(name, _FOLDER, dir_fd=folder)
            try:
                if problem := others_may(os.fstat(handle)):
                    yield f"{shown}: {problem}"
                # Hidden names are not read: somebody is still writing them.
                for each in sorted(os.listdir(handle)):
                    if not each.startswith("."):
                        yield from self._below(handle, each, shown, depth - 1)
            finally:
                os.close(handle)

    def _open(self, name: str, folder: int | None, flags: int) -> int:
        handle = os.open(name, flags, dir_fd=folder)
        self._held.callback(os.close, handle)
        return handle

    def _shown(self) -> str:
        return "/" + "/".join(self._names)
