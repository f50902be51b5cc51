"""Hashing beside other work."""

from __future__ import annotations

import ast
import hashlib
import os
import signal
from pathlib import Path

import pytest

from modulus import cli
from modulus.host import files, hashing
from modulus.host.hashing import Hashes, hash_modules
from modulus.host.recall import Recall

RELEASE = "6.1.0-9-amd64"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with an active driver of two modules for this kernel, one of them loaded."""
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/osrelease").write_text(f"{RELEASE}\n")
    folder = tmp_path / f"opt/drivers/.gpu/one/lib/modules/{RELEASE}"
    folder.mkdir(parents=True)
    (tmp_path / "opt/drivers/gpu").symlink_to(".gpu/one")
    for name in ("gpu.ko", "gpu-uvm.ko"):
        (folder / name).write_text(name)
    (tmp_path / "sys/module/gpu_uvm").mkdir(parents=True)
    return tmp_path


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture(params=[False, True], ids=["plain processor", "with instructions"])
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the processor has instructions for SHA-256."""
    found = bool(request.param)
    monkeypatch.setattr(hashing, "has_instructions", lambda: found)
    return found


def test_modules_that_are_not_loaded_are_hashed_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, instructions: bool
) -> None:
    log, parent = root / "log", os.getpid()
    real = files.hash_file

    def note(path: Path, *algorithms: str) -> list[str]:
        with open(log, "a") as file:
            file.write(f"{(path.name, os.getpid() == parent, algorithms)}\n")
        return real(path, *algorithms)

    def hashed() -> list[tuple[str, bool, tuple[str, ...]]]:
        return [ast.literal_eval(line) for line in log.read_text().splitlines()]

    monkeypatch.setattr(files, "hash_file", note)
    folder = root / f"opt/drivers/.gpu/one/lib/modules/{RELEASE}"
    path = root / "recall.json"
    plain, quick, both = ("sha256",), ("sha512",), ("sha256", "sha512")
    begun = ("gpu.ko", False, plain if instructions else quick)
    first = (("gpu.ko", True, both), ("gpu-uvm.ko", True, both))
    second = (("gpu-uvm.ko", True, plain if instructions else quick),)
    for here in (second if instructions else first, second):
        log.unlink(missing_ok=True)
        recall = Recall(path)
        hashes = hash_modules(root, "gpu")
        hashes.settle()
        assert hashed() == [begun]
        assert hashes.holds(folder / "gpu.ko", digest("gpu.ko"), recall)
        assert hashes.holds(folder / "gpu-uvm.ko", digest("gpu-uvm.ko"), recall)
        assert hashed() == [begun, *here]
        recall.keep()


def test_a_file_that_changed_is_seen_whatever_is_remembered(
    root: Path, instructions: bool
) -> None:
    path = root / f"opt/drivers/.gpu/one/lib/modules/{RELEASE}/gpu.ko"
    recall = Recall()

    def holds(begun: list[Path], sha256: str) -> bool:
        hashes = Hashes(begun)
        held = hashes.holds(path, sha256, recall)
        hashes.settle()  # Not all ask for what was begun.
        return held

    assert holds([path], digest("gpu.ko"))
    path.write_text("gpu.kO")
    assert not holds([path], digest("gpu.ko"))
    assert not holds([], digest("gpu.ko"))
    assert not holds([path], "")


@pytest.mark.parametrize("gone", ["opt/drivers/gpu", "proc/sys/kernel/osrelease"])
def test_without_a_driver_or_a_kernel_nothing_is_begun(root: Path, gone: str) -> None:
    (root / gone).unlink()
    hash_modules(root, "gpu").settle()


def test_who_asks_for_a_file_that_is_gone_is_told(root: Path) -> None:
    gone = root / "gone.ko"
    hashes = Hashes([gone])
    with pytest.raises(FileNotFoundError):
        hashes.holds(gone, digest("gone"), Recall())


def test_what_was_begun_and_never_ended_is_hashed_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, parent, real = tmp_path / "gpu.ko", os.getpid(), files.hash_file
    path.write_text("gpu.ko")

    def end(path: Path, *algorithms: str) -> list[str]:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(path, *algorithms)

    monkeypatch.setattr(files, "hash_file", end)
    assert Hashes([path]).holds(path, digest("gpu.ko"), Recall())


def test_where_no_process_can_be_made_it_is_hashed_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gpu.ko"
    path.write_text("gpu.ko")

    def refuse() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", refuse)
    hashes = Hashes([path])
    assert not hashes.under_way
    assert hashes.holds(path, digest("gpu.ko"), Recall())


@pytest.mark.parametrize(
    ("words", "begun"),
    [
        (["up", "gpu-1.0", "--root", "/tmp"], [(Path("/tmp"), "gpu")]),
        (["up", "gpu-1.0"], [(Path("/"), "gpu")]),
        (["up", "gpu-1.0", "--root"], [(Path("/"), "gpu")]),
        (["up", "--root", "/tmp", "gpu-1.0"], []),
        (["up", "gpu-1.0", "--watch"], []),
        (["up"], []),
        (["down", "gpu-1.0"], []),
        ([], []),
    ],
)
def test_what_up_will_load_is_hashed_before_its_words_are_parsed(
    words: list[str], begun: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[Path, str]] = []

    def note(root: Path, name: str) -> Hashes:
        found.append((root, name))
        return Hashes()

    monkeypatch.setattr(hashing, "hash_modules", note)
    assert (cli.hash_early(words) is not None) == bool(begun)
    assert found == begun
