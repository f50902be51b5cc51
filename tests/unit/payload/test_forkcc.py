"""Many files in one run of the compiler, as forkcc.c is told to: their answers and assembly."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.compilers import compilers
from tests.support.together import PAYLOAD, write_files

pytestmark = pytest.mark.parametrize("cc", compilers())

FAILED = 1 << 8  # exit(1), as waitpid(2) has it
COMMON = "#include <common.h>\n#if defined(COMMON) && COMMON > 1\n#include <more.h>\n#endif\n"
HEADERS = {
    "include/common.h": "#define COMMON 2\n"
    'extern void bug(void) __attribute__((error("bug")));\n',
    "include/more.h": "struct more { int one, two; };\n",
    "include/other.h": "",
}

# Ends the process that opens killer.h. It comes behind forkcc.c, which calls it.
KILLER = """\
extern long syscall(long number, ...);
extern int getpid(void);
extern int kill(int pid, int signal);
extern char *strstr(const char *text, const char *what);
int openat(int folder, const char *path, int flags, int mode)
{
    if (strstr(path, "killer.h"))
        kill(getpid(), 9);
    return syscall(257, folder, path, flags, mode);
}
"""


def library(cc: str, source: Path, target: Path) -> Path:
    subprocess.run(
        [cc, "-O1", "-fPIC", "-shared", "-nostdlib", "-o", target, source], check=True
    )
    return target


class Run:
    """One run of the compiler for ``sources``, in a folder with ``headers``."""

    def __init__(
        self,
        folder: Path,
        cc: str,
        sources: list[str],
        headers: Mapping[str, str] = HEADERS,
        *,
        jobs: int = 2,
        heads: bool = False,
        killer: bool = False,
        output: str = "kept/all.s",
        said: int | None = None,
    ) -> None:
        self.folder = folder
        self.cc = cc
        write_files(
            folder, {**headers, "main.c": '#include "modulus-next-0"\n', "killer.c": KILLER}
        )
        write_files(folder, {f"kept/{i}.c": text for i, text in enumerate(sources)})
        if heads:
            write_files(folder, {f"kept/{i}.head": f'"{i}.c"\n' for i in range(len(sources))})
        (folder / "kept").mkdir(exist_ok=True)
        preload = [library(cc, PAYLOAD / "forkcc.c", folder / "forkcc.so")]
        if killer:
            preload.append(library(cc, folder / "killer.c", folder / "killer.so"))
        environment = {
            "PATH": os.environ["PATH"],
            "LD_PRELOAD": ":".join(map(str, preload)),
            "MODULUS_SOURCES": str(folder / "kept"),
            "MODULUS_OUTPUT": str(folder / output),
            "MODULUS_JOBS": str(jobs),
        }
        with open(folder / "said", "w") as file:
            command = self.compiler("main.c", folder / output)
            subprocess.run(
                command,
                cwd=folder,
                env=environment,
                check=False,
                stdout=subprocess.DEVNULL,
                stderr=file.fileno() if said is None else said,
            )
        results = folder / "kept/results"
        lines = results.read_text().splitlines() if results.exists() else []
        pairs = [line.split() for line in lines]
        self.answers = {int(number): int(status) for number, status in pairs}
        assert len(self.answers) == len(lines)

    def compiler(self, source: str, target: Path) -> list[str | Path]:
        return [self.cc, "-O2", "-Iinclude", "-nostdinc", "-S", "-o", target, source]

    def is_as_alone(self, number: int) -> bool:
        """Whether a source's answer and assembly are those of a compile by itself."""
        name = f"{number}.c"
        (self.folder / name).write_text((self.folder / "kept" / name).read_text())
        target = self.folder / "alone.s"
        done = subprocess.run(
            self.compiler(name, target), cwd=self.folder, check=False, stderr=subprocess.DEVNULL
        )
        if done.returncode:
            return bool(self.answers[number] == done.returncode << 8)
        made = (self.folder / f"kept/{number}.s").read_text()
        made = made.replace('\t.file\t"main.c"\n', f'\t.file\t"{name}"\n', 1)
        return self.answers[number] == 0 and made == target.read_text()


def test_questions_have_their_answers(cc: str, tmp_path: Path) -> None:
    sources = [
        COMMON + "int known;\n",
        COMMON + "#error known\n",
        COMMON + "void f(void) { bug(); }\n",
        COMMON + "int f(struct more *m) { return m->two; }\n",
        COMMON + "int f(struct more *m) { return m->three; }\n",
        COMMON
        + "#if defined(MISSING)\nint f(void) { return 1; }\n#else\n#error isn't\n#endif\n",
        COMMON + "#include <killer.h>\nint f(void) { return 1; }\n",
        "",
    ]
    run = Run(tmp_path, cc, sources, {**HEADERS, "include/killer.h": ""})
    failed = {number for number, status in run.answers.items() if status == FAILED}
    assert failed == {1, 2, 4, 5}
    assert len(run.answers) == len(sources)
    assert all(run.is_as_alone(number) for number in range(len(sources)))


