"""Holds the code to its rooms: rooms.yaml has every arrow between them, and none leads back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "modulus"
MOST_FILES = 16
ARROWS: dict[str, dict[str, list[str]]] = yaml.safe_load(
    Path(__file__).with_name("rooms.yaml").read_text()
)
Graph = dict[str, set[str]]


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its name, packages too."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(tree: ast.Module, known: frozenset[str]) -> Iterator[str]:
    """The modules of ours that ``tree`` imports, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                name = inner if inner in known else node.module
                if name in known:
                    yield name
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)


@cache
def graph() -> Graph:
    """Who imports whom, module by module."""
    known = frozenset(modules())
    return {
        name: set(imports(ast.parse(path.read_text()), known)) - {name}
        for name, path in modules().items()
    }


def room_of(name: str) -> tuple[str, str] | None:
    """The floor and the room of a module; a file at the top of a floor is a room of its own.

    None for what is on no floor that has rooms.
    """
    path = modules()[name].relative_to(PACKAGE)
    floor, *inner = path.with_suffix("").parts
    if floor not in ARROWS or inner == ["__init__"]:
        return None
    return floor, "/".join(inner[:-1] or inner)


def rooms(imported: Graph) -> dict[str, Graph]:
    """Who uses whom on the same floor, room by room."""
    found: dict[str, Graph] = {floor: {} for floor in ARROWS}
    for name, others in imported.items():
        own = room_of(name)
        if own is None:
            continue
        used = found[own[0]].setdefault(own[1], set())
        for other in map(room_of, others):
            if other and other[0] == own[0] and other[1] != own[1]:
                used.add(other[1])
    return found


def cycle(arrows: Graph) -> list[str]:
    """Names of ``arrows`` that lead back to where they began; none where there are none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("floor", ARROWS)
def test_rooms_use_those_that_the_table_names_and_no_others(floor: str) -> None:
    table = {room: set(used) for room, used in ARROWS[floor].items()}
    assert rooms(graph())[floor] == table


@pytest.mark.parametrize("floor", ARROWS)
def test_no_arrow_leads_back(floor: str) -> None:
    assert cycle({room: set(used) for room, used in ARROWS[floor].items()}) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert cycle(graph()) == []


def test_a_cycle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from modulus.core import pci", {"modulus.core.pci"}),
        ("def f():\n    from modulus.core.pci import devices_of", {"modulus.core.pci"}),
        ("import modulus.errors, os", {"modulus.errors"}),
        ("from os import path", set()),
    ],
)
def test_an_import_is_found(code: str, found: set[str]) -> None:
    assert set(imports(ast.parse(code), frozenset(modules()))) == found


@pytest.mark.parametrize("floor", ARROWS)
def test_a_room_is_told_of_in_the_docs_and_has_a_line_of_its_own(floor: str) -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    for room in ARROWS[floor]:
        folder = PACKAGE / floor / room
        if folder.is_dir():
            line = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
            assert line
            assert f"| `{room}/` | {line.splitlines()[0]} |" in text


FOLDERS = sorted(
    path.parent
    for path in (*PACKAGE.rglob("__init__.py"), *ROOT.glob("tests/unit/**/__init__.py"))
)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_is_taken_in_at_a_glance(folder: Path) -> None:
    files = [path.name for path in folder.iterdir() if path.is_file()]
    assert len(files) <= MOST_FILES


def test_every_file_that_the_docs_name_is_there() -> None:
    """Paths from a floor, or from the top; a bare name is of the file named before it."""
    text = (ROOT / "docs/architecture.md").read_text()
    named = re.findall(r"`((?:cli|agent|pipeline|host|core|units|tests)/[\w./-]+)`", text)
    assert len(named) > 50
    tops = (ROOT, PACKAGE)
    assert [name for name in named if not any((top / name).exists() for top in tops)] == []
