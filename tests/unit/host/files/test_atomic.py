"""Files that are whole or absent, whatever happens meanwhile."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from modulus.host.files import atomic
from modulus.host.files.digest import hash_file

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_sha256_reads_all_of_a_file_larger_than_one_piece(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    assert hash_file(file) == EMPTY_SHA256
    file.write_bytes(b"x" * (1 << 20) + b"y")
    whole = hash_file(file)
    file.write_bytes(b"x" * (1 << 20) + b"z")
    assert hash_file(file) != whole


@pytest.mark.parametrize(("data", "mode"), [(b"\0\xff", 0o644), ("tëxt\n", 0o600)])
def test_write_atomic(tmp_path: Path, data: bytes | str, mode: int) -> None:
    path = tmp_path / "new" / "deep" / "file"
    atomic.write_atomic(path, "before")
    atomic.write_atomic(path, data, mode)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert names(path.parent) == ["file"]


def test_write_atomic_replaces_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("kept")
    (tmp_path / "link").symlink_to("target")
    atomic.write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "target").read_text() == "kept"
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("call", ["replace", "fsync", "fchmod"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "file"
    atomic.write_atomic(path, "old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space"):
        atomic.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_json_is_the_same_for_the_same_value(tmp_path: Path) -> None:
    atomic.write_json(tmp_path / "a", {"b": 1, "a": [None, "ü"]})
    atomic.write_json(tmp_path / "b", {"a": [None, "ü"], "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert json.loads((tmp_path / "a").read_text()) == {"a": [None, "ü"], "b": 1}


@pytest.mark.parametrize(
    ("name", "plain"),
    [("a.ko", True), ("..a", True), ("", False), (".", False), ("..", False), ("a/b", False),
     ("/a", False), (None, False), (7, False)],
)  # fmt: skip
def test_plain_names(name: object, plain: bool) -> None:
    assert atomic.is_plain_name(name) is plain


def test_tree_size_counts_files_and_follows_nothing(tmp_path: Path) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/a").write_bytes(b"x" * 10)
    (tmp_path / "tree/sub/b").write_bytes(b"x" * 5)
    (tmp_path / "outside").write_bytes(b"x" * 1000)
    (tmp_path / "tree/link").symlink_to("../outside")
    assert atomic.tree_size(tmp_path / "tree") == 15 + len("../outside")
    assert atomic.tree_size(tmp_path / "missing") == 0


def test_fsync_tree_stands_dangling_links(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file").write_text("")
    (tmp_path / "sub/link").symlink_to("nowhere")
    atomic.fsync_tree(tmp_path)


def test_a_tree_is_committed_once(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "final"
    for attempt, won in (("one", True), ("two", False)):
        made = tmp_path / attempt
        made.mkdir(mode=0o700)
        (made / "file").write_text(attempt)
        assert atomic.commit_tree(made, final) is won
        assert made.exists() is not won
    assert (final / "file").read_text() == "one"
    assert stat.S_IMODE(final.stat().st_mode) == 0o755


def test_a_commit_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "final").write_text("a file")
    with pytest.raises(NotADirectoryError):
        atomic.commit_tree(tmp_path / "made", tmp_path / "final")


def test_remove_tree_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("")
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/link").symlink_to(tmp_path / "kept")
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "file").write_text("")
    for name in ("tree", "link", "file", "missing"):
        atomic.remove_tree(tmp_path / name)
    assert names(tmp_path) == ["kept"]
    assert names(tmp_path / "kept") == ["file"]


def test_remove_tree_of_whatever_a_build_left(tmp_path: Path) -> None:
    """Deeper than Python recurses, a path is long and there are descriptors."""
    tree = tmp_path / "tree"
    tree.mkdir()
    handle = os.open(tree, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deeper", dir_fd=handle)
        os.close(os.open("file", os.O_CREAT, dir_fd=handle))
        below = os.open("deeper", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(handle)
    os.mkfifo(tree / "pipe")
    os.mkfifo(tmp_path / "pipe")
    for name in ("tree", "pipe"):
        atomic.remove_tree(tmp_path / name)
    assert names(tmp_path) == []


def test_a_pipe_in_place_of_a_file_that_was_left_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".file.abcdefgh")
    atomic.write_atomic(tmp_path / "file", "text")
    assert names(tmp_path) == ["file"]


def test_scratch_is_gone_whatever_happened(tmp_path: Path) -> None:
    parent = tmp_path / "new"
    with pytest.raises(RuntimeError), atomic.scratch(parent, "build") as folder:
        assert folder.parent == parent
        assert folder.name.startswith(".build.")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "file").write_text("")
        raise RuntimeError
    assert names(parent) == []


def test_scratch_may_be_renamed_away(tmp_path: Path) -> None:
    with atomic.scratch(tmp_path, "build") as folder:
        assert atomic.commit_tree(folder, tmp_path / "final")
    assert names(tmp_path) == ["final"]


def test_sweep_takes_only_what_a_dead_process_left(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib; from modulus.host.files.atomic import scratch;"
        "c = scratch(pathlib.Path(sys.argv[1]), 'build'); c.__enter__(); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == 9
    assert len(names(tmp_path)) == 1
    (tmp_path / ".fetch.other").mkdir()
    with atomic.scratch(tmp_path, "build") as alive:
        atomic.sweep(tmp_path, "build")
        assert names(tmp_path) == sorted([alive.name, ".fetch.other"])
    atomic.sweep(tmp_path / "missing", "build")


def test_whatever_the_dead_left_in_a_folder_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".a.json.abcdefgh").touch()
    (tmp_path / ".b.json.abcdefgh").mkdir()
    (tmp_path / ".b.json.abcdefgh/b.json").touch()
    for other in (".hidden", ".a.json.abc", "a.json"):
        (tmp_path / other).touch()
    with atomic.scratch(tmp_path, "c") as alive:
        atomic.sweep_all(tmp_path)
        assert names(tmp_path) == sorted([alive.name, ".hidden", ".a.json.abc", "a.json"])
    atomic.sweep_all(tmp_path / "missing")


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path) -> None:
    (tmp_path / ".a.json.abcdefgh").touch()
    others = [tmp_path / ".b.json.abcdefgh", tmp_path / ".a.json.abc", tmp_path / ".a.json.ab"]
    for path in others:
        path.touch()
    atomic.write_atomic(tmp_path / "a.json", "new")
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "a.json"])


def test_what_another_writer_is_at_stays(tmp_path: Path) -> None:
    path = tmp_path / ".a.json.abcdefgh"
    with open(path, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        atomic.write_atomic(tmp_path / "a.json", "new")
        assert path.exists()
    atomic.write_atomic(tmp_path / "a.json", "newer")
    assert not path.exists()
