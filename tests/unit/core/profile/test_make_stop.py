"""What made make stop, found in a log in which much else looks like an error."""

from __future__ import annotations

from modulus.core.profile.build_causes import Diagnosis

RELEASE = "6.12.1-test"

OBJTOOL = (
    "./tools/objtool/objtool: error while loading shared libraries: libelf.so.1: "
    "cannot open shared object file: No such file or directory"
)
AFTER = (
    "make[2]: *** [/usr/src/linux/source/Makefile:1938: /build] Error 2",
    "make[1]: *** [/usr/src/linux/source/Makefile:238: __sub-make] Error 2",
    "make: *** [Makefile:55: v4l2loopback.ko] Error 2",
)


def verdict(*lines: str) -> tuple[str, str]:
    diagnosis = Diagnosis((), RELEASE)
    for line in lines:
        diagnosis.line(line)
    return diagnosis.verdict("it failed", "read the log")


def test_a_file_that_a_makefile_asks_for_in_vain_is_no_cause() -> None:
    """v4l2loopback 0.15.0 on a host without libelf: its makefile reads DKMS's settings."""
    message, hint = verdict(
        "Building v4l2-loopback driver...",
        "grep: /etc/dkms/framework.conf: No such file or directory",
        "make[1]: Entering directory '/usr/src/linux/build'",
        "  CC [M]  /build/v4l2loopback.o",
        OBJTOOL,
        "make[3]: *** [/usr/src/linux/source/scripts/Makefile.build:255: "
        "/build/v4l2loopback.o] Error 127",
        *AFTER,
    )
    assert OBJTOOL in message
    assert "lacks a shared library" in message
    assert "libelf1" in hint


def test_a_known_cause_elsewhere_is_none() -> None:
    probe = "/bin/sh: 1: pahole: not found"
    told = "tool.sh: error: it does not work"
    lines = (
        probe,
        "  CC [M]  /build/a.o",
        told,
        "make[3]: *** [Makefile:1: /build/a.o] Error 1",
    )
    assert verdict(*lines, *AFTER) == (told, "read the log")


def test_a_failure_that_make_bears_is_none() -> None:
    told = "gen: error: nothing there"
    message, _ = verdict(
        "try.sh: error: not this way",
        "make[1]: *** [Makefile:9: try] Error 1",
        "make: [Makefile:4: first] Error 2 (ignored)",
        "  GEN     out",
        told,
        "make[1]: *** [Makefile:9: out] Error 1",
        "make: *** [Makefile:5: second] Error 2",
    )
    assert message == told


def test_the_first_of_several_jobs_counts_and_its_own_words() -> None:
    message, _ = verdict(
        "  CC [M]  /build/a.o",
        "  CC [M]  /build/b.o",
        "/build/b.c:7:1: error: of b",
        "/build/a.c:3:1: error: of a",
        "/build/a.c:4:1: error: that follows from it",
        "/build/b.c:8:1: error: more of b",
        "make[3]: *** [Makefile:1: /build/a.o] Error 1",
        "make[3]: *** Waiting for unfinished jobs....",
        "make[3]: *** [Makefile:1: /build/b.o] Error 1",
        *AFTER,
    )
    assert "/build/a.c:3:1: error: of a" in message


def test_of_what_a_target_says_the_first_error_counts() -> None:
    message, hint = verdict(
        "  CC [M]  /build/a.o",
        "clang: error: unknown argument: '-mfunction-return=thunk-extern'",
        "clang: error: something that follows",
        "make[2]: *** [Makefile:1: /build/a.o] Error 1",
        *AFTER[1:],
    )
    assert "-mfunction-return" in message
    assert "toolchains" in hint


def test_of_what_names_no_file_the_last_counts() -> None:
    message, _ = verdict(
        "check: error: tolerated",
        "gen: error: final",
        "make[1]: *** [Makefile:1: made] Error 1",
        "make: *** [Makefile:2: all] Error 2",
    )
    assert message == "gen: error: final"


def test_a_target_whose_output_looks_like_no_error_is_told_by_its_last_line() -> None:
    message, _ = verdict(
        "grep: x: No such file or directory",
        "  LD [M]  /build/a.ko",
        "something is amiss",
        "make[2]: *** [Makefile:1: /build/a.ko] Error 1",
        "make[2]: *** Deleting file '/build/a.ko'",
        "make[1]: *** [Makefile:2: /build] Error 2",
    )
    assert message == "something is amiss"


def test_what_make_itself_says_counts() -> None:
    for told in (
        "/build/Makefile:17: *** this driver wants another kernel.  Stop.",
        "make[1]: *** [Makefile:1: /build/a.o] Segmentation fault",
        "make[1]: *** No rule to make target 'x.c', needed by 'x.o'.  Stop.",
    ):
        message, _ = verdict(
            "grep: x: No such file or directory", told, "make: *** [Makefile:2: all] Error 2"
        )
        assert told in message


def test_what_the_script_says_after_make_counts() -> None:
    told = "build.sh: error: make built no module a"
    assert verdict("grep: x: No such file or directory", told)[0] == told


def test_a_full_disk_counts_wherever_it_is_told() -> None:
    message, _ = verdict(
        "/tmp/x.s: No space left on device",
        "  LD [M]  /build/a.o",
        "ld: error: no input",
        "make: *** [Makefile:2: /build/a.o] Error 1",
    )
    assert "no space" in message
