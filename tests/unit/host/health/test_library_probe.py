"""Asks the C library, whose functions return, crash and hang as those of any other."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modulus.core.generation.ldcache import find_library, parse_ldcache
from modulus.core.profile.libraries import Answer, Library, Reply
from modulus.host.health import library_probe, library_probe_child

FINE = Library("libc.so.6", init="abs", arguments=(0,))


@pytest.fixture
def libc(tmp_path: Path) -> Path:
    """The C library by a path of its own, so that who uses it can be told."""
    cache = parse_ldcache(Path("/etc/ld.so.cache").read_bytes())
    real = find_library("libc.so.6", platform.machine(), cache)
    assert real
    link = tmp_path / "libc.so.6"
    link.symlink_to(real)
    return link


def users(path: Path) -> list[int]:
    """The processes that ask the library at ``path``, zombies left out."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if str(path).encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def eventually_unused(path: Path) -> bool:
    deadline = time.monotonic() + 5
    while users(path) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not users(path)


@pytest.mark.parametrize(
    ("library", "replies"),
    [
        (FINE, (Reply("abs", 0),)),
        (Library("l", init="abs", arguments=(3,)), (Reply("abs", 3),)),
        (
            Library("l", init="abs", arguments=(2,), text="strerror"),
            (Reply("abs", 2, "No such file or directory"),),
        ),
    ],
)
def test_what_a_library_returns(
    libc: Path, library: Library, replies: tuple[Reply, ...]
) -> None:
    assert library_probe.ask(library, libc) == Answer(library.name, replies)


def test_a_library_cannot_change_what_is_in_dev(libc: Path) -> None:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("this process may not keep it from that")
    folder = Path(f"/dev/modulus-test-{os.getpid()}")
    library = Library("l", init="abs", arguments=(0,), device="mkdir")
    try:
        answer = library_probe.ask(library, libc, [str(folder)])
        assert answer.replies[1:] == (Reply("mkdir", -1, "", str(folder)),)
        assert not folder.exists()
    finally:
        if folder.exists():
            folder.rmdir()


def test_each_device_is_asked_about(libc: Path) -> None:
    # The number that an address begins with is the status.
    library = Library("l", init="abs", arguments=(0,), device="atoi", text="strerror")
    answer = library_probe.ask(library, libc, ["0000:05:00.0", "0002:06:00.0", "0000:07:00.0"])
    assert answer == Answer(
        "l",
        (
            Reply("abs", 0),
            Reply("atoi", 0, "", "0000:05:00.0"),
            Reply("atoi", 2, "No such file or directory", "0002:06:00.0"),
            Reply("atoi", 0, "", "0000:07:00.0"),
        ),
    )


def test_a_library_that_does_not_come_up_is_asked_about_no_device(libc: Path) -> None:
    library = Library("l", init="abs", arguments=(1,), device="atoi")
    assert library_probe.ask(library, libc, ["0000:05:00.0"]).replies == (Reply("abs", 1),)


def test_a_device_is_named_and_given_a_place_for_its_handle(libc: Path) -> None:
    # The place is eight bytes of nothing: an empty string.
    library = Library("l", init="abs", arguments=(0,), device="strcmp")
    assert library_probe.ask(library, libc, ["5"]).replies[1].status > 0
    assert library_probe.ask(library, libc, [""]).replies[1].status == 0


@pytest.mark.parametrize(
    ("library", "problem"),
    [
        (Library("l", init="raise", arguments=(11,)), "raise crashed (SIGSEGV)"),
        (Library("l", init="raise", arguments=(40,)), "raise crashed (signal 40)"),
        (Library("l", init="exit", arguments=(3,)), "exit ended its process"),
        (Library("l", init="_exit", arguments=(0,)), "_exit ended its process"),
        (Library("l", init="nothing"), "{path}: undefined symbol: nothing"),
    ],
)
def test_what_a_library_does_to_its_process(libc: Path, library: Library, problem: str) -> None:
    answer = library_probe.ask(library, libc)
    assert answer == Answer("l", (), problem.format(path=libc))


def test_what_was_replied_before_a_crash_counts(libc: Path) -> None:
    library = Library("l", init="abs", arguments=(0,), device="strlen", text="nothing")
    answer = library_probe.ask(library, libc, ["", "xx"])
    assert answer.replies == (Reply("abs", 0), Reply("strlen", 0, device=""))
    assert answer.problem == f"{libc}: undefined symbol: nothing"


def test_no_library(tmp_path: Path) -> None:
    problem = library_probe.ask(FINE, tmp_path / "gone.so").problem
    assert problem == (
        f"{tmp_path}/gone.so: cannot open shared object file: No such file or directory"
    )
    (tmp_path / "bad.so").write_text("no library at all")
    assert "file too short" in str(library_probe.ask(FINE, tmp_path / "bad.so").problem)


def test_a_library_that_hangs(libc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_probe, "SECONDS", 0.2)
    monkeypatch.setattr(library_probe, "SECONDS_PER_DEVICE", 0.1)
    library = Library("l", init="abs", arguments=(0,), device="pause")
    answer = library_probe.ask(library, libc, ["0000:05:00.0"])
    assert answer == Answer("l", (Reply("abs", 0),), "pause did not return within 0.3 s")
    assert eventually_unused(libc)


def test_a_child_that_says_nothing(
    libc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_probe, "SECONDS", 0.1)
    monkeypatch.setattr(library_probe, "_GRACE", 0.2)
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setattr(library_probe, "PYTHON", (script,))
    assert "ran out of time" in str(library_probe.ask(FINE, libc).problem)
    script.write_text("#!/bin/sh\necho 7; echo '{'; echo out of memory; exit 3\n")
    assert "failed with status 3" in str(library_probe.ask(FINE, libc).problem)
    script.unlink()
    assert "not installed" in str(library_probe.ask(FINE, libc).problem)


def test_who_asks_is_not_outlived(libc: Path) -> None:
    request: dict[str, object] = {
        "library": str(libc), "init": "pause", "arguments": [], "device": None, "devices": [],
        "text": None, "seconds": 60,
    }  # fmt: skip
    argv = [sys.executable, "-I", "-S", library_probe_child.__file__, json.dumps(request)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        said = [json.loads(child.stdout.readline())["calling"] for _ in range(2)]
        assert said == ["dlopen", "pause"]
        assert len(users(libc)) == 2
        child.kill()
    assert eventually_unused(libc)


def test_the_child_starts_quickly() -> None:
    """It imports nothing of ours, and little else."""
    child = library_probe_child.__file__
    code = f"import sys, runpy; runpy.run_path({child!r}); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "ctypes" in loaded
    assert not loaded & {"modulus", "site", "subprocess", "typing_extensions", "sh"}
