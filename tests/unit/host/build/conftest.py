"""The build step with a fake make, in a folder instead of a container."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from modulus.core.build.recipe import Recipe
from modulus.host.build.compile import compile_modules
from modulus.host.build.module_check import Module
from modulus.host.distribution.headers import Headers
from modulus.host.process.run import Result
from tests.support.elfmaker import kernel_module

RELEASE = "6.1.0-9-test"
SYMVERS = """\
0x00001111\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t
0x00002222\t_printk\tvmlinux\tEXPORT_SYMBOL\t
"""
MODINFO = {
    "license": "Proprietary",
    "vermagic": f"{RELEASE} SMP mod_unload ",
    "srcversion": "ABC",
    "name": "big_one",
}
VERSIONS = {"module_layout": 0x1111, "_printk": 0x2222}
FAKE_MAKE = """\
#!/bin/sh
# Says what it was asked for and leaves in the work folder what the test put into ../fake.
printf '%s\\n' "$@" > ../fake/argv
env > ../fake/env
umask >> ../fake/env
cat ../fake/log
cp ../fake/*.ko . 2>/dev/null
exit "$(cat ../fake/status)"
"""
Runner = Callable[..., Result]


class Folder:
    """A container that is only a folder: every target is a path below it."""

    def __init__(self, root: Path, runner: Runner) -> None:
        self.root, self.runner = root, runner
        self.oom = False

    def path(self, target: str) -> str:
        return f"{self.root}{target}"

    def run(
        self,
        argv: Sequence[str],
        *,
        on_line: Callable[[str], None],
        timeout: float,
        check: Callable[[], None],
    ) -> int:
        path = f"{self.root}/bin:{os.environ['PATH']}"
        return self.runner(
            argv,
            timeout=timeout,
            on_line=on_line,
            check=check,
            env={"PATH": path},
            ok=range(-64, 256),
        ).status


class Heard:
    """A reporter that only remembers."""

    def __init__(self) -> None:
        self.progressed: list[tuple[int, int]] = []
        self.errors: list[str] = []

    def about(self, *, instance: str | None = None, key: str | None = None) -> None:
        raise AssertionError(instance or key)

    def phase(self, phase: str, text: str) -> None:
        raise AssertionError(text)

    def progress(self, phase: str, done: int, total: int, unit: str = "") -> None:
        assert (phase, unit) == ("build", "")
        self.progressed.append((done, total))

    def warn(self, text: str) -> None:
        raise AssertionError(text)

    def error(self, text: str) -> None:
        self.errors.append(text)


class Bench:
    """Sources, headers and fake tools under one folder, and a recipe for them."""

    def __init__(self, root: Path, runner: Runner) -> None:
        self.root = root
        self.container = Folder(root, runner)
        self.heard = Heard()
        self.out = root / "out"
        self.log = root / "build.log"
        self.fake = root / "fake"
        for name in ("src/sub", "build", "out", "fake", "bin", "headers"):
            (root / name).mkdir(parents=True)
        build = root / "headers/build"
        (build / "include/generated").mkdir(parents=True)
        (build / "include/generated/utsrelease.h").write_text(
            f'#define UTS_RELEASE "{RELEASE}"\n'
        )
        (build / "Module.symvers").write_text(SYMVERS)
        (build / ".config").write_text("CONFIG_MODULE_SRCVERSION_ALL=y\n")
        self.headers = Headers("id", root / "headers", RELEASE, "node", "0")
        self.tool("make", FAKE_MAKE)
        self.tool("strip", '#!/bin/sh\n[ "$1 $2" = "--strip-debug -o" ] && cp "$4" "$3"\n')
        (root / "src/sub/a.c").write_text("int a;\n")
        (root / "src/Kbuild").write_text("SOURCES += sub/a.c\nSOURCES += sub/b.c\n")
        (root / "src/Kbuild").chmod(0o444)
        self.make_does()
        self.recipe = Recipe(
            modules=("big-one",), release=RELEASE, arch="x86_64", cc="gcc-12", jobs=3
        )

    def tool(self, name: str, text: str) -> None:
        (self.root / "bin" / name).write_text(text)
        (self.root / "bin" / name).chmod(0o755)

    def make_does(self, *lines: str, status: int = 0) -> None:
        (self.fake / "log").write_text("".join(f"{line}\n" for line in lines))
        (self.fake / "status").write_text(str(status))

    def leaves(self, file: str = "big-one.ko", **changes: Any) -> bytes:
        values: dict[str, Any] = {
            "modinfo": MODINFO,
            "undefined": ["_printk"],
            "versions": VERSIONS,
        }
        data = kernel_module(**{**values, **changes})
        (self.fake / file).write_bytes(data)
        return data

    def compile(self, **changes: Any) -> tuple[Module, ...]:
        return compile_modules(
            self.container,
            replace(self.recipe, **changes),
            sources=self.root / "src",
            headers=self.headers,
            out=self.out,
            log=self.log,
            reporter=self.heard,
        )
