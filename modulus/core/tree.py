"""The contents of a folder, as data: every file with its hash, every symlink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modulus.core.record import forms
from modulus.core.record.forms import Fields

EXECUTABLE, PLAIN, FOLDER = 0o755, 0o644, 0o755


@dataclass(frozen=True, order=True)
class FileRecord:
    """One regular file; ``path`` is relative to the folder, ``size`` in bytes."""

    path: str
    sha256: str
    size: int
    mode: int


@dataclass(frozen=True, order=True)
class Link:
    """One symlink; ``target`` is relative to the link's own folder."""

    path: str
    target: str


@dataclass(frozen=True)
class Tree:
    """The contents of a folder, sorted by path; empty folders do not count."""

    files: tuple[FileRecord, ...] = ()
    links: tuple[Link, ...] = ()

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.files)

    def merged(self, other: Tree) -> Tree:
        """Both trees in one; the caller ensures that no path is in both."""
        return Tree(
            tuple(sorted(self.files + other.files)), tuple(sorted(self.links + other.links))
        )


def tree_value(tree: Tree) -> dict[str, Any]:
    """``tree`` as JSON values, modes as octal text."""
    return {
        "files": [
            {
                "path": file.path,
                "sha256": file.sha256,
                "size": file.size,
                "mode": f"{file.mode:04o}",
            }
            for file in tree.files
        ],
        "links": [{"path": link.path, "target": link.target} for link in tree.links],
    }


def parse_tree(value: object) -> Tree:
    """The tree in a ``tree_value``; ValueError for anything else or a path out of the tree."""
    of = Fields(value, "a record of files")
    return Tree(of("files", forms.list_of(_file)), of("links", forms.list_of(_link)))


def _file(value: object) -> FileRecord:
    of = Fields(value, "a file")
    return FileRecord(
        of("path", forms.relative),
        of("sha256", forms.sha256),
        of("size", forms.count),
        int(of("mode", _MODE), 8),
    )


def _link(value: object) -> Link:
    of = Fields(value, "a link")
    return Link(of("path", forms.relative), of("target", forms.path))


_MODE = forms.pattern("0[0-7]{3}", "a mode of four octal digits")