def test_code_in_conditions_has_its_lines(cc: str, tmp_path: Path) -> None:
    code = "#ifdef COMMON\nint line(void) { return __LINE__; }\n#endif\nint i;\n"
    run = Run(tmp_path, cc, [COMMON + code, COMMON + "\n" + code, COMMON + code + "int j;\n"])
    assert all(run.is_as_alone(number) for number in range(3))


@pytest.mark.parametrize("jobs", [1, 2, 40])
def test_a_process_that_is_killed_takes_no_other_along(
    jobs: int, cc: str, tmp_path: Path
) -> None:
    killed = "#include <killer.h>\n"
    sources = [
        COMMON + killed,
        COMMON + "int one;\n",
        COMMON + "#include <other.h>\n" + killed + "int two;\n",
        COMMON + "#include <other.h>\n" + killed + "int three;\n",
        COMMON + "#include <other.h>\nint four;\n",
        COMMON + "#include <common.h>\n",
    ]
    run = Run(
        tmp_path, cc, sources, {**HEADERS, "include/killer.h": ""}, jobs=jobs, killer=True
    )
    # Two were killed as one, before they parted: nobody knows what would have become of them.
    assert run.answers == {0: signal.SIGKILL, 1: 0, 4: 0, 5: 0}
    assert all(run.is_as_alone(number) for number in (1, 4, 5))


def test_no_sources_are_no_answers(cc: str, tmp_path: Path) -> None:
    assert Run(tmp_path, cc, []).answers == {}


def test_sources_that_fail_before_they_part_are_not_answered(cc: str, tmp_path: Path) -> None:
    sources = [
        "#include <missing.h>\nint one;\n",
        "#include <missing.h>\nint two;\n",
        "int i;\n",
    ]
    assert Run(tmp_path, cc, sources).answers == {2: 0}


def test_an_output_by_another_name_is_no_answer(cc: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("kept")
    run = Run(tmp_path, cc, ["int one;\n", "int two;\n"], output="link/all.s")
    assert 0 not in run.answers.values()
    assert not list((tmp_path / "kept").glob("?.s"))


def test_it_has_to_be_known_what_was_said(cc: str, tmp_path: Path) -> None:
    sources = [COMMON + "int one;\n", COMMON + "int two;\n"]
    assert Run(tmp_path / "file", cc, sources, heads=True).answers == {0: 0, 1: 0}
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer):
        run = Run(tmp_path / "pipe", cc, sources, heads=True, said=writer)
    assert run.answers == {}


@pytest.mark.parametrize("name", ["__BASE_FILE__", "__INCLUDE_LEVEL__", "__TIMESTAMP__"])
def test_who_asks_how_it_was_read_is_not_answered(name: str, cc: str, tmp_path: Path) -> None:
    headers = {**HEADERS, "include/odd.h": f"#define ODD sizeof({name})\n"}
    sources = [
        COMMON + "#include <odd.h>\nint one = ODD;\n",
        COMMON + "#include <odd.h>\nint two = ODD;\n",
        COMMON + f"int three = sizeof({name});\n",
        COMMON + "int four;\n#include <odd.h>\n",
        COMMON + "int five;\n",
    ]
    run = Run(tmp_path, cc, sources, headers)
    assert [number for number, status in run.answers.items() if status == 0] == [4]
    assert set(run.answers.values()) <= {0, 99 << 8}


@pytest.mark.parametrize(
    "text",
    [
        '#define /**/ KBUILD_BASENAME "x"',
        '#define \\\n KBUILD_BASENAME "x"',
        '#/*\n*/define KBUILD_BASENAME "x"',
        '%:define KBUILD_BASENAME "x"',
        "#  undef\tKBUILD_BASENAME",
        '#pragma push_macro( "KBUILD_BASENAME")',
        '_Pragma("push_macro(\\"KBUILD_BASENAME\\")")',
        '#define NAME _Pragma("pop_macro(\\"KBUILD_BASENAME\\")")',
    ],
)
def test_where_a_name_may_be_another_afterwards_nobody_is_answered(
    text: str, cc: str, tmp_path: Path
) -> None:
    run = Run(tmp_path, cc, *with_header(text))
    assert 0 not in run.answers.values()


@pytest.mark.parametrize(
    "text",
    [
        "#define NAME KBUILD_BASENAME",
        '#define LOCK ".text..lock."KBUILD_BASENAME',  # linux/spinlock.h
        "/* one */\n# define NAME(x) \\\n\tx KBUILD_BASENAME",
        "#ifdef KBUILD_BASENAME\n#elif defined(KBUILD_BASENAME)\n#endif",
        "#define one\nstruct KBUILD_BASENAME { int one; };",
        "/* KBUILD_BASENAME */",
    ],
)
def test_a_name_that_is_only_looked_up_keeps_nobody_from_it(
    text: str, cc: str, tmp_path: Path
) -> None:
    run = Run(tmp_path, cc, *with_header(text))
    assert run.answers == {0: 0, 1: 0}
    assert run.is_as_alone(0) and run.is_as_alone(1)


def with_header(text: str) -> tuple[list[str], dict[str, str]]:
    """Two sources with the same header, which has this text."""
    include = COMMON + "#include <name.h>\n"
    headers = {**HEADERS, "include/name.h": f"{text}\n"}
    return [include + "int first;\n", include + "int second;\n"], headers
