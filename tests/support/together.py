"""Small drivers, made as kbuild makes its: their objects together, or each by itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.checkout import ROOT

PAYLOAD = ROOT / "modulus/payload"
FLAGS = "-O2 -std=gnu11 -Wall -Wno-unused-const-variable -Wundef -nostdinc -Iinclude -Idrv"

# Each object's messages and exit status are in files beside it.
_MAKEFILE = """\
objects := $(patsubst %.c,%.o,$(wildcard drv/*.c))

all: $(objects)

drv/%.o: drv/%.c
\t@echo '  CC [M]  $@'
\t@$(CC) -Wp,-MMD,$@.d $(FLAGS) -DKBUILD_MODFILE='"drv"' -DKBUILD_BASENAME='"$*"' \\
\t    -c -o $@ $< 2>$@.said; status=$$?; echo $$status >$@.status; exit $$status
"""

# By name; what is compiled is in drv/.
Files = dict[str, str | bytes]

COMMON: Files = {
    "include/kernel.h": """\
#ifndef KERNEL_H
#define KERNEL_H
#define NULL ((void *)0)
#define __stringify_1(x...) #x
#define __stringify(x...) __stringify_1(x)
#define PASTE_1(a, b) a##b
#define PASTE(a, b) PASTE_1(a, b)
#define UNIQUE(name) PASTE(name, __COUNTER__)
#define NAMED static const char *UNIQUE(named) = KBUILD_BASENAME;
extern int printk(const char *format, ...);
#define pr(text) printk(KBUILD_MODFILE "." KBUILD_BASENAME ":" text)
#endif
"""
}

# What tells where it is.
PLACES = """\
const char *file(void) { return __FILE__ " " KBUILD_BASENAME " " KBUILD_MODFILE; }
int line(void) { return __LINE__ + __COUNTER__; }
"""


@dataclass(frozen=True)
class Outcome:
    """What became of one source; ``headers`` are those that kbuild is told."""

    status: int
    object: bytes | None
    said: str
    headers: list[str]


@dataclass(frozen=True)
class Made:
    """A driver's sources by name, and how many of them were compiled together."""

    outcomes: dict[str, Outcome]
    together: int


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def drivers(**sources: str | bytes) -> Files:
    """Sources by name, in which "@" is the line that they have in common."""
    files: Files = dict(COMMON)
    for name, text in sources.items():
        text = text.encode() if isinstance(text, str) else text
        files[f"drv/{name}.c"] = text.replace(b"@", b"#include <kernel.h>\n")
    return files


def compare(folder: Path, cc: str, files: Files, flags: str = "", jobs: int = 2) -> Made:
    """Compiles in both ways, and returns what came out together: the same."""
    alone, together = (_make(folder / "work", cc, files, flags, n) for n in (0, jobs))
    assert together.outcomes == alone.outcomes
    return together


def _make(folder: Path, cc: str, files: Files, flags: str, jobs: int) -> Made:
    """Compiles drv/*.c of ``files`` in ``folder``: together with ``jobs``, or with 0 alone."""
    if folder.exists():
        shutil.rmtree(folder)
    write_files(folder, {**files, "Makefile": _MAKEFILE})
    command = ["make", f"CC={cc}", f"FLAGS={FLAGS} {flags}"]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "SOURCE_DATE_EPOCH": "1"}
    log = ""
    if jobs:
        batch = ["/bin/sh", f"{PAYLOAD}/batch.sh", f"{folder}/batch", str(jobs), cc, *command]
        log = _run(batch, folder, environment, check=True)
        environment["PATH"] = f"{folder}/batch/bin:{environment['PATH']}"
    _run([*command, "-k"], folder, environment, check=False)
    said = re.search(r"^batch: (\d+) of (\d+) objects compiled together$", log, re.MULTILINE)
    sources = sorted((folder / "drv").glob("*.c"))
    assert not jobs or (said and int(said[2]) == len(sources)), log
    outcomes = {path.stem: _outcome(path.with_suffix(".o")) for path in sources}
    return Made(outcomes, int(said[1]) if said else 0)


def _outcome(path: Path) -> Outcome:
    def read(ending: str) -> str:
        file = Path(f"{path}.{ending}")
        return file.read_bytes().decode(errors="replace") if file.exists() else ""

    return Outcome(
        int(read("status")),
        path.read_bytes() if path.exists() else None,
        read("said"),
        read("d").replace("\\\n", " ").split(),
    )


def _run(command: list[str], folder: Path, environment: dict[str, str], *, check: bool) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        check=check,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return done.stdout
