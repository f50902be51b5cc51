"""Hashing beside other work."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest

from modulus.cli import run
from modulus.core.instance import parse_instance
from modulus.core.kernel.moddep import module_name
from modulus.host.files import digest as digests
from modulus.host.files import hashahead
from modulus.host.files.hashahead import Ahead, begin, find_modules, hash_ahead
from modulus.host.files.hashing import Hashes
from modulus.host.files.paths import resolve, resolve_text
from modulus.host.files.place import DRIVERS

RELEASE = "6.1.0-9-amd64"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with an active driver of two modules for this kernel, one of them loaded."""
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/osrelease").write_text(f"{RELEASE}\n")
    modules(tmp_path).mkdir(parents=True)
    drivers(tmp_path).joinpath("gpu").symlink_to(".gpu/one")
    for name in ("gpu.ko", "gpu-uvm.ko"):
        (modules(tmp_path) / name).write_text(name)
    (tmp_path / "sys/module" / module_name("gpu-uvm.ko")).mkdir(parents=True)
    return tmp_path


@pytest.fixture(autouse=True)
def _none_left() -> Iterator[None]:
    """Every process that is begun here is waited for."""
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def begun(*paths: Path) -> Ahead:
    """A process that hashes ``paths``."""
    ahead = begin(map(str, paths))
    assert ahead
    return ahead


def assert_held(path: Path) -> None:
    """What is in ``path`` is its name."""
    assert Hashes(begun(path)).holds(path, digest(path.name))


def drivers(root: Path) -> Path:
    return root / DRIVERS.lstrip("/")


def modules(root: Path) -> Path:
    """The folder of modules, without links."""
    return drivers(root) / f".gpu/one/lib/modules/{RELEASE}"


def test_modules_that_are_not_loaded_are_hashed_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, parent = root / "log", os.getpid()
    real = digests.hash_open

    def note(file: FileIO) -> str:
        with open(log, "a") as opened:
            opened.write(f"{Path(str(file.name)).name} {os.getpid() == parent}\n")
        return real(file)

    monkeypatch.setattr(digests, "hash_open", note)
    folder = modules(root)
    hashes = Hashes(hash_ahead(["up", "gpu-1.0", "--root", str(root)]))
    hashes.settle()
    assert log.read_text() == "gpu.ko False\n"
    assert hashes.holds(folder / "gpu.ko", digest("gpu.ko"))
    assert hashes.holds(folder / "gpu-uvm.ko", digest("gpu-uvm.ko"))
    assert log.read_text() == "gpu.ko False\ngpu-uvm.ko True\n"


def test_a_file_that_changed_is_seen(root: Path) -> None:
    path = modules(root) / "gpu.ko"
    assert Hashes(begun(path)).holds(path, digest("gpu.ko"))
    path.write_text("gpu.kO")
    assert not Hashes(begun(path)).holds(path, digest("gpu.ko"))
    assert not Hashes(None).holds(path, digest("gpu.ko"))
    assert not Hashes(begun(path)).holds(path, "")


def test_the_hash_of_one_file_is_not_taken_for_another(root: Path) -> None:
    """Nor by another name of the same: what it leads to may be changed."""
    one, other = modules(root) / "gpu.ko", root / "other/gpu.ko"
    other.parent.mkdir()
    other.write_text("another")
    link = drivers(root) / f"gpu/lib/modules/{RELEASE}/gpu.ko"
    hashes = Hashes(begun(one))
    assert hashes.holds(other, digest("another"))
    assert not hashes.holds(other, digest("gpu.ko"))
    assert hashes.holds(one, digest("gpu.ko"))
    one.write_text("changed")
    assert not hashes.holds(link, digest("gpu.ko"))


def test_what_is_loaded_is_no_module_to_hash(root: Path) -> None:
    assert find_modules(str(root), "gpu") == [f"{modules(root)}/gpu.ko"]


def test_where_all_is_loaded_no_process_is_made(root: Path) -> None:
    (root / "sys/module/gpu").mkdir()
    assert find_modules(str(root), "gpu") == []
    assert hash_ahead(["up", "gpu-1.0", "--root", str(root)]) is None


@pytest.mark.parametrize("gone", ["opt/drivers/gpu", "proc/sys/kernel/osrelease"])
def test_without_a_driver_or_a_kernel_nothing_is_hashed(root: Path, gone: str) -> None:
    (root / gone).unlink()
    assert hash_ahead(["up", "gpu-1.0", "--root", str(root)]) is None


