"""What verify looks at where a driver is not active, not loaded, not whole or not ours."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modulus.core.findings import Finding
from modulus.core.health.checks.files import check_files
from modulus.errors import VerifyError
from modulus.pipeline.activate.verify import failure
from tests.support.fakedriver import FakeNode, fake_node
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


def test_what_is_not_active_cannot_be_verified(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    done = verify(node, capsys, "gpu-2.0")
    assert done["code"] == 2
    assert done["error"]["message"] == "gpu-2.0 is not active here: gpu-1.0 is"
    assert node.run("down", "gpu-1.0") == 0
    assert "nothing is" in verify(node, capsys, "gpu-1.0")["error"]["message"]
    # Where nothing is active nothing is wrong.
    assert verify(node, capsys) == {"ok": True, "findings": [], "code": 0}


def test_a_driver_after_a_boot_is_not_loaded_yet(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.reboot()
    done = verify(node, capsys)
    assert done["code"] == 19
    assert [finding["id"] for finding in done["findings"]] == ["module-missing"] * 2
    assert {finding["fix"] for finding in done["findings"]} == {"modulus up gpu-1.0"}
    assert done["error"]["message"].endswith("(and 1 more)")


def test_what_has_its_size_is_hashed_only_if_that_is_asked_for(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = node.link / "bin/gpu-tool"
    tool.write_text(tool.read_text().replace("1", "2"))
    assert verify(node, capsys)["ok"]
    for words in ((), ("gpu-1.0",)):
        assert node.run("verify", *words, "--deep", "--json") == 19
        (finding,) = json.loads(capsys.readouterr().out)["findings"]
        assert finding["id"] == "generation-files"
        assert finding["cause"] == "bin/gpu-tool has another sha256 than recorded"
        assert finding["fix"] == "modulus up gpu-1.0"


def test_of_many_files_some_are_told() -> None:
    problems = [(path, f"{path} is gone") for path in ("lib/a", "bin/b", "lib/c", "lib/d")]
    (finding,) = check_files("gpu-1.0", "/opt/drivers/gpu", problems)
    assert finding.cause == "lib/a is gone; bin/b is gone; lib/c is gone and 1 more"
    assert not list(check_files("gpu-1.0", "/opt/drivers/gpu", []))


def test_a_module_that_is_no_more_is_damage(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.module("gpu").unlink()
    done = verify(node, capsys)
    assert (done["code"], done["error"]["code"]) == (19, 19)
    (finding,) = [one for one in done["findings"] if one["id"] == "module-file"]
    assert "gpu.ko" in finding["message"]
    assert finding["fix"] == "modulus up gpu-1.0"


def make_folder(node: FakeNode) -> None:
    node.link.unlink()
    node.link.mkdir()


@pytest.mark.parametrize("selected", [True, False])
@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda node: shutil.rmtree(node.link.resolve()), "which is not there"),
        (lambda node: write(node.link / "generation.json", "{"), "cannot be read"),
        (lambda node: (node.link / "generation.json").unlink(), "cannot be read"),
        (make_folder, "/opt/drivers/gpu is not the symlink that Modulus makes"),
        (lambda node: node.link.unlink(), "/opt/drivers/gpu is gone"),
    ],
    ids=["dangling", "garbage", "no manifest", "folder", "gone"],
)
def test_a_driver_without_its_generation_is_not_right(
    node: FakeNode,
    capsys: pytest.CaptureFixture[str],
    damage: Change,
    cause: str,
    selected: bool,
) -> None:
    damage(node)
    if not selected:
        (node.root / "var/lib/modulus/gpu/selected").unlink()
    if not selected and cause.endswith("is gone"):
        assert verify(node, capsys) == {"ok": True, "findings": [], "code": 0}
        return
    for words in ((), ("gpu-1.0",)):
        done = verify(node, capsys, *words)
        (finding,) = done["findings"]
        assert (done["ok"], done["code"], done["error"]["code"]) == (False, 19, 19)
        assert (finding["id"], finding["level"], finding["severity"]) == (
            "generation-missing",
            "loaded",
            "error",
        )
        assert cause in finding["cause"]
        assert finding["fix"].endswith(f"modulus up gpu-{'1.0' if selected else 'VERSION'}")
    if selected:
        assert verify(node, capsys, "gpu-2.0")["code"] == 2


def test_folders_of_others_are_no_drivers(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    (node.link.parent / "other").mkdir()
    (node.link.parent / "README").touch()
    assert verify(node, capsys) == {"ok": True, "findings": [], "code": 0}


def test_no_library_of_another_root_is_asked(
    node: FakeNode, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would answer for the driver of the running system."""
    monkeypatch.setattr("modulus.host.health.verify.ask", None)
    node.define(libraries=[{"name": "libgpu.so.1", "version_of": "gpu", "init": "gpu_init"}])
    assert verify(node, capsys) == {"ok": True, "findings": [], "code": 0}


WRONG = Finding("a-b", "nodes", "error", "A node is wrong", "someone was here", "do this")


@pytest.mark.parametrize(
    ("findings", "level", "error"),
    [
        ([], "usable", None),
        ([WRONG], "loaded", None),
        ([replace(WRONG, severity="warning")], "usable", None),
        ([WRONG], "nodes", "A node is wrong: someone was here"),
        ([WRONG, WRONG, WRONG], "usable", "A node is wrong: someone was here (and 2 more)"),
    ],
)
def test_the_first_error_that_counts_is_the_failure(
    findings: list[Finding], level: str, error: str | None
) -> None:
    found = failure(findings, level)
    assert (found.message if found else None) == error
    assert found is None or (isinstance(found, VerifyError) and found.hint == "do this")
