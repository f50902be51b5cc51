"""``verify`` from end to end, on a node whose driver was at work until something happened."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakedriver import GPU, RELEASE, FakeNode, fake_node
from tests.support.fakesys import PCI
from tests.support.headertrees import write

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")

Change = Callable[[FakeNode], object]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    """Its driver is at work."""
    for node in fake_node(tmp_path, monkeypatch):
        assert node.run("up", "gpu-1.0") == 0
        node.ran()
        yield node


def verify(node: FakeNode, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """The value that ``verify --json`` prints, and its exit code."""
    capsys.readouterr()
    code = node.run("verify", "--json", *words)
    return json.loads(capsys.readouterr().out) | {"code": code}


def test_a_driver_that_is_right_has_no_findings(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ((), ("gpu-1.0",)):
        assert verify(node, capsys, *words) == {"ok": True, "findings": [], "code": 0}
    assert node.ran() == []
    assert node.run("verify") == 0
    assert "gpu-1.0" in capsys.readouterr().out


def version_is(node: FakeNode, module: str, version: str) -> None:
    write(node.root / f"sys/module/{module}/version", f"{version}\n")


def noexec(node: FakeNode) -> None:
    mounts = (
        "20 1 8:1 / / rw - ext4 /dev/vda1 rw\n21 20 8:2 / /opt rw,noexec - ext4 /dev/vdb rw\n"
    )
    write(node.root / "proc/1/mountinfo", mounts)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            lambda node: shutil.rmtree(node.root / "sys/module/gpu_uvm"),
            ["module-missing loaded error"],
        ),
        (
            lambda node: write(node.root / "sys/module/gpu_uvm/initstate", "coming\n"),
            ["module-missing loaded error"],
        ),
        (
            lambda node: version_is(node, "gpu_uvm", "1.1"),
            ["module-version loaded error"],
        ),
        (
            lambda node: version_is(node, "gpu", "1.1"),
            ["module-version loaded error", "library-version usable error"],
        ),
        (
            lambda node: write(node.root / f"lib/modules/{RELEASE}/updates/gpu.ko.xz", ""),
            ["foreign-module loaded warning"],
        ),
        (
            lambda node: (node.root / "dev/gpu0").unlink(),
            ["missing-node nodes error"],
        ),
        (
            lambda node: (node.root / "dev/gpu-uvm").chmod(0o600),
            ["stale-node nodes error"],
        ),
        (
            lambda node: (node.root / "dev/char/195:0").unlink(),
            ["missing-link nodes warning"],
        ),
        (
            lambda node: (node.link / "lib/libgpu.so.1").unlink(),
            ["generation-files usable error", "library-missing usable error"],
        ),
        (
            lambda node: (node.link / "lib/libgpu.so.1.0").write_bytes(b""),
            ["generation-files usable error"],
        ),
        (
            lambda node: (node.link / "bin/gpu-tool").unlink(),
            ["generation-files usable error"],
        ),
        (
            lambda node: [path.unlink() for path in node.link.rglob("gpu.bin")],
            ["generation-files loaded error"],
        ),
        (
            lambda node: (node.root / "etc/ld.so.cache").unlink(),
            ["library-unresolved usable error"],
        ),
        (noexec, ["opt-noexec usable error"]),
        (
            lambda node: write(node.root / PCI / GPU / "numa_node", "-1\n"),
            ["numa-node usable info"],
        ),
    ],
    ids=[
        "module gone",
        "module that never started",
        "module of another version",
        "driver of another version",
        "foreign module",
        "node gone",
        "node with another mode",
        "link gone",
        "link of a library gone",
        "library empty",
        "tool gone",
        "firmware gone",
        "cache gone",
        "noexec",
        "no NUMA node",
    ],
)
def test_what_is_wrong_is_found_and_left_as_it_is(
    node: FakeNode, capsys: pytest.CaptureFixture[str], change: Change, found: list[str]
) -> None:
    change(node)
    before = node.everything()
    done = verify(node, capsys)
    told = [f"{one['id']} {one['level']} {one['severity']}" for one in done["findings"]]
    assert told == found
    wrong = [one for one in done["findings"] if one["severity"] == "error"]
    assert (done["ok"], done["code"]) == ((False, 19) if wrong else (True, 0))
    if wrong:
        first = f"{wrong[0]['message']}: {wrong[0]['cause']}"
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        assert done["error"] == {
            "code": 19,
            "message": first + more,
            "hint": wrong[0]["fix"],
        }
    assert (node.everything(), node.ran()) == (before, [])
    assert node.run("verify") == done["code"]
    output = capsys.readouterr()
    for finding in done["findings"]:
        assert finding["message"] in output.out
        assert finding["fix"] in output.out


@pytest.mark.parametrize(
    ("level", "code"), [("usable", 19), ("nodes", 0), ("loaded", 0)], ids=str
)
def test_all_is_told_and_what_counts_is_a_setting(
    node: FakeNode, capsys: pytest.CaptureFixture[str], level: str, code: int
) -> None:
    node.configure(drivers={"gpu": {"ready_when": level}})
    (node.root / "etc/ld.so.cache").unlink()
    done = verify(node, capsys)
    assert done["code"] == code
    (finding,) = done["findings"]
    assert finding["id"] == "library-unresolved"
    # What does not count is no error.
    assert finding["severity"] == ("error" if code else "warning")
    assert ("error" in done) is (code != 0)
    assert node.run("verify") == code
    assert (code != 0) is ("error" in capsys.readouterr().out)
