"""Templates of the package, and the build script above all."""

from __future__ import annotations

import jinja2
import pytest

from modulus.core.render import render

VALUES = {
    "again": False,
    "recipe": "/out/.recipe",
    "jobs": 2,
    "batch": True,
    "cc": "gcc-12",
    "strip": "strip",
    "appended": [{"path": "/out/.recipe/a b.mk", "to": "Kbuild"}],
    "src": "/src",
    "work": "/build",
    "make": ["make", "-j2", 'KCFLAGS=-g0 -DX="it\'s"'],
    "patches": ["/out/.recipe/00-a b.patch"],
    "modules": [{"name": "x-y", "files": ["x-y.ko", "x_y.ko"], "output": "/out/x-y.ko"}],
}


def test_words_are_quoted_for_the_shell() -> None:
    script = render("build.sh.j2", **VALUES)
    assert "make -j2 'KCFLAGS=-g0 -DX=\"it'\"'\"'s\"'\n" in script
    assert "-i '/out/.recipe/00-a b.patch'\n" in script
    assert "cat '/out/.recipe/a b.mk' >>Kbuild\n" in script
    assert r"\( -name x-y.ko -o -name x_y.ko \)" in script
    assert script.startswith("#!/bin/sh\n")
    assert script.endswith("\n")


@pytest.mark.parametrize("missing", VALUES)
def test_an_undefined_name_is_an_error(missing: str) -> None:
    with pytest.raises(jinja2.UndefinedError, match=missing):
        render("build.sh.j2", **{key: VALUES[key] for key in VALUES if key != missing})
