"""Holds the code to docs/architecture.md: layers, edges, start-up time, sizes."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "modulus"

# A module may import from its own layer and from those below.
LAYERS = ("__main__", "cli", "agent", "pipeline", "host", "core", "errors", "redact")

# The only module, or package, that may import each of these.
EDGES = {
    "sh": "modulus.host.process.run",
    "requests": "modulus.host.fetch.http",
    "pydbus": "modulus.host.bus",
}

# What works on values alone, so that core/ needs no machine to be tested.
PURE = frozenset({
    "__future__", "abc", "base64", "binascii", "bisect", "collections", "dataclasses",
    "datetime", "difflib", "enum", "fnmatch", "functools", "hashlib", "heapq",
    "ipaddress", "itertools", "json", "math", "operator", "pathlib", "posixpath", "re",
    "shlex", "string", "struct", "textwrap", "types", "typing", "urllib.parse",
    "jinja2", "yaml",
})  # fmt: skip

# Calls that ask the machine something, whatever they are called on.
IMPURE_CALLS = frozenset({
    "open", "print", "input", "exec", "eval", "__import__", "cwd", "home", "read_text",
    "read_bytes", "write_text", "write_bytes", "exists", "is_file", "is_dir",
    "is_symlink", "stat", "lstat", "iterdir", "rglob", "mkdir", "rmdir", "unlink",
    "touch", "chmod", "symlink_to", "resolve", "samefile", "expanduser", "now", "today",
    "utcnow",
})  # fmt: skip

HEAVY = ("sh", "requests", "urllib3", "pydbus", "gi", "jinja2", "yaml", "zstandard", "lzma",
         "bz2", "tarfile", "ssl", "asyncio", "multiprocessing", "hypothesis")  # fmt: skip

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports_of(tree: ast.Module, path: Path) -> Iterator[str]:
    """Every module ``tree`` imports, wherever the import stands; in full."""
    package = list(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            whole = ".".join(base + ([node.module] if node.module else []))
            if whole == "modulus":
                # Its own few names, or a layer.
                yield from (
                    f"modulus.{alias.name}" if alias.name in LAYERS else "modulus"
                    for alias in node.names
                )
            else:
                yield whole


def layer_of(module: str) -> int | None:
    """How high ``module`` is; None for the package itself, which is below everything."""
    if module == "modulus":
        return None
    return len(LAYERS) - LAYERS.index(module.split(".")[1])


def outside_layers(tree: ast.Module, path: Path) -> list[str]:
    """The imports that go up."""
    own = layer_of(name_of(path))
    found = []
    for module in imports_of(tree, path):
        if module.split(".")[0] == "modulus":
            imported = layer_of(module)
            if imported is not None and (own is None or imported > own):
                found.append(module)
    return found


def outside_edges(tree: ast.Module, path: Path) -> list[str]:
    """The imports of a library that only another module may have, or none."""
    tops = {module.split(".")[0] for module in imports_of(tree, path)}
    found = [library for library, edge in EDGES.items() if library in tops]
    own = name_of(path)
    outside = [library for library in found if not f"{own}.".startswith(f"{EDGES[library]}.")]
    return outside + sorted(tops & {"subprocess"})


def impurities(tree: ast.Module, path: Path) -> list[str]:
    """What in ``tree`` could reach beyond its arguments."""
    found = []
    for module in imports_of(tree, path):
        top = module.split(".")[0]
        if top != "modulus" and not {top, module} & PURE:
            found.append(f"import {module}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else None
            name = function.id if isinstance(function, ast.Name) else name
            if name in IMPURE_CALLS:
                found.append(f"{name}() in line {node.lineno}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_keeps_to_its_place(path: Path) -> None:
    tree = tree_of(path)
    assert outside_layers(tree, path) == [], "imports go one way only"
    assert outside_edges(tree, path) == [], f"imported in one module only: {EDGES}"
    if path.is_relative_to(PACKAGE / "core"):
        assert impurities(tree, path) == [], "core/ works on values alone"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300, "does it still do one thing?"


def test_core_host_and_agent_name_no_driver() -> None:
    """What is special to a driver is data, in its profile."""
    drivers = {profile.stem for profile in (ROOT / "profiles").glob("*.yaml")}
    drivers |= {"nvidia", "v4l2loopback"}
    pattern = re.compile("|".join(map(re.escape, sorted(drivers))), re.IGNORECASE)
    named = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for layer in ("core", "host", "agent")
        for path in sorted((PACKAGE / layer).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert named == []


def test_the_command_line_starts_with_nothing_heavy() -> None:
    code = (
        "import sys, json; before = set(sys.modules);"
        "import modulus.cli, modulus.cli.parser, modulus.host.report.reporter;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {module.split(".")[0] for module in json.loads(done.stdout)}
    assert "modulus" in loaded
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize(
    ("module", "code", "found"),
    [
        ("core/a.py", "from modulus.errors import ConfigError\nfrom modulus.core import b", []),
        (
            "core/a.py",
            "def f():\n    from modulus.host.process.run import run",
            ["modulus.host.process.run"],
        ),
        ("core/a.py", "from ..host import run", ["modulus.host"]),
        ("core/a.py", "from modulus import host", ["modulus.host"]),
        ("core/a.py", "from modulus import __version__", []),
        ("host/build/container/a.py", "from ....pipeline import build", ["modulus.pipeline"]),
        ("host/build/container/a.py", "from ..run import run\nfrom . import b", []),
        ("pipeline/a.py", "import modulus.cli.parser", ["modulus.cli.parser"]),
        ("pipeline/a.py", "import modulus.agent", ["modulus.agent"]),
        ("agent.py", "import modulus.pipeline.build.plan", []),
        ("errors.py", "import modulus.core.version", ["modulus.core.version"]),
        ("__init__.py", "from modulus.cli import run", ["modulus.cli"]),
    ],
)
def test_an_import_that_goes_up_is_found(module: str, code: str, found: list[str]) -> None:
    assert outside_layers(ast.parse(code), PACKAGE / module) == found


@pytest.mark.parametrize(
    ("module", "code", "found"),
    [
        ("host/process/run.py", "import sh", []),
        ("host/distribution/apt/packages.py", "def f():\n    import sh", ["sh"]),
        ("host/fetch/http.py", "import requests.adapters", []),
        ("host/fetch/fetcher.py", "from requests.adapters import HTTPAdapter", ["requests"]),
        ("host/process/run.py", "import subprocess", ["subprocess"]),
        ("host/bus/a.py", "import pydbus", []),
        ("host/busy.py", "from pydbus import connect", ["pydbus"]),
        ("pipeline/a.py", "import shlex", []),
    ],
)
def test_a_library_at_the_wrong_edge_is_found(module: str, code: str, found: list[str]) -> None:
    assert outside_edges(ast.parse(code), PACKAGE / module) == found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import json, re\nfrom urllib.parse import urlsplit", []),
        ("import os.path", ["import os.path"]),
        ("from urllib.request import urlopen", ["import urllib.request"]),
        ("def f():\n    import socket", ["import socket"]),
        ("from time import time", ["import time"]),
        ("from pathlib import Path\ndef f(p: Path): return p.name", []),
        ("def f(p): return p.read_text()", ["read_text() in line 1"]),
        ("x = open('/proc/devices')", ["open() in line 1"]),
        ("from datetime import datetime\nt = datetime.now()", ["now() in line 2"]),
    ],
)
def test_what_is_not_pure_is_found(code: str, found: list[str]) -> None:
    assert impurities(ast.parse(code), PACKAGE / "core" / "a.py") == found
