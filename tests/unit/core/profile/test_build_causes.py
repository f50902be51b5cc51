"""From a failed build's log to a cause and a remedy."""

from __future__ import annotations

import pytest

from modulus.core.profile.build_causes import SHOWN_LINES, Cause, Diagnosis

RELEASE = "6.12.1-test"


def verdict(*lines: str, causes: tuple[Cause, ...] = ()) -> tuple[str, str]:
    diagnosis = Diagnosis(causes, RELEASE)
    for line in lines:
        diagnosis.line(line)
    return diagnosis.verdict("it failed", "read the log")


@pytest.mark.parametrize(
    ("line", "cause", "remedy"),
    [
        ("/bin/sh: 1: gcc-12: not found", "toolchain lacks", "toolchains"),
        ("make[3]: gcc-12: No such file or directory", "toolchain lacks", "toolchains"),
        ("build.sh: 21: patch: not found", "toolchain lacks", "toolchains"),
        ("gcc: error: unrecognized command-line option '-fzero'", "is not the one", "tool"),
        ("/src/a.h:9:10: fatal error: stdarg.h: No such file or directory", "half", "{source}"),
        ("gcc-12: fatal error: Killed signal terminated program cc1", "memory", "memory_max"),
        ("cc1: out of memory allocating 65536 bytes", "memory", "build.jobs"),
        ("virtual memory exhausted: Cannot allocate memory", "memory", "build.jobs"),
        ("/bin/sh: line 1:   812 Killed    gcc-12 -c", "memory", "build.jobs"),
        ("/bin/sh: 0: Cannot fork", "processes", "build.jobs"),
        ("sh: fork: retry: Resource temporarily unavailable", "processes", "build.jobs"),
        ("make: /bin/sh: Resource temporarily unavailable", "processes", "build.jobs"),
        ("/tmp/ccX.s: Fatal error: can't write: No space left on device", "no space", "gc"),
        ("/bin/sh: 1: ./tools/objtool/objtool: not found", "objtool", "headers"),
        ("nv.o: error: objtool: missing symbol for section .text", "objtool", "headers"),
        (
            "./tools/objtool/objtool: error while loading shared libraries: libelf.so.1: "
            "cannot open shared object file: No such file or directory",
            "shared library",
            "libelf1",
        ),
        ("LLVM ERROR: Read-only file system", "cache beside its headers", "update the kernel"),
        (
            "ld.lld: error: can't create cache directory .thinlto-cache: Permission denied",
            "cache beside its headers",
            "update the kernel",
        ),
        ("ld: unrecognised emulation mode: llvm", "LLVM's", "LD"),
        ("ld: a.o: file not recognized: file format not recognized", "LLVM's", "LD"),
        ('WARNING: Symbol version dump "/b/Module.symvers" is missing.', "symvers", "headers"),
        ("/bin/sh: 1: pahole: not found", "BTF", "CONFIG_DEBUG_INFO_BTF_MODULES="),
        ("FAILED: load BTF from vmlinux: Invalid argument", "BTF", "BTF_MODULES="),
        ("make[2]: warning:  Clock skew detected.  Your build may be incomplete.", "clock", ""),
        ("The kernel you are installing for is a PREEMPT_RT kernel!", "real-time", "without"),
        (
            "ERROR: modpost: GPL-incompatible module x.ko uses GPL-only symbol 'f'",
            RELEASE,
            "another flavour",
        ),
        ('ERROR: modpost: "f" [/build/x.ko] undefined!', f"fit kernel {RELEASE}", "version"),
        ("/build/a.c:1:2: error: redefinition of 'f'", f"fit kernel {RELEASE}", "version"),
        (
            "/build/a.c:1:2: error: implicit declaration of function 'f'",
            "do not fit",
            "version",
        ),
        ("/build/a.c:1:2: fatal error: linux/gone.h: No such file or directory", "fit", "vers"),
        (
            "make[1]: *** No rule to make target 'x.c', needed by 'x.o'.  Stop.",
            "lack",
            "headers",
        ),
        ("Hunk #2 FAILED at 31.", "patch", "profile"),
        ("a.c:3:1: internal compiler error: in f, at g.c:1", "crashed", "build.jobs: 1"),
    ],
)
def test_known_causes(line: str, cause: str, remedy: str) -> None:
    message, hint = verdict("  CC [M]  /build/a.o", line, "make: *** [Makefile:9] Error 2")
    assert cause.lower() in message.lower()
    assert line.strip() in message
    assert remedy in hint


