"""Counting what a build will do and has done."""

from __future__ import annotations

import pytest

from modulus.core.profile.progress import KBUILD, Progress, Work, globs, predict

TESTS = Work(
    done=r" TEST: ",
    count=r"^TESTS[ \t]*\+=[ \t]*(\S+)",
    files=("{module}/*.Kbuild", "Kbuild"),
)
OBJECTS = Work(done=r"  CC \[M\] ", count=r"(\S+\.c)$", weight=3)


def test_globs_name_each_file_once() -> None:
    assert globs(TESTS, ("a", "b")) == ("a/*.Kbuild", "b/*.Kbuild", "Kbuild")


@pytest.mark.parametrize(
    ("work", "texts", "modules", "count"),
    [
        (TESTS, ["TESTS += one\nTESTS +=\nTESTS += two\n", "TESTS += one\n"], ("a",), 2),
        (TESTS, [], ("a",), 0),
        (OBJECTS, ["X += a/b.c\nX += a/c.c\nheader.h"], ("a", "b"), 2),
        (KBUILD[0], [], ("a", "b"), 2),
        (KBUILD[1], ["LD [M]"], ("a", "b"), 4),
    ],
)
def test_prediction(work: Work, texts: list[str], modules: tuple[str, ...], count: int) -> None:
    assert predict(work, texts, modules) == count


def test_a_whole_build_ends_at_its_total() -> None:
    progress = Progress([(TESTS, 2), (OBJECTS, 2), (KBUILD[0], 1), (KBUILD[1], 2)])
    assert progress.total == 2 + 3 * 3 + 2
    seen = []
    for line in (
        "make[1]: Entering directory '/x'",
        " TEST: one",
        " TEST: two",
        "  CC [M]  /build/a/b.o",
        "  CC [M]  /build/a/c.o",
        "#define TEST: x",
        "  LD [M]  /build/a.o",
        "  CC [M]  /build/a.mod.o",
        "  LD [M]  /build/a.ko",
    ):
        if progress.line(line):
            seen.append(progress.done)
    assert seen == [1, 2, 5, 8, 9, 12, 13]


def test_done_never_passes_a_total_that_was_too_low() -> None:
    progress = Progress([(OBJECTS, 1)])
    for _ in range(3):
        assert progress.line("  CC [M]  x.o")
    assert (progress.done, progress.total) == (3, 3)
