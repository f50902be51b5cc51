"""A node on which Modulus is killed: kept as it was, put back, looked at for half states."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modulus.core.generation.generation import MANIFEST, parse_generation
from modulus.core.instance import parse_instance
from modulus.core.tree import parse_tree
from modulus.host.files.digest import hash_file
from modulus.host.files.record import load_record
from modulus.host.files.tree import damage
from modulus.host.store.store import Store
from tests.support.fakedriver import RELEASE, FakeNode
from tests.support.fakepackage import MODULES
from tests.support.killpoints import Killer

PACKAGE = Path(__file__).parents[2]

_SOURCE = """\
/* As much of a module as its loader and Modulus look at. */
#define INFO(text) asm(".pushsection .modinfo, \\"a\\"; .asciz \\"" text "\\"; .popsection")
INFO("license=GPL");
INFO("vermagic=@RELEASE@ SMP mod_unload ");
INFO("version=@VERSION@");
INFO("srcversion=S@VERSION@-@NAME@");
INFO("depends=@DEPENDS@");
INFO("name=@KERNEL@");
"""
_TRACES = re.compile(r"run/modulus/(locks/|builds(/|$)|[^/]+\.json$)")
"""What tells that a command ran, and is of no consequence."""
_MAKEFILE = f"""\
modules: {" ".join(f"{name}.ko" for name in MODULES)}
%.ko: %.c
\tgcc -c -o $@ $<
"""


@dataclass(frozen=True)
class Seen:
    """What tells one state of a node from another."""

    paths: frozenset[str]
    active: str | None
    selected: str | None
    loaded: tuple[tuple[str, str], ...]
    nodes: tuple[tuple[str, tuple[int, int]], ...]
    firmware: str
    linker: bool


class KillNode:
    """A fake node below ``folder`` that can be put back as it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.node = FakeNode(folder)
        self._kept = folder / "kept"

    def keep(self) -> None:
        """Has ``restore`` put the node back as it is now."""
        _copy(self.node.root, self._kept)

    def restore(self) -> None:
        """Puts the node back as it was kept."""
        _copy(self._kept, self.node.root)

    def killer(self, words: Sequence[str]) -> Killer:
        """What runs and kills ``modulus WORDS`` on the node."""
        env = {
            "PATH": self.node.path,
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(PACKAGE),
            # Neither is what a point's number may depend on.
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
        }
        argv = (sys.executable, "-m", "modulus", *words, "--root", str(self.node.root))
        return Killer(argv, env, self.folder)

    def hidden(self) -> list[str]:
        """Scratch folders and temporary files, of which a finished run leaves none."""
        ours = (self.node.home.name, ".config", ".lock")
        paths = (Path(path) for path in self.node.everything())
        return [str(path) for path in paths if path.name[0] == "." and path.name not in ours]

    def seen(self) -> Seen:
        """What there is, without what differs between two runs that do the same."""
        node = self.node
        cache = node.root / "etc/ld.so.cache"
        selected = node.root / f"var/lib/modulus/{node.home.name[1:]}/selected"
        return Seen(
            paths=frozenset(path for path in node.everything() if not _TRACES.match(path)),
            active=os.readlink(node.link) if node.link.is_symlink() else None,
            selected=selected.read_text() if selected.exists() else None,
            loaded=tuple(node.loaded().items()),
            nodes=tuple(node.nodes().items()),
            firmware=node.firmware_path(),
            linker=cache.exists() and b"libgpu" in cache.read_bytes(),
        )

    def half_made(self) -> list[str]:
        """What there is under its own name and is not whole."""
        node = self.node
        checks: list[Callable[[], list[str]]] = [
            self._link,
            lambda: _each(node.home.glob("[!.]*"), _generation),
            lambda: _each((node.cache / "downloads").glob("[!.]*"), _download),
            lambda: _each((node.cache / "userspace").glob("[!.]*"), _userspace),
            self._builds,
            lambda: _each(_records(node.root), _record),
            lambda: _each(node.root.glob("var/lib/modulus/*/selected"), _selected),
            lambda: _each(node.root.glob("etc/*.d/modulus-*.conf"), _configuration),
        ]
        return [problem for check in checks for problem in check()]

    def _link(self) -> list[str]:
        link = self.node.link
        if not os.path.lexists(link):
            return []
        return [] if (link / MANIFEST).is_file() else [f"{link} leads to no generation"]

    def _builds(self) -> list[str]:
        store = Store(self.node.cache, ())
        return [f"{entry.path}: {why}" for entry in store.entries() if (why := entry.damage())]


def provide_sources(node: FakeNode, version: str = "1.0") -> None:
    """Makes the node's package of ``version`` one that the host's make and gcc build, and
    forgets its build."""
    (package,) = (node.cache / "downloads").iterdir()
    shutil.rmtree(node.cache / "builds")
    contents = {"kernel/Makefile": _MAKEFILE}
    for name in MODULES:
        values = {
            "@RELEASE@": RELEASE,
            "@VERSION@": version,
            "@NAME@": name,
            "@DEPENDS@": "" if name == "gpu" else "gpu",
            "@KERNEL@": name.replace("-", "_"),
        }
        text = _SOURCE
        for mark, value in values.items():
            text = text.replace(mark, value)
        contents[f"kernel/{name}.c"] = text
    with tarfile.open(package, "a") as tar:
        for path, text in contents.items():
            info = tarfile.TarInfo(path)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    sha256 = hash_file(package)
    package.rename(package.with_name(sha256))
    node.define(sha256={version: sha256})
    node.configure(build={"container": "none"})


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", source, target], check=True)


def _each(paths: Any, problem: Callable[[Path], str | None]) -> list[str]:
    return [f"{path}: {why}" for path in paths if (why := problem(path))]


def _generation(path: Path) -> str | None:
    try:
        return damage(path, load_record(path / MANIFEST, parse_generation).tree)
    except ValueError as error:
        return str(error)


def _userspace(path: Path) -> str | None:
    try:
        return damage(path / "tree", load_record(path / "record.json", parse_tree))
    except (ValueError, AttributeError) as error:
        return str(error)


def _download(path: Path) -> str | None:
    return (
        None if hashlib.sha256(path.read_bytes()).hexdigest() == path.name else "another hash"
    )


def _records(root: Path) -> list[Path]:
    folders = ("var/lib/modulus", "run/modulus", "var/cache/modulus/sources")
    found = (path for folder in folders for path in (root / folder).rglob("*.json"))
    return [path for path in found if not path.name.startswith(".")]


def _record(path: Path) -> str | None:
    try:
        json.loads(path.read_bytes())
    except ValueError as error:
        return str(error)
    return None


def _selected(path: Path) -> str | None:
    text = path.read_text()
    whole = text.endswith("\n") and parse_instance(text.strip(), "")
    return None if whole else f"{text!r} is no instance"


def _configuration(path: Path) -> str | None:
    """Generated files begin with a line that says so, and end with one."""
    text = path.read_text()
    return None if text.startswith("#") and text.endswith("\n") else f"{text!r}"
