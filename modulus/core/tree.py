"""What a folder of ours holds, as data: every file with its hash, every symlink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modulus.core.dataclass import dataclass

EXECUTABLE, PLAIN, FOLDER = 0o755, 0o644, 0o755


_ODD_PARTS = frozenset(("", ".", ".."))


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
        """Both trees in one; they are made so that no path is in both."""
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


def parse_tree(value: Mapping[str, Any]) -> Tree:
    """The tree of ``tree_value``; ValueError for anything else or a path that leaves it."""
    try:
        files = tuple(
            FileRecord(
                str(file["path"]),
                str(file["sha256"]),
                int(file["size"]),
                int(file["mode"], 8),
            )
            for file in value["files"]
        )
        links = tuple(Link(str(link["path"]), str(link["target"])) for link in value["links"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a record of files: {error!r}") from None
    for path in (entry.path for entry in files + links):
        if not is_inside(path):
            raise ValueError(f"{path!r} is outside the folder")
    return Tree(files, links)


def is_inside(path: str) -> bool:
    """Whether ``path`` is a plain relative path: no empty, ``.`` or ``..`` part."""
    return "\0" not in path and _ODD_PARTS.isdisjoint(path.split("/"))
