"""What a compile may depend on but its own text: the name and place of a file, and flags.

How many sources have to come out together is said with each case: whoever answers nothing is
never wrong.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.compilers import compilers
from tests.support.together import PLACES, Files, compare, drivers

pytestmark = pytest.mark.parametrize("cc", compilers())

LATE = "#include <here.h>\n#if HERE > 2\n#define A 1\n#else\n#define A 2\n#endif\nint a = A;\n"
INCLUDE_SELF = "#define SELF __FILE__\n#ifndef IN\n#define IN\n#include SELF\n#endif\n"

# Two or three sources each, how many come out together, and flags.
CASES: dict[str, tuple[Files, int, str]] = {
    "one source": (drivers(one="@" + PLACES), 1, ""),
    "nothing in common": (drivers(one=PLACES, two="int two;\n", three=""), 3, ""),
    "equal sources": (
        drivers(one="@" + PLACES, two="@" + PLACES),
        2,
        "",
    ),
    "only directives": (
        drivers(one="@", two="@#define B\n"),
        2,
        "",
    ),
    "names and lines": (
        drivers(
            one='/* One. */\n\n@#include "own.h"\n' + PLACES,
            two='@// Two.\n#include "own.h"\n\n\n' + PLACES,
        )
        | {"drv/own.h": "static inline const char *own(void) { return __FILE__; }\n"},
        2,
        "",
    ),
    "counted before and behind the fork": (
        drivers(
            one="@#include <counts.h>\nint UNIQUE(i) = __COUNTER__;\n",
            two="@int UNIQUE(i);\n#include <counts.h>\nint UNIQUE(j);\n",
        )
        | {"include/counts.h": "static int UNIQUE(h) __attribute__((used)) = __COUNTER__;\n"},
        2,
        "",
    ),
    "a header for each source": (
        drivers(one="@" + PLACES, two="@" + PLACES)
        | {"include/first.h": "#define FIRST static int UNIQUE(first) = __LINE__;\n"},
        2,
        "-include first.h -include include/kernel.h",
    ),
    "the name of the object, in a common header": (
        drivers(
            one='@#include <named.h>\nint f(void) { return pr("1"); }\n',
            two='@#include <named.h>\nint g(void) { return pr("2"); }\n',
        )
        | {"include/named.h": 'static inline int named(void) { return pr("h"); }\n'},
        0,
        "",
    ),
    "how long the name of the object is, in a common header, with no warnings": (
        drivers(
            one='@#include <long.h>\n#include "a.h"\nint f = LENGTH;\n',
            other='@#include <long.h>\n#include "a.h"\nint g = LENGTH;\n',
        )
        | {
            "include/long.h": "enum { LENGTH = sizeof(__stringify(KBUILD_BASENAME)) };\n",
            "drv/a.h": "",
        },
        0,
        "-w",
    ),
    "the name of the object, asked by the preprocessor": (
        drivers(
            one="@#define one 1\n#if KBUILD_BASENAME\nint i;\n#endif\n",
            two="@#define one 1\n#if KBUILD_BASENAME\nint i;\n#endif\nint j;\n",
        ),
        0,
        "-UKBUILD_BASENAME",
    ),
    "another name of the object": (
        drivers(
            one='@#undef KBUILD_BASENAME\n#define KBUILD_BASENAME "x"\n' + PLACES,
            two='@#undef KBUILD_BASENAME\n#define KBUILD_BASENAME "x"\n' + PLACES,
            three="@" + PLACES,
        ),
        1,
        "",
    ),
    "another name of the object, from a header": (
        drivers(
            one='@#include "name.h"\n' + PLACES,
            two='@#include "name.h"\n' + PLACES,
        )
        | {"drv/name.h": '#undef KBUILD_BASENAME\n#define\tKBUILD_BASENAME "x"\n'},
        0,
        "",
    ),
    "how deep, and from where": (
        drivers(
            one="@const char *base(void) { return __BASE_FILE__; }\n",
            two="@int level(void) { return __INCLUDE_LEVEL__; }\n",
            three='@#include "deep.h"\nint d = DEEP;\n',
            four="@#include <deeper.h>\nint d = DEEP;\n",
            time="@int t = sizeof(__TIMESTAMP__);\n",
            none="@int none;\n",
        )
        | {
            "drv/deep.h": "#define DEEP __INCLUDE_LEVEL__\n",
            "system/deeper.h": "#define DEEP __INCLUDE_LEVEL__\n",
        },
        1,
        "-isystem system",
    ),
    "the next of a name": (
        drivers(
            one="@#include_next <next.h>\nint i = NEXT;\n",
            two="@#include <next.h>\nint i = NEXT;\n",
            three="@#include <next.h>\nint j = NEXT + 1;\n",
        )
        | {
            "include/next.h": "#include_next <next.h>\n#define NEXT (NEXT_1 + 1)\n",
            "drv/next.h": "#define NEXT_1 1\n#define NEXT_2 2\n",
        },
        2,
        "",
    ),
    "once": (
        drivers(
            one='@#include "once.h"\n#include "once.h"\nint i = ONCE;\n',
            two='@#include "once.h"\n#include "once.h"\nint j = ONCE;\n',
            main="#pragma once\n@int k;\n#include __FILE__\n",
            pragma='@_Pragma ("once")\nint l;\n',
        )
        | {"drv/once.h": "#pragma once\nenum { ONCE = __COUNTER__ };\n"},
        2,
        "",
    ),
    "code within conditions": (
        drivers(
            one="#ifdef X\n@#else\nint x = __LINE__;\n#endif\n" + PLACES,
            two="\n#ifdef X\n@#else\nint x = __LINE__;\n#endif\n" + PLACES,
        ),
        2,
        "",
    ),
    "conditions on the line": (
        drivers(
            one=LATE,
            two="\n" + LATE,
            three="// three\n" + LATE,
        )
        | {"include/here.h": "#define HERE __LINE__\n"},
        3,
        "",
    ),
    "names made of the name of the file": (
        drivers(
            one="@#ident __FILE__\nint one;\n",
            two="@#ident __FILE__\nint two;\n",
            three="@" + INCLUDE_SELF + "int three(void);\n",
            four="@" + INCLUDE_SELF + "int four(void);\n",
        ),
        4,
        "-I.",
    ),
    "lines given by the source": (
        drivers(
            one='@#line 100 "other.c"\n#include "e.h"\n' + PLACES,
            two='@# 100 "other.c" 1\n#include "e.h"\n' + PLACES,
        )
        | {"drv/e.h": ""},
        2,
        "",
    ),
    "pack and options": (
        drivers(
            one='@#pragma pack(1)\n#include "s.h"\nint i = sizeof(struct s);\n',
            two='@#pragma pack(1)\n#include "s.h"\n#pragma pack()\nint i = sizeof(struct s);\n',
            three='@#pragma GCC optimize("O0")\n#include "s.h"\n'
            "int f(struct s *s) { return s->l; }\n",
        )
        | {"drv/s.h": "struct s { char c; long l; };\n"},
        3,
        "",
    ),
    "data told in place": (
        drivers(
            one="@  int f(int *p, int i) { return p[i] << i; }\n",
            two="/* Two\n */ @ /* x */ int f(int *p, int i) { return p[i] << i; }\n",
        ),
        2,
        "-fsanitize=shift,null,bounds",
    ),
    "no end of a line": (
        drivers(
            one="@#include <kernel.h>",
            two="@#define X \\",
            three="@#define X \\\n",
            four="@// four \\\n",
            five="@int five;\n#if 1\n#endif",
        ),
        5,
        "",
    ),
    "bytes": (
        drivers(
            one=b"#include <kernel.h>\r\n\r\n#include <kernel.h>\r\nint i = __LINE__;\r\n",
            two=b"\xef\xbb\xbf@int i = __LINE__;\n",
            three=b'@int i = sizeof("\x00");\n',
            four=b"\f@\v\nint caf\xc3\xa9 = __LINE__;\n",
            five=b'/* \xa9 */\n@const char *i = "\xff";\n',
        ),
        3,
        "",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_they_come_out_as_alone(case: str, cc: str, tmp_path: Path) -> None:
    files, together, flags = CASES[case]
    made = compare(tmp_path, cc, files, flags)
    assert made.together == together


@pytest.mark.parametrize(
    "flags",
    [
        "-g",
        "-frecord-gcc-switches",
        "-fsanitize=kernel-address",
        "-fsanitize=thread",
        "-std=c90 -Wno-error",
        "-pedantic",
        "-Wunused-macros",
        "-Wunused-const-variable",
        "-finput-charset=latin1",
        "-fdiagnostics-color=always",
        "-MP",
        "-Wp,-MP",
        "-H",
        "@flags",
    ],
)
def test_each_is_compiled_alone_with_such_flags(flags: str, cc: str, tmp_path: Path) -> None:
    files = {"flags": "-DX=1\n"} | drivers(
        one="@// A comment\nstatic const int unused = 1;\n" + PLACES,
        two="@#define UNUSED\nint f(int *p) { int unused; return *p; }\n",
    )
    assert compare(tmp_path, cc, files, flags).together == 0