@pytest.mark.parametrize(
    "line",
    [
        "Skipping BTF generation for /build/x.ko due to unavailability of vmlinux",
        "NV_CFLAGS=-Werror=strict-prototypes -Werror=implicit-function-declaration",
        "Linux host 6.1.0-9-rt #1 SMP PREEMPT_RT Debian 6.1.1 x86_64 GNU/Linux",
        "/build/a.o: warning: objtool: f() falls through to next function g()",
        " CONFTEST: preempt_rt_sanity_check",
        "a.c:3:4: warning: unused variable 'error'",
        "  CC [M]  /build/error.o",
    ],
)
def test_what_is_no_error(line: str) -> None:
    assert verdict(line) == ("it failed", "read the log")


def test_the_first_real_error_counts_and_not_its_aftermath() -> None:
    message, hint = verdict(
        "make[2]: *** [Makefile:1: x] Error 1",
        "something.sh: error: the first",
        "other.sh: error: the second",
    )
    assert (message, hint) == ("something.sh: error: the first", "read the log")


def test_a_surer_cause_wins_wherever_it_stands() -> None:
    misfit = "/build/a.c:1:2: error: 'x' undeclared"
    full = "/tmp/x.s: No space left on device"
    assert verdict(misfit, full) == verdict(full, misfit)
    assert "no space" in verdict(misfit, full)[0]


def test_the_profile_knows_better() -> None:
    own = Cause("FUSION is off", "{release} lacks FUSION", "use a kernel with FUSION")
    assert verdict("a.c:1:1: error: FUSION is off", causes=(own,)) == (
        f"{RELEASE} lacks FUSION: a.c:1:1: error: FUSION is off",
        "use a kernel with FUSION",
    )


def test_shows_the_last_error_lines_or_the_last_lines() -> None:
    diagnosis = Diagnosis((), RELEASE)
    for number in range(40):
        diagnosis.line(f"line {number}")
    assert diagnosis.shown == tuple(f"line {n}" for n in range(40 - SHOWN_LINES, 40))
    for number in range(40):
        diagnosis.line(f"a.c:{number}:1: error: x")
        diagnosis.line("quiet")
    assert len(diagnosis.shown) == SHOWN_LINES
    assert diagnosis.shown[-1] == "a.c:39:1: error: x"


def test_a_message_stays_one_readable_line() -> None:
    message, _ = verdict("a.c:1:1: error: " + "x" * 5000)
    assert len(message) < 400


@pytest.mark.parametrize(
    ("lines", "is_lasting"),
    [
        (["a.c:1:2: error: too few arguments", "make: *** [a.o] Error 1"], True),
        (['ERROR: modpost: "x" [a.ko] undefined!', "make: *** [modpost] Error 1"], True),
        (["a.c:1:2: error: x", "b.s: No space left on device"], False),
        (["a.c:1:2: error: x", "cc1: out of memory"], False),
        (["a.c:1:2: internal compiler error: Segmentation fault"], False),
        (["sh: cannot fork", "make: *** [a.o] Error 2"], False),
        (["make: *** [a.o] Error 1"], False),
        ([], False),
    ],
)
def test_what_the_same_build_would_fail_by_again(lines: list[str], is_lasting: bool) -> None:
    diagnosis = Diagnosis((), RELEASE)
    for line in lines:
        diagnosis.line(line)
    assert diagnosis.is_lasting is is_lasting
