"""The one normal form of kernel header trees.

It has ``build`` (modules are built against it), ``source`` (the sources of a split tree, else
a link to ``build``) and, beside them, whatever these two link to. No link leaves the tree and
no file names its old place, so it works wherever it is mounted. Files that take no part in
building a module are left out. Equal trees have equal digests, whatever their origin.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

from modulus.errors import ToolchainError
from modulus.host.distribution.header_tree import HeaderTree
from modulus.host.files.paths import inside, resolve
from modulus.host.files.regular import read_bytes
from modulus.host.files.tree_digest import listing_digest

_PACKAGED = re.compile(r"(/usr/src|(?:/usr)?/lib)/(linux-[^/]+)(?=/|$)")
_REWRITTEN = ("Makefile", ".kernelvariables")
# A path as a word of its own, not the tail of $(srctree)/… or of a longer word.
_PATH = re.compile(r"(?<![^\s=:\"'(])(?:/|\.\./)[\w.+~/-]+")
_HERE = "$(dir $(realpath $(lastword $(MAKEFILE_LIST))))"


def normalise(tree: HeaderTree, into: Path, *, move: bool = False) -> str:
    """Writes ``tree`` in its normal form to the new folder ``into``; returns its digest.

    The digest covers every path, type, executable bit, content and link target. ``move`` moves
    the files instead of copying them. Raises ToolchainError if a link leads out of the tree.
    """
    return _Import(tree, into, move).run()


class _Import:
    """One tree on its way into the normal form."""

    def __init__(self, tree: HeaderTree, into: Path, move: bool) -> None:
        self._tree = tree
        self._into = into
        self._move = move
        self._parts: dict[Path, str] = {tree.build: "build"}
        self._parts.setdefault(tree.source, "source")
        self._listing: dict[str, tuple[str, str]] = {}
        self._made: set[Path] = set()
        self._files: list[tuple[os.DirEntry[str], Path]] = []
        self._links: list[tuple[Path, Path]] = []

    def run(self) -> str:
        # Links add parts, so look at everything before the first file is moved.
        done = 0
        while done < len(self._parts):
            part, name = list(self._parts.items())[done]
            links = len(self._links)
            self._walk(part, self._into / name)
            for path, _ in self._links[links:]:
                self._target(path)
            done += 1
        for path, new in self._links:
            target = self._target(path)
            if target is not None:
                self._make_link(new, os.path.relpath(self._into / target, new.parent))
        for entry, new in self._files:
            self._file(entry, new)
        if self._tree.source == self._tree.build:
            self._make_link(self._into / "source", "build")
        self._drop_dangling()
        return listing_digest(self._listing)

    def _walk(self, folder: Path, new: Path) -> None:
        for entry in os.scandir(folder):
            path, target = Path(entry.path), new / entry.name
            if entry.is_symlink():
                self._links.append((path, target))
            elif entry.is_dir():
                if entry.name != ".git" and path not in self._parts:
                    self._walk(path, target)
            elif entry.is_file() and not _left_out(entry.name, target.relative_to(self._into)):
                self._files.append((entry, target))

    def _file(self, entry: os.DirEntry[str], new: Path) -> None:
        path, state = Path(entry.path), entry.stat()
        old = data = read_bytes(path)
        if new.parent not in self._made:
            new.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(new.parent)
        if path.parent in self._parts and path.name in _REWRITTEN:
            data = self._rewritten(data, path.parent)
        if self._move and data is old:
            path.rename(new)
        else:
            new.write_bytes(data)
            # Compiler caches distrust headers that are newer than the compile.
            os.utime(new, ns=(state.st_atime_ns, state.st_mtime_ns))
        executable = bool(state.st_mode & stat.S_IXUSR)
        new.chmod(0o755 if executable else 0o644)
        name = new.relative_to(self._into).as_posix()
        self._listing[name] = ("x" if executable else "f", hashlib.sha256(data).hexdigest())

    def _rewritten(self, data: bytes, folder: Path) -> bytes:
        """``data``, with the old paths of the tree's parts replaced by the new ones."""

        def moved(match: re.Match[str]) -> str:
            word = match[0]
            base = "" if word.startswith("/") else inside(self._tree.root, folder) + "/"
            place = self._place(resolve(self._tree.root, base + word))
            if place is None or (base and place.parts[0] == self._parts[folder]):
                return word
            return f"{_HERE}../{place.as_posix()}"

        try:
            text = data.decode()
        except UnicodeDecodeError:
            return data
        new = _PATH.sub(moved, text)
        return data if new == text else new.encode()

    def _target(self, path: Path) -> Path | None:
        """Where the link ``path`` leads in the normal form; None if it leads to nothing."""
        root = self._tree.root
        text = os.readlink(path)
        folder = "" if text.startswith("/") else inside(root, path.parent) + "/"
        final = resolve(root, f"{folder}{text}")
        if not final.exists():
            return None
        # Only the folders on the way are followed: a link to a link stays one.
        head, _, last = f"{folder}{text}".rstrip("/").rpartition("/")
        first = final if last in ("", ".", "..") else resolve(root, head) / last
        return self._place(first) or self._place(final) or self._new_part(final, path)

    def _new_part(self, final: Path, link: Path) -> Path:
        root = self._tree.root
        match = _PACKAGED.match(inside(root, final))
        if not match:
            raise ToolchainError(
                f"the header tree's {inside(root, link)} leads out of it, to "
                f"{inside(root, final)}",
                "install the kernel's headers from the distribution's package",
            )
        name = "kbuild" if match[2].startswith("linux-kbuild-") else "common"
        taken = set(self._parts.values())
        number = next(n for n in range(1, 100) if f"{name}{n if n > 1 else ''}" not in taken)
        part = root / match[0].lstrip("/")
        self._parts[part] = f"{name}{number if number > 1 else ''}"
        return Path(self._parts[part], final.relative_to(part))

    def _place(self, path: Path) -> Path | None:
        """Where the resolved ``path`` is in the normal form; None if it is outside the tree."""
        for folder in (path, *path.parents):
            if folder in self._parts:
                return Path(self._parts[folder], path.relative_to(folder))
        return None

    def _make_link(self, new: Path, text: str) -> None:
        new.parent.mkdir(parents=True, exist_ok=True)
        new.symlink_to(text)
        self._listing[new.relative_to(self._into).as_posix()] = ("l", text)

    def _drop_dangling(self) -> None:
        """Removes links to files that were left out, and folders that this empties."""
        while True:
            dangling = [
                name
                for name, (kind, _) in self._listing.items()
                if kind == "l" and not (self._into / name).exists()
            ]
            for name in dangling:
                (self._into / name).unlink()
                del self._listing[name]
                for folder in (self._into / name).parents:
                    if any(folder.iterdir()):
                        break
                    folder.rmdir()
            if not dangling:
                return


def _left_out(name: str, path: Path) -> bool:
    """Whether a file takes no part in building other modules: objects, the kernel itself, and
    all sources but those of the build's own tools."""
    if name.startswith("vmlinux"):
        return not name.endswith(".h")
    if name.endswith((".o", ".ko", ".a")):
        return True
    return name.endswith(".c") and not {"scripts", "tools"} & set(path.parts)
