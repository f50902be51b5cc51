"""What kernel and header packages run: it only rings, and never fails them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HOOK = Path(__file__).parents[3] / "units/modulus.kernel-hook"
BELL = "run/modulus/kernels"


def run(root: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [HOOK, *words],
        env={"PATH": os.environ["PATH"], "DPKG_ROOT": str(root)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("6.1.0-2-a", "/boot/vmlinuz-6.1.0-2-a"),
        ("6.1.0-2-a",),
        ("add", "6.1.0-2-a", "/boot/entry", "/boot/vmlinuz"),
        (),
    ],
)
def test_it_rings_for_the_agents(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / BELL).mkdir(parents=True)
    assert run(tmp_path, *words) == (0, "")
    assert [path.name for path in (tmp_path / BELL).iterdir()] == ["changed"]


def test_it_rings_again(tmp_path: Path) -> None:
    (tmp_path / BELL).mkdir(parents=True)
    bell = tmp_path / BELL / "changed"
    bell.touch()
    os.utime(bell, (1, 1))
    assert run(tmp_path, "6.1") == (0, "")
    assert bell.stat().st_mtime > 1


def test_a_removal_is_no_news(tmp_path: Path) -> None:
    (tmp_path / BELL).mkdir(parents=True)
    assert run(tmp_path, "remove", "6.1.0-2-a") == (0, "")
    assert list((tmp_path / BELL).iterdir()) == []


def test_where_no_agent_runs_nothing_is_made(tmp_path: Path) -> None:
    assert run(tmp_path, "6.1") == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_a_bell_that_cannot_be_rung_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / BELL / "changed").mkdir(parents=True)
    (tmp_path / BELL / "changed").rmdir()
    (tmp_path / BELL / "changed").symlink_to("/nowhere/at/all")
    assert run(tmp_path, "6.1") == (0, "")


@pytest.mark.skipif(not shutil.which("kernel-install"), reason="no kernel-install")
def test_kernel_install_takes_it_as_a_plugin(tmp_path: Path) -> None:
    (tmp_path / BELL).mkdir(parents=True)
    plugin = tmp_path / "90-modulus.install"
    shutil.copy(HOOK, plugin)
    image = tmp_path / "vmlinuz"
    image.touch()
    conf = tmp_path / "conf"
    conf.mkdir()
    (conf / "install.conf").write_text(f"layout=other\nBOOT_ROOT={tmp_path}\n")
    done = subprocess.run(
        ["kernel-install", "add", "6.1.0-2-a", image],
        env={
            "PATH": os.environ["PATH"],
            "DPKG_ROOT": str(tmp_path),
            "KERNEL_INSTALL_PLUGINS": str(plugin),
            "KERNEL_INSTALL_CONF_ROOT": str(conf),
            "BOOT_ROOT": str(tmp_path),
            "MACHINE_ID": "0" * 31 + "1",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / BELL / "changed").exists()
