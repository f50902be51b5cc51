"""Warnings and errors: each is said of the source, and in the words, of a compile alone.

How many sources have to come out together is said with each case, as in test_batch_cases.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.compilers import compilers
from tests.support.together import Files, compare, drivers

pytestmark = pytest.mark.parametrize("cc", compilers())

# Two or more sources each, how many come out together, and flags.
CASES: dict[str, tuple[Files, int, str]] = {
    "no system header": (
        drivers(
            one="#pragma GCC system_header\n@void f(void) { int unused; }\n",
            two="#pragma GCC system_header\n@void g(void) { int unused; }\n",
        ),
        0,
        "",
    ),
    "warnings, of headers that several have": (
        drivers(
            one='@#include "warn.h"\n  static int f(void) { int unused; }\n',
            two='@#include "quiet.h"\nWARN(1)\n',
            three='@#include "quiet.h"\n\n /* /* */ int x; WARN(2)\n',
            four='@#include "warn.h"\n#include "quiet.h"\n  #define NULL 1\n',
        )
        | {
            "drv/warn.h": '#include "warn-in.h"\n',
            "drv/warn-in.h": "static int in(void) { int in_header; }\n",
            "drv/quiet.h": "#define WARN(x) void warn_##x(void) { int unused; }\n",
        },
        0,
        "",
    ),
    "warnings, of headers that one source has": (
        drivers(
            one='@#include "warn.h"\n  static int f(void) { int unused; }\n',
            two="@int g(void) { int unused; }\n",
        )
        | {
            "drv/warn.h": '#include "warn-in.h"\nint warned(void) { int unused; }\n',
            "drv/warn-in.h": "static int in(void) { int in_header; }\n",
        },
        2,
        "",
    ),
    "warnings, switched where sources part": (
        drivers(
            one="@#pragma GCC diagnostic push\n"
            '#pragma GCC diagnostic ignored "-Wunused-variable"\nvoid f(void) { int one; }\n'
            "#pragma GCC diagnostic pop\nvoid g(void) { int two; }\n",
            two='@#include "push.h"\nvoid f(void) { int one; }\n'
            '_Pragma("GCC diagnostic pop") void g(void) { int two; }\n',
            three='@#include "push.h"\nvoid f(void) { int one; }\n'
            '#pragma GCC diagnostic error "-Wunused-variable"\nvoid g(void) { int two; }\n',
        )
        | {
            "drv/push.h": "#pragma GCC diagnostic push\n"
            '#pragma GCC diagnostic ignored "-Wunused-variable"\n',
        },
        2,
        "",
    ),
    "a flag that warns of what is in no header": (
        drivers(
            one="@static const int unused = 1;\n#define UNUSED\n",
            two="@static const int unused = 2;\n",
        ),
        0,
        "-Wunused-const-variable -Wunused-macros",
    ),
    "warnings of comments": (
        drivers(
            one="/* /* */\n@int i;\n",
            two="// \\\n#include <none.h>\n@int i;\n",
            three="/* \u202e */\n@int i;\n",
        ),
        2,
        "",
    ),
    "errors": (
        drivers(
            one="@#error one\n",
            two="@int f(void) { return missing; }\n",
            three="@#include <missing.h>\n",
            four="@int g(void) { return 1; }\n",
            five="@#if 1\nint h;\n",
            six="@#if 1\n/* Without an end.\n",
            seven="@#endif\nint k;\n",
        ),
        1,
        "",
    ),
    "an error of all": (
        drivers(one="#include <missing.h>\n@", two="#include <missing.h>\n"),
        0,
        "",
    ),
    "warnings are errors": (
        drivers(
            one="@int f(void) { int unused; return 0; }\n",
            two="@int f(void) { return 0; }\n",
        ),
        1,
        "-Werror",
    ),
    "an assembler that fails": (
        drivers(
            one="@int f(void) { return 0; }\n",
            two='@int g(void) { return 1; }\nasm(".file \\"x\\"");\n',
        ),
        2,
        "",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_they_come_out_as_alone(case: str, cc: str, tmp_path: Path) -> None:
    files, together, flags = CASES[case]
    made = compare(tmp_path, cc, files, flags)
    assert made.together == together