@pytest.mark.parametrize("link", ["/elsewhere", "../../../../../../elsewhere"])
def test_links_do_not_lead_out_of_the_root(tmp_path: Path, root: Path, link: str) -> None:
    """As a process with that root would follow them."""
    inner = tmp_path / "inner"
    (inner / "opt/drivers").mkdir(parents=True)
    (inner / "opt/drivers/gpu").symlink_to(link)
    (inner / "proc/sys/kernel").mkdir(parents=True)
    (inner / "proc/sys/kernel/osrelease").write_text(RELEASE)
    for top, name in ((tmp_path, "outer.ko"), (inner, "inner.ko")):
        folder = top / "elsewhere/lib/modules" / RELEASE
        folder.mkdir(parents=True)
        (folder / name).write_text(name)
    found = find_modules(str(inner), "gpu")
    assert found == [f"{inner}/elsewhere/lib/modules/{RELEASE}/inner.ko"]


def test_only_files_that_end_are_hashed_ahead(root: Path) -> None:
    folder = modules(root)
    os.mkfifo(folder / "a.ko")
    (folder / "b.ko").symlink_to("gpu.ko")
    (folder / "c.ko").mkdir()
    ahead = hash_ahead(["up", "gpu-1.0", "--root", str(root)])
    assert ahead
    assert [*ahead.wait()] == [f"{folder}/gpu.ko"]


def test_who_asks_for_a_file_that_is_gone_is_told(root: Path) -> None:
    gone = root / "gone.ko"
    hashes = Hashes(begun(gone))
    with pytest.raises(FileNotFoundError):
        hashes.holds(gone, digest("gone"))
    hashes.settle()


def test_what_was_begun_and_never_ended_is_hashed_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, parent, real = tmp_path / "gpu.ko", os.getpid(), digests.hash_open
    path.write_text("gpu.ko")

    def end(file: FileIO) -> str:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(file)

    monkeypatch.setattr(digests, "hash_open", end)
    assert_held(path)


def test_a_hash_that_was_not_written_whole_counts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "gpu.ko", os.write
    path.write_text("gpu.ko")

    def cut(handle: int, data: bytes) -> int:
        return real(handle, data[:-1])

    monkeypatch.setattr(os, "write", cut)
    assert_held(path)
    ahead = begun(path)
    assert ahead.wait() == {}


def test_the_process_ends_where_nobody_waits_for_it(tmp_path: Path) -> None:
    read, write = os.pipe()

    def paths() -> Iterator[str]:
        os.write(write, b"x")
        signal.pause()
        yield "never"

    ahead = begin(paths())
    assert ahead
    assert os.read(read, 1) == b"x"
    os.close(read)
    os.close(write)
    ahead.end()
    ahead.end()


def test_where_the_kernel_forgets_children_the_hashes_hold_too(tmp_path: Path) -> None:
    (tmp_path / "gpu.ko").write_text("gpu.ko")
    ignored = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert_held(tmp_path / "gpu.ko")
    finally:
        signal.signal(signal.SIGCHLD, ignored)


def test_a_command_that_fails_leaves_no_process(root: Path) -> None:
    words = ["up", "gpu-1.0", "--root", str(root), "--config", str(root / "nowhere")]
    ahead = hash_ahead(words)
    assert ahead
    assert run(words, ahead) != 0


def test_the_process_ends_where_nobody_listens_and_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def paths() -> Iterator[str]:
        (tmp_path / "began").touch()
        for number in range(10_000):
            path = tmp_path / f"{number}.ko"
            path.write_text("x")
            yield str(path)

    def count() -> int:
        return len([*tmp_path.glob("*.ko")])

    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            _ahead = begin(paths())
            os.write(write, b"x")
        finally:
            # What listens is gone without a word.
            os._exit(0)
    os.close(write)
    # Its end is told by its own copy of the pipe.
    assert os.read(read, 1) == b"x"
    assert os.read(read, 1) == b""
    os.close(read)
    os.waitpid(pid, 0)
    assert (tmp_path / "began").exists()
    assert 0 < count() < 10_000
    assert capfd.readouterr() == ("", "")


HELD_BACK = f"""\
import os, sys
sys.path[:0] = {sys.path}
from modulus.host.files.hashahead import begin
print("held back ", end="")
print(len(begin([os.__file__]).wait()), "hashed", end="")
"""


