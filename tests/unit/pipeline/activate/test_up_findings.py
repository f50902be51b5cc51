"""What ``up`` tells of that is wrong, and whether it counts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bringup import INSTALL, LOAD, Change, up
from tests.support.fakedriver import NODES, RELEASE, FakeNode, fake_node
from tests.support.headertrees import write

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    yield from fake_node(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("kernel", "said", "code", "cause"),
    [
        ("Loading of unsigned module is rejected", "", 16, "only modules that are signed"),
        ("", "modprobe: ERROR: Key was rejected by service", 16, "signed with a key"),
        ("gpu: version magic '5.10 ' should be '6.1 '", "", 16, "built for another kernel"),
        ("gpu: disagrees about version of symbol x", "", 16, "against another kernel"),
        ("gpu: Unknown symbol abc (err -2)", "", 16, "needs symbols"),
        ("gpu: `x' invalid for parameter `y'", "", 10, "the value of an option"),
        ("", "modprobe: ERROR: Cannot allocate memory", 14, "too little memory"),
        ("gpu 0000:00:05.0: GPU is too old", "No such device", 15, "too old for this driver"),
        ("gpu: the firmware is missing", "No such device", 16, "firmware is not found"),
        ("gpu: registers claimed by another", "No such device", 17, "another driver has"),
        ("gpu: no GPU found", "No such device", 18, "no GPU for it"),
        ("gpu 0000:00:05.0: it does not answer", "No such device", 19, "a GPU does not answer"),
        ("gpu: it is Monday", "modprobe: ERROR: Bad day", 16, "gpu: it is Monday"),
        ("", "", 16, "modprobe does not say why"),
    ],
)
def test_a_kernel_that_refuses_the_driver_is_explained(
    node: FakeNode,
    capsys: pytest.CaptureFixture[str],
    kernel: str,
    said: str,
    code: int,
    cause: str,
) -> None:
    node.says("gpu", kernel, fails=said)
    done = up(node, capsys)
    error = done["error"]
    assert (done["code"], error["code"]) == (code, code)
    assert error["message"].startswith("gpu was not loaded: ")
    assert cause in error["message"]
    assert f"modulus: error: {error['message']}\nmodulus: hint: {error['hint']}" in done["said"]
    state = node.state()
    assert (state["phase"], state["error"]) == ("failed", error)
    assert (node.ran(), node.nodes()) == (INSTALL + LOAD[:-1], {})
    (node.tools / "gpu.fail").unlink()
    assert up(node, capsys)["phase"] == "ready"
    assert node.ran() == LOAD[2:]


def test_what_the_kernel_says_of_one_gpu_is_a_warning_where_others_work(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.says("gpu", "gpu 0000:00:06.0: GPU is too old")
    done = up(node, capsys)
    assert (done["code"], done["phase"]) == (0, "ready")
    assert [(one["id"], one["severity"]) for one in done["findings"]] == [
        ("kernel-log-unsupported", "warning")
    ]
    assert "warning: gpu 0000:00:06.0: GPU is too old" in done["said"]
    assert node.state()["findings"] == done["findings"]


def test_what_is_wrong_beyond_the_level_of_readiness_is_a_warning(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.configure(ready_when="loaded")
    write(node.root / "dev/gpu0", "mine\n")
    done = up(node, capsys)
    assert (done["code"], done["phase"]) == (0, "ready")
    (finding,) = done["findings"]
    assert (finding["level"], finding["severity"]) == ("nodes", "warning")
    assert f"warning: {finding['message']}" in done["said"]


def test_a_module_to_load_before_may_fail(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.says("helper", fails="no")
    done = up(node, capsys)
    assert done["code"] == 0
    assert "helper was not loaded before gpu" in done["said"]


@pytest.mark.parametrize(
    ("level", "code"), [("usable", 19), ("nodes", 0), ("loaded", 0)], ids=str
)
def test_what_is_wrong_counts_up_to_the_level_that_is_wanted(
    node: FakeNode, capsys: pytest.CaptureFixture[str], level: str, code: int
) -> None:
    write(node.tools / "ldconfig", "#!/bin/sh\n", 0o755)
    done = up(node, capsys, "--set", f"ready_when={level}")
    assert done["code"] == code
    wrong = "the dynamic linker does not find libgpu.so.1"
    assert (wrong in done["said"]) is (code != 0)
    state = node.state()
    if code:
        assert done["error"]["message"].startswith(f"{wrong}: /etc/ld.so.cache has no such")
        assert (state["phase"], state["error"]) == ("failed", done["error"])
    else:
        assert (state["phase"], state["error"], done["findings"]) == ("ready", None, [])
    # The driver is loaded all the same, and stays.
    assert tuple(node.nodes()) == NODES


@pytest.mark.parametrize(
    ("change", "ids"),
    [
        (lambda node: node.params(modify=0), ["unmanaged-node"] * 2),
        (
            lambda node: write(
                node.root / "lib/modules" / RELEASE / "updates/dkms/gpu.ko.xz", ""
            ),
            ["foreign-module"],
        ),
    ],
    ids=["unmanaged", "foreign"],
)
def test_a_warning_keeps_no_driver_from_being_ready(
    node: FakeNode, capsys: pytest.CaptureFixture[str], change: Change, ids: list[str]
) -> None:
    change(node)
    done = up(node, capsys)
    assert (done["code"], done["phase"]) == (0, "ready")
    assert [finding["id"] for finding in done["findings"]] == ids
    assert {finding["severity"] for finding in done["findings"]} == {"warning"}
    for finding in done["findings"]:
        assert f"{finding['message']}: {finding['cause']}; {finding['fix']}" in done["said"]
    assert node.state()["findings"] == done["findings"]


def test_a_foreign_file_in_the_way_of_a_node_is_an_error(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    write(node.root / "dev/gpu0", "mine\n")
    done = up(node, capsys)
    assert done["code"] == 19
    assert done["error"]["message"].startswith("/dev/gpu0 cannot be made")
    assert (node.root / "dev/gpu0").read_text() == "mine\n"
