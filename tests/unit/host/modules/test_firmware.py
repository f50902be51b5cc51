from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from modulus.errors import RefusedError
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.kernel.firmware_path import firmware_path
from modulus.host.modules import firmware
from modulus.host.modules.firmware import provide_firmware, release_firmware
from modulus.host.process.run import run
from modulus.host.report.reporter import PlainReporter

FILES = {"gpu/2.0/gsp_a.bin": b"a" * 100, "gpu/2.0/gsp_b.bin": b"b" * 100}


@dataclass(frozen=True)
class Node:
    root: Path
    log: io.StringIO = field(default_factory=io.StringIO)

    @property
    def parameter(self) -> Path:
        return self.root / "sys/module/firmware_class/parameters/path"

    @property
    def record(self) -> Path:
        return self.root / "var/lib/modulus/gpu/firmware.json"

    def generation(self, name: str = "gen", files: dict[str, bytes] | None = None) -> Path:
        folder = self.root / f"opt/drivers/.gpu/{name}/firmware"
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in (FILES if files is None else files).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return folder

    def provide(self, folder: Path) -> bool:
        return provide_firmware(DriverPaths(self.root, "gpu"), folder, PlainReporter(self.log))

    def release(self) -> tuple[str, ...]:
        return release_firmware(DriverPaths(self.root, "gpu"), PlainReporter(self.log))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    node.parameter.parent.mkdir(parents=True)
    # As the kernel shows an empty one.
    node.parameter.write_text("\n")
    return node


def test_an_empty_path_becomes_ours_and_is_emptied_again(node: Node) -> None:
    assert node.provide(node.generation())
    assert node.parameter.read_bytes() == b"/opt/drivers/.gpu/gen/firmware"
    assert not node.provide(node.generation())
    assert node.release() == ("firmware_class.path /opt/drivers/.gpu/gen/firmware",)
    assert firmware_path(node.root) == ""
    assert node.release() == ()
    assert not node.record.exists()


def test_what_another_version_has_recorded_stays(node: Node) -> None:
    node.parameter.write_text("/srv/firmware")
    node.provide(node.generation())
    record = json.loads(node.record.read_text())
    node.record.write_text(json.dumps({**record, "later": 1}))
    assert node.provide(node.generation("new", {"more.bin": b"c"}))
    assert json.loads(node.record.read_text())["later"] == 1


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", '{"files": []}', '{"files": {"/a": 1}, "folders": []}',
     '{"files": {"/a": "b"}, "folders": [[]]}', '{"files": {"/a\\u0000": "b"}, "folders": []}'],
)  # fmt: skip
def test_a_damaged_record_claims_nothing(node: Node, text: str) -> None:
    node.record.parent.mkdir(parents=True)
    node.record.write_text(text)
    node.parameter.write_text("/srv/firmware")
    assert node.release() == ()
    node.record.write_text(text)
    assert node.provide(node.generation())
    assert (node.root / "srv/firmware").is_dir()
    assert node.release()
    assert not (node.root / "srv/firmware").exists()


@pytest.mark.parametrize(
    "value", ["/opt/drivers/.gpu/old/firmware\n", "/opt/drivers/gpu/firmware", "\0"]
)
def test_a_path_of_ours_follows_the_generation(node: Node, value: str) -> None:
    node.generation("old")
    (node.root / "opt/drivers/gpu").symlink_to(".gpu/old")
    node.parameter.write_text(value)
    assert node.provide(node.generation())
    assert firmware_path(node.root) == "/opt/drivers/.gpu/gen/firmware"


