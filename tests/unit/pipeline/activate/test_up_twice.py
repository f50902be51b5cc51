"""Two ``up`` at once, and a warm one that does no more than it must."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.errors import RefusedError
from modulus.host.files.lock import locked
from modulus.host.report.reporter import PlainReporter
from tests.support.bringup import Change, up
from tests.support.fakedriver import GPU, FakeNode, fake_node
from tests.support.fakepackage import MODULES
from tests.support.headertrees import write
from tests.support.syncs import note_synced

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    yield from fake_node(tmp_path, monkeypatch)


def change_a_byte(path: Path) -> None:
    """Of its end, so that it stays a module."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


HOLDER = """\
import sys
from pathlib import Path
from modulus.core.status.state import State
from modulus.host.files.lock import locked
from modulus.host.report.reporter import PlainReporter
from modulus.host.status.files import write_state
root = Path(sys.argv[1])
with locked(root / "run/modulus/locks/up-gpu", "it", PlainReporter(), 0):
    write_state(root, State("gpu-1.0", "load"))
    print("at work", flush=True)
    sys.stdin.read()
"""


def test_who_is_locked_out_leaves_the_others_state_alone(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert up(node, capsys)["code"] == 0
    state = node.root / "run/modulus/gpu-1.0.json"
    words, pipe = [sys.executable, "-c", HOLDER, str(node.root)], subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe) as other:
        assert other.stdout and other.stdout.readline() == b"at work\n"
        before = state.read_text()
        assert up(node, capsys, "--lock-timeout", "0.5")["code"] == 20
        assert state.read_text() == before


def test_two_at_once_do_the_work_once(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = node.root / "run/modulus/locks/up-gpu"
    with locked(lock, "it", PlainReporter(), 0):
        done = up(node, capsys, "--lock-timeout", "0")
        assert (done["code"], node.ran()) == (20, [])
        assert f"the driver gpu is held by process {os.getpid()}" in done["error"]["message"]
    taken, free = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(lock, "it", PlainReporter(), 0):
            taken.set()
            free.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(10)
    timer = threading.Timer(0.1, free.set)
    timer.start()
    done = up(node, capsys)
    holder.join()
    assert (done["code"], done["phase"]) == (0, "ready")
    assert "wait: for the driver gpu, held by" in done["said"]


SEE_IMPORTS = f"""\
import sys
sys.path[:0] = {sys.path}
from modulus.cli import run
code = run(sys.argv[1:])
print(code, *sys.modules)
"""
BUILDING = {
    "requests",
    "urllib3",
    "http.client",
    "ssl",
    "modulus.pipeline.build.build",
    "modulus.pipeline.activate.provide",
    "modulus.host.fetch.fetcher",
    "modulus.host.distribution.provisioner",
}


def modules_of_sh() -> set[str]:
    """What the sh of this machine imports by itself."""
    code = f"import sys; sys.path[:0] = {sys.path}; import sh; print(*sys.modules)"
    words = [sys.executable, "-S", "-c", code]
    return set(
        subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    )


@pytest.mark.parametrize(
    ("change", "loads"),
    [
        (lambda _: None, False),
        (lambda node: write(node.module("gpu").with_name("unwanted.ko"), "hashed"), False),
        (FakeNode.reboot, True),
    ],
    ids=["all loaded", "all that is wanted", "booted"],
)
def test_a_warm_start_imports_nothing_that_builds(
    node: FakeNode, change: Change, loads: bool
) -> None:
    node.run("up", "gpu-1.0")
    change(node)
    done = subprocess.run(
        # -S: what this machine has each Python import is not ours.
        [sys.executable, "-S", "-c", SEE_IMPORTS, "up", "gpu-1.0", "--root", str(node.root)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    code, *imported = done.stdout.splitlines()[-1].split()
    assert code == "0"
    assert "modulus.pipeline.activate.up" in imported
    # sh 2 brings ssl, by asyncio.
    assert (BUILDING & set(imported)) - (modules_of_sh() if loads else set()) == set()
    # There is nothing to run where all is loaded.
    assert ("sh" in imported) is loads


def test_what_keeps_the_module_root_from_being_made_is_said_once(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert node.run("up", "gpu-1.0") == 0
    node.reboot()
    node.ran()
    write(node.tools / "depmod", "#!/bin/sh\necho refused >&2\nexit 1\n", 0o755)
    capsys.readouterr()
    assert node.run("up", "gpu-1.0") == RefusedError.code
    said = capsys.readouterr().err
    assert said.count("depmod cannot read the driver's modules: depmod failed") == 1
    assert (node.ran(), node.loaded()) == ([], {})


def test_a_damaged_module_is_not_loaded(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert node.run("up", "gpu-1.0") == 0
    node.reboot()
    change_a_byte(node.module("gpu"))
    node.forget_builds()
    node.ran()
    capsys.readouterr()
    assert node.run("up", "gpu-1.0") != 0
    assert "gpu.ko is not what was installed" in capsys.readouterr().err
    assert (node.ran(), node.loaded()) == ([], {})


def test_a_warm_start_waits_for_no_disk(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it writes is in /run and /dev, which do not outlive a power cut."""
    assert node.run("up", "gpu-1.0") == 0
    node.reboot()
    synced = note_synced(monkeypatch)
    assert node.run("up", "gpu-1.0") == 0
    assert synced == []
    # What lasts is synced.
    (node.root / "var/lib/modulus/gpu/good.json").unlink()
    assert node.run("up", "gpu-1.0") == 0
    assert str(node.root / "var/lib/modulus/gpu") in synced


def test_what_an_older_version_noted_for_anyone_to_read_goes(node: FakeNode) -> None:
    left = write(node.root / "var/lib/modulus/gpu/recall.json", '{"proxy": "secret"}')
    assert node.run("up", "gpu-1.0") == 0
    assert not left.exists()


def test_a_driver_of_one_module_needs_no_userspace_nodes_or_gpu(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.define(pci=[], nodes=[], components={}, libraries=[], preload=[], load=[MODULES[0]])
    node.stock()
    (node.root / "sys/bus/pci/devices" / GPU).unlink()
    done = up(node, capsys)
    assert (done["code"], done["phase"], node.nodes()) == (0, "ready", {})
    assert node.loaded() == {"gpu": "1.0"}