def test_what_was_to_be_written_yet_is_written_once() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", HELD_BACK], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("held back 1 hashed", "")


def test_an_error_in_the_process_stays_there(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> Iterator[str]:
        yield "nowhere"
        raise ValueError

    ahead = begin(fail())
    assert ahead
    assert ahead.wait() == {}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("call", "error"), [("fork", errno.EAGAIN), ("pipe", errno.EMFILE)])
def test_where_no_process_can_be_made_it_is_hashed_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: int
) -> None:
    path = tmp_path / "gpu.ko"
    path.write_text("gpu.ko")

    def refuse() -> int:
        raise OSError(error, os.strerror(error))

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, call, refuse)
    ahead = begin([str(path)])
    assert ahead is None
    assert len(os.listdir("/proc/self/fd")) == len(before)
    hashes = Hashes(ahead)
    assert not hashes.under_way
    assert hashes.holds(path, digest("gpu.ko"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["up", "gpu-1.0", "--root", "/tmp"], [("/tmp", "gpu")]),
        (["up", "gpu-1.0", "--root", "/tmp/../tmp"], [("/tmp", "gpu")]),
        (["up", "gpu-2-1.0"], [("/", "gpu-2")]),
        (["up", "gpu-1.0"], [("/", "gpu")]),
        (["up", "gpu-1.0", "--root"], [("/", "gpu")]),
        (["up", "gpu-1.0", "--root", ""], [("/", "gpu")]),
        (["up", "gpu-1.0", "--root=/tmp"], [("/tmp", "gpu")]),
        (["up", "gpu-1.0", "--root="], [("/", "gpu")]),
        (["up", "gpu-1.0", "--rooted=/tmp"], [("/", "gpu")]),
        (["up", "gpu-1.0", "--root", "/usr", "-v", "--root=/tmp"], [("/tmp", "gpu")]),
        (["up", "gpu-1.0", "--root=/usr", "--root", "/tmp"], [("/tmp", "gpu")]),
        (["up", "--root", "/tmp", "gpu-1.0"], []),
        (["up", "../gpu-1.0"], []),
        (["up", "-1.0"], []),
        (["up", "gpu"], []),
        (["up", ""], []),
        (["up", "gpu-1.0", "--watch"], []),
        (["up", "gpu-1.0", "--repair"], []),
        (["up", "gpu-1.0", "--no-load"], []),
        (["up", "gpu-1.0", "-h"], []),
        (["up", "-h"], []),
        (["up"], []),
        (["down", "gpu-1.0"], []),
        ([], []),
    ],
)
def test_what_up_will_load_is_hashed_before_its_words_are_parsed(
    words: list[str], expected: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[str, str]] = []

    def note(root: str, name: str) -> list[str]:
        found.append((root, name))
        return []

    monkeypatch.setattr(hashahead, "find_modules", note)
    assert hash_ahead(words) is None
    assert found == expected
    # As who parses them reads the name.
    assert [name for _, name in found] == [
        parse_instance(word, "").profile for word in words[1:2] if found
    ]


TO_THE_FORK = f"""\
import sys
sys.path[:0] = {sys.path}
import __future__, errno, gc, hashlib, io, os, stat
before = {{*sys.modules}}

def fork():
    print(*{{*sys.modules}} - before, flush=True)
    os._exit(0)

os.fork = fork
from modulus.__main__ import main
main()
"""


def test_it_begins_with_few_imports(root: Path) -> None:
    """Those are hashlib and what Python has loaded or is a part of it; all else is imported
    meanwhile."""
    done = subprocess.run(
        # -S: what this machine has each Python import is not ours.
        [sys.executable, "-S", "-c", TO_THE_FORK, "up", "gpu-1.0", "--root", str(root)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == {
        "modulus",
        "modulus.__main__",
        "modulus.host",
        "modulus.host.files",
        "modulus.host.files.hashahead",
        "modulus.host.files.paths",
    }


@pytest.mark.parametrize("path", ["/a", "a/../b", "//a/./b/", "/", "/link/c", "/up/x"])
def test_paths_are_followed_as_elsewhere(tmp_path: Path, path: str) -> None:
    (tmp_path / "link").symlink_to("/b")
    (tmp_path / "up").symlink_to("../../..")
    assert resolve_text(str(tmp_path), path) == str(resolve(tmp_path, path))
    assert resolve_text("/", path) == str(resolve(Path("/"), path))
