"""Hashing beside other work."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from modulus.host import files
from modulus.host.hashing import Hashes, hash_modules

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


def test_modules_that_are_not_loaded_are_hashed_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[tuple[str, bool]] = []
    real = files.sha256_file

    def note(path: Path) -> str:
        hashed.append((path.name, threading.current_thread() is threading.main_thread()))
        return real(path)

    monkeypatch.setattr(files, "sha256_file", note)
    folder = root / f"opt/drivers/.gpu/one/lib/modules/{RELEASE}"
    hashes = hash_modules(root, "gpu")
    hashes.settle()
    assert hashed == [("gpu.ko", False)]
    assert hashes.sha256(folder / "gpu.ko") == digest("gpu.ko")
    assert hashed == [("gpu.ko", False)]
    assert hashes.sha256(folder / "gpu-uvm.ko") == digest("gpu-uvm.ko")
    assert hashed == [("gpu.ko", False), ("gpu-uvm.ko", True)]


@pytest.mark.parametrize("gone", ["opt/drivers/gpu", "proc/sys/kernel/osrelease"])
def test_without_a_driver_or_a_kernel_nothing_is_begun(root: Path, gone: str) -> None:
    (root / gone).unlink()
    hash_modules(root, "gpu").settle()


def test_who_asks_for_a_file_that_is_gone_is_told(root: Path) -> None:
    gone = root / "gone.ko"
    hashes = Hashes([gone])
    with pytest.raises(FileNotFoundError):
        hashes.sha256(gone)
