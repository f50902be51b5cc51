"""Texts where it is hard to tell what is code, a comment or a directive, and any mixtures."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.compilers import compilers
from tests.support.together import PLACES, Files, compare, drivers

pytestmark = pytest.mark.parametrize("cc", compilers())


# After each come code and directives that tell whether A is defined there.
BEGINNINGS = [
    "/* comment *\\\n/\n#define A 1\n/* other */\n",
    "/* comment *\\ \n/\n#define A 1\n/* other */\n",
    "/* comment *??/\n/\n#define A 1\n/* other */\n",
    "// goes on \\\n#define A 2\n",
    "// goes on \\ \n#define A 2\n",
    "// goes on ??/\n#define A 2\n",
    "// goes on \\\r\n#define A 2\n",
    "#define A 1 + \\\n 2\n",
    "#define A 1 + \\ \n 2\n",
    "#define A 1 + ??/\n 2\n",
    "#def\\\nine A 2\n",
    "#\\\ndefine A 2\n",
    "#/**/if 0\n#define A 2\n#else\n#define A 3\n#endif\n",
    "#i\\\nf 1\n#define A 2\n#else\n#define A 3\n#endif\n",
    "#if 1\n%:define A 1\n%:else\n%:if 1\n#endif\n#endif\n",
    "#if 0\n#iffy\n#endif\n#define A 1\n",
    "#if 0\n#endifx\n#define A 1\n#endif\n#define A 2\n",
    "#if 0\ndon't /* open\n#endif\n#define A 2 /* */\n",
    "#if 0\nisn't 'this /* one' open\n#endif\n#define A 2 /* */\n",
    '#if 0\nan " /* open\n#endif\n#define A 2 /* */\n',
    "#if 'a/*' == 'b'\n#define A 1\n#else\n#define A '*/'\n#endif\n",
    "#define A '\\''\n#define B '\"'\n#define C '\"\\\"'\n",
    '#define A sizeof(R"(" /* )")\nconst char *where = __FILE__;\n/* " */\n',
    '#define A sizeof("/*")\nconst char *where = __FILE__;\n/* */\n',
    '#define A sizeof("??/"/*")\nconst char *where = __FILE__;\n/* */\n',
    "#define A 1 /* a comment\n  of lines */ + 2\n",
    "#define A 1 // \" /* '\nconst char *where = __FILE__;\n/* */\n",
    '#include <a//b.h>\n#include "a/*b.h"\n/* */\n#include <c\'d.h>\n',
    "/* */ /* */ # /* */ define A 1\n",
    "#\n#define A 1\n#\n",
    "#define A 1\n#ifndef A\n#elif A\n#define B\n#endif\n",
    "#define A __LINE__\n#ifdef A\n\n#else\nint else_;\n#endif\n",
    "#warning it isn't\n#define A 1\n",
    '#define A __has_include("kernel.h")\n#if A\n#undef A\n#define A 5\n#endif\n',
    "#define A 1\n#define OPEN extern int open_(\nOPEN\n#include <rest.h>\n",
    "#define A 1\n#define F(x) x\nint f = F(\n@1);\n",
]
HEADERS: Files = {
    "include/a/b.h": "#define A 1\n",
    "include/a/*b.h": "",
    "include/c'd.h": "",
    "include/rest.h": "int);\n",
}


@pytest.mark.parametrize("flags", ["", "-trigraphs"])
def test_no_text_deceives(flags: str, cc: str, tmp_path: Path) -> None:
    end = "@#ifndef A\n#define A 3\n#endif\nint a = A + __LINE__;\n" + PLACES
    sources = {f"s{i}": begin + end for i, begin in enumerate(BEGINNINGS)}
    # Who begins like another has all of that in common with it.
    twins = {f"{name}_twin": text + "int twin;\n" for name, text in sources.items()}
    compare(tmp_path, cc, HEADERS | drivers(**sources, **twins), flags)


FRAGMENTS = [
    "@",
    '#include "own.h"\n',
    "#include <counts.h>\n",
    "\n",
    "/* a\n   comment */\n",
    "// a comment\n",
    "/* a */ #define A1 1 /*\n*/\n",
    "#define A 1\n",
    "#undef A\n",
    "#ifdef A\n",
    "#if A + 0 > __LINE__ - 4\n",
    "#else\n",
    "#endif\n",
    '#pragma GCC diagnostic ignored "-Wunused-variable"\n',
    "static inline int UNIQUE(f)(void) { int unused; return __LINE__; }\n",
    "  NAMED const char *UNIQUE(n)(void) { return __FILE__; }\n",
    "#define B it's\n",
    "#define C \\\n  2\n",
    "*/\n",
    "/*\n",
]


@settings(max_examples=5)
@given(st.lists(st.lists(st.sampled_from(FRAGMENTS), max_size=9), min_size=10, max_size=14))
def test_whatever_they_are_made_of(cc: str, sources: list[list[str]]) -> None:
    headers: Files = {
        "drv/own.h": "static inline const char *UNIQUE(own)(void) { return __FILE__; }\n",
        "include/counts.h": "#undef N\n#define N __COUNTER__\nstatic int UNIQUE(h) = N;\n",
    }
    begin = "@"
    files = drivers(**{f"s{i}": begin + "".join(parts) for i, parts in enumerate(sources)})
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), cc, files | headers)