def test_the_parameter_gets_one_write_without_newline(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for sysfs: an empty write and truncation do nothing, a NUL empties it."""
    value, writes = b"", []

    def write(handle: int, data: bytes) -> int:
        nonlocal value
        writes.append(data)
        value = data.partition(b"\0")[0] if data else value
        node.parameter.write_bytes(value + b"\n")
        return len(data)

    opens, closes = os.open, os.close

    def opened(path: Path, *more: Any, **named: Any) -> int:
        return -1 if path == node.parameter else opens(path, *more, **named)

    def closed(handle: int) -> None:
        if handle != -1:
            closes(handle)

    monkeypatch.setattr("modulus.host.modules.firmware.os.open", opened)
    monkeypatch.setattr(
        "modulus.host.modules.firmware.os.close",
        lambda handle: None if handle == -1 else closes(handle),
    )
    monkeypatch.setattr("modulus.host.modules.firmware.os.write", write)
    assert node.provide(node.generation())
    assert node.release()
    assert writes == [b"/opt/drivers/.gpu/gen/firmware", b"", b"\0"]
    assert firmware_path(node.root) == ""


def test_a_driver_without_firmware_needs_no_path(node: Node) -> None:
    node.parameter.unlink()
    assert not node.provide(node.generation(files={}))
    assert node.log.getvalue() == ""
    assert not node.provide(node.generation())
    assert "no firmware_class.path" in node.log.getvalue()


@pytest.mark.parametrize("present", [True, False])
def test_someone_elses_path_gets_copies_that_are_taken_away_again(
    node: Node, present: bool
) -> None:
    theirs = node.root / "usr/lib/other"
    if present:
        (theirs / "gpu").mkdir(parents=True)
        (theirs / "gpu/x.bin").write_text("x")
    node.parameter.write_text("/usr/lib/other\n")
    assert node.provide(node.generation())
    assert node.parameter.read_text() == "/usr/lib/other\n"
    for path, content in FILES.items():
        assert (theirs / path).read_bytes() == content
        assert (theirs / path).stat().st_mode & 0o777 == 0o644
        assert (theirs / path).stat().st_nlink == 1
    assert not node.provide(node.generation())
    removed = node.release()
    assert {f"/usr/lib/other/{path}" for path in FILES} <= set(removed)
    assert theirs.exists() == present
    assert [path.name for path in theirs.rglob("*")] == (["gpu", "x.bin"] if present else [])
    assert not node.record.exists()
    assert node.parameter.read_text() == "/usr/lib/other\n"


def test_a_file_that_was_there_already_stays(node: Node) -> None:
    theirs = node.root / "lib/other"
    node.parameter.write_text("/lib/other")
    name, *_ = FILES
    (theirs / name).parent.mkdir(parents=True)
    (theirs / name).write_bytes(FILES[name])
    assert node.provide(node.generation())
    node.release()
    assert [path.name for path in theirs.rglob("*.bin")] == [Path(name).name]


def test_a_file_of_someone_else_is_not_overwritten(node: Node) -> None:
    name, *_ = FILES
    theirs = node.root / "lib/other" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    node.parameter.write_text("/lib/other")
    with pytest.raises(RefusedError, match=f"/lib/other/{name} is not the driver's"):
        node.provide(node.generation())
    assert theirs.read_text() == "theirs"
    assert not node.record.exists()


def test_copies_that_were_changed_are_mended_and_not_removed(node: Node) -> None:
    name, *_ = FILES
    node.parameter.write_text("/lib/other")
    node.provide(node.generation())
    copy = node.root / "lib/other" / name
    copy.write_text("cut sh")
    assert node.provide(node.generation())
    assert copy.read_bytes() == FILES[name]
    copy.write_text("someone's now")
    node.release()
    assert copy.read_text() == "someone's now"


def test_what_a_killed_run_left_is_taken_away(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.parameter.write_text("/lib/other")
    real, calls = firmware._copy_file, []

    def die(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr("modulus.host.modules.firmware._copy_file", die)
    with pytest.raises(KeyboardInterrupt):
        node.provide(node.generation())
    assert len(json.loads(node.record.read_text())["files"]) == 2
    node.release()
    assert not (node.root / "lib/other").exists()


def test_a_folder_that_cannot_be_written_is_refused(node: Node) -> None:
    (node.root / "lib").mkdir()
    (node.root / "lib/other").write_text("no folder")
    node.parameter.write_text("/lib/other")
    with pytest.raises(RefusedError, match="looks for firmware in /lib/other") as error:
        node.provide(node.generation())
    assert "firmware_class.path" in error.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_read_only_folder_and_a_read_only_sysfs_are_refused(node: Node) -> None:
    lib = node.root / "lib"
    lib.mkdir()
    folder = node.generation()
    for mount, value in ((lib, "/lib/other"), (node.root / "sys", "\n")):
        node.parameter.write_text(value)
        run(["mount", "--bind", mount, mount])
        try:
            run(["mount", "-o", "remount,bind,ro", mount])
            with pytest.raises(RefusedError, match="Read-only file system"):
                node.provide(folder)
        finally:
            run(["umount", mount])
