"""Builds that are proved: what the compiler would make, and the store they are in."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from modulus.core.build.recipe import Recipe
from modulus.core.instance import Instance
from modulus.core.store.manifest import TOGETHER
from modulus.host.build.module_check import Module
from modulus.host.report.reporter import Reporter
from modulus.host.store.store import Entry
from modulus.pipeline.build.compile import Basis
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site
from tests.support.fakedriver import FakeNode
from tests.support.fakepackage import MODULES, driver_module

INSTANCE = Instance("gpu", "1.0")
SOUND = {f"{name}.ko": driver_module(name, "1.0") for name in MODULES}
OTHER = SOUND | {"gpu.ko": SOUND["gpu.ko"] + b"other"}
WRONG = SOUND | {"gpu.ko": SOUND["gpu.ko"] + b"wrong"}


class Compiles:
    """In place of the compiler: what each compile in turn makes, and how it was asked for."""

    def __init__(self) -> None:
        self.makes: list[dict[str, bytes] | Exception] = []
        self.recipes: list[Recipe] = []
        self.object_name = ""

    def __call__(
        self,
        node: Node,
        reporter: Reporter,
        basis: Basis,
        recipe: Recipe,
        scratch: Path,
        *_: Any,
        **__: Any,
    ) -> tuple[Module, ...]:
        self.recipes.append(recipe)
        made = self.makes.pop(0)
        if isinstance(made, Exception):
            raise made
        for folder in ("entry", "out", "work/gpu"):
            (scratch / folder).mkdir(parents=True)
        modules = []
        for file, data in made.items():
            (scratch / "out" / file).write_bytes(data)
            name = f"{file}{self.object_name}" if self.object_name else f"{file[:-3]}.o"
            (scratch / "work/gpu" / name).write_bytes(data)
            sha256 = hashlib.sha256(data).hexdigest()
            modules.append(Module(file[:-3], file, sha256, len(data), "", None))
        return tuple(modules)


def put_wrong(node: FakeNode) -> None:
    """Has the store a build with a wrong module in the place of the right one."""
    shutil.rmtree(node.cache / "builds")
    node.stock(made=TOGETHER, wrong=True)


def site_of(node: FakeNode, *words: str) -> Site:
    return Site(node.root, None, words, 0)


def stored(node: FakeNode) -> Entry:
    (entry,) = site_of(node).store.entries()
    return entry
