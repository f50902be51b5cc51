"""Unpacking: every format and compression, and what there is of modes, times and links."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from modulus.core.package.vendor_manifest import parse_manifest
from modulus.errors import IntegrityError
from modulus.host.archive.reader import Archive, Extracted, Texts, all_of
from tests.support.wrapping import assemble
from tests.unit.host.archive.conftest import (
    GOOD,
    PACKERS,
    SOURCES,
    deb,
    everything,
    kernel,
    link,
    member,
    packed_sources,
    run_file,
    stock_file,
    tar,
)


@pytest.mark.parametrize("kind", ["run", "tar", "deb"])
@pytest.mark.parametrize("packer", PACKERS)
def test_formats(
    packer: str, kind: str, unpack: Callable[..., Extracted], tmp_path: Path
) -> None:
    payload = packed_sources(packer)
    data = run_file(payload) if kind == "run" else deb(payload) if kind == "deb" else payload
    done = unpack(data, kernel, kind)
    assert done == Extracted(("nv.c", "conftest.sh", "empty.h"), 2410)
    target = tmp_path / "target"
    assert (target / "nv.c").read_bytes() == b"int nv;\n" * 300
    assert sorted(path.name for path in target.iterdir()) == ["conftest.sh", "empty.h", "nv.c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "target"]


@pytest.mark.parametrize(
    "data", [run_file(tar(*SOURCES), quoted=True), stock_file(tar(*SOURCES))]
)
def test_dialects(data: bytes, unpack: Callable[..., Extracted]) -> None:
    assert len(unpack(data, everything, "run").files) == 5


def test_what_follows_all_that_is_listed_is_not_unpacked(tmp_path: Path) -> None:
    """The member after them ends it, so that what the list lacks beside them is there too."""
    members = [member("kernel/a.c"), member("kernel/b.c"), member("kernel/c.c"), member("x")]
    (tmp_path / "x.tar").write_bytes(tar(*members, end=False) + b"\xff" * 512)
    archive = Archive(tmp_path / "x.tar", "tar")
    done = archive.extract(
        tmp_path / "out", kernel, enough=all_of(["kernel/a.c", "kernel/b.c"])
    )
    assert done.files == ("a.c", "b.c", "c.c")
    with pytest.raises(IntegrityError, match="damaged"):
        archive.extract(tmp_path / "all", kernel, enough=all_of(["kernel/a.c", "kernel/d.c"]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "x.tar"]


def test_its_own_digest_counts_where_nothing_better_does(tmp_path: Path) -> None:
    """Also for what is not unpacked."""
    path = tmp_path / "x.run"
    path.write_bytes(run_file(tar(*SOURCES), md5="1" * 32))
    with pytest.raises(IntegrityError, match="md5 sum does not hold"):
        Archive(path, "run").extract(tmp_path / "out", kernel, enough=all_of(["kernel/nv.c"]))
    assert Archive(path, "run", vouched=True).extract(tmp_path / "out", kernel).files


@pytest.mark.parametrize("packer", PACKERS)
def test_read(packer: str, tmp_path: Path) -> None:
    path = tmp_path / "x.run"
    path.write_bytes(run_file(packed_sources(packer)))
    archive = Archive(path, "run")
    assert archive.read([".manifest", "absent"], 100) == {".manifest": b"Driver\n1.0\n"}
    with pytest.raises(IntegrityError, match="2400 bytes"):
        archive.read(["kernel/nv.c"], 100)
    assert archive.header is not None
    assert archive.header.label == "Driver 1.0"


def test_texts_are_read_in_passing(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar(*SOURCES))
    texts = Texts([".manifest", "absent", "kernel/nv.c"], 100)
    # What is unpacked is not read, whatever its size.
    assert Archive(path, "tar").extract(tmp_path / "out", kernel, texts=texts).files
    assert (texts.found, texts.complete) == ({".manifest": b"Driver\n1.0\n"}, False)
    with pytest.raises(IntegrityError, match="11 bytes"):
        Archive(path, "tar").extract(tmp_path / "other", kernel, texts=Texts([".manifest"], 10))


def test_read_stops_early(tmp_path: Path) -> None:
    """What comes after the last one wanted is not looked at, however damaged."""
    path = tmp_path / "x.tar"
    path.write_bytes(tar(SOURCES[-1], end=False) + b"\xff" * 512)
    assert Archive(path, "tar").read([".manifest"], 100) == {".manifest": b"Driver\n1.0\n"}


def test_modes_and_times(unpack: Callable[..., Extracted], tmp_path: Path) -> None:
    old_umask = os.umask(0o077)
    try:
        unpack(
            tar(
                *SOURCES,
                member("su", b"x", mode=0o6755),
                member("open", b"x", mode=0o1666, mtime=2**33),
            )
        )
    finally:
        os.umask(old_umask)
    target = tmp_path / "target"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in target.rglob("*")}
    assert modes.pop("conftest.sh") == modes.pop("su") == 0o755
    assert modes.pop("kernel") == modes.pop("firmware") == 0o755
    assert set(modes.values()) == {0o644}
    assert stat.S_IMODE(target.stat().st_mode) == 0o755
    assert (target / "kernel/nv.c").stat().st_mtime == 1_000_000_000
    assert (target / "open").stat().st_mtime < 2**33


def test_links(unpack: Callable[..., Extracted], tmp_path: Path) -> None:
    done = unpack(
        tar(
            member("a/file", b"data"),
            link("a/soft", "../b/../b"[:4]),
            link("b/loop", "./../a/file"),
            link("a/hard", "./a/file", tarfile.LNKTYPE),
            link("harder", "a/hard", tarfile.LNKTYPE),
        )
    )
    target = tmp_path / "target"
    assert done.files == ("a/file", "a/soft", "b/loop", "a/hard", "harder")
    assert done.bytes == 12
    assert (target / "b/loop").read_bytes() == b"data"
    assert (target / "a/soft").readlink() == Path("../b")
    assert (target / "harder").read_bytes() == b"data"
    assert (target / "a/file").stat().st_nlink == 1


def test_what_is_left_out_may_be_odd(unpack: Callable[..., Extracted]) -> None:
    """Packages have absolute symlinks and more; nobody asked for them."""
    odd = (
        link("etc/alternatives", "/etc/alternatives"),
        link("hard", "nowhere", tarfile.LNKTYPE),
        member("dev/null", kind=tarfile.CHRTYPE),
        member("twice", b"1"),
        member("twice", b"2"),
    )
    assert len(unpack(tar(*odd, *SOURCES), kernel).files) == 3


def test_long_and_odd_names(unpack: Callable[..., Extracted], tmp_path: Path) -> None:
    long = "kernel/" + "/".join(["d" * 90] * 5)
    unpack(tar(member(long, b"1"), member("kernel//./caf\udce9", b"2")))
    assert (tmp_path / "target" / long).read_bytes() == b"1"
    assert os.listdir(os.fsencode(tmp_path / "target/kernel")).count(b"caf\xe9") == 1


def test_what_follows_the_end_mark_is_ignored(unpack: Callable[..., Extracted]) -> None:
    assert len(unpack(gzip.compress(GOOD + b"garbage") + bytes(512)).files) == 5


def test_target_must_be_empty(unpack: Callable[..., Extracted], tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    assert unpack(GOOD).files
    with pytest.raises(FileExistsError):
        unpack(GOOD)


def test_progress_is_in_bytes_of_the_file(tmp_path: Path) -> None:
    class Seen:
        last = (0, 0)

        def about(self, *, instance: str | None = None, key: str | None = None) -> None: ...
        def phase(self, phase: str, text: str) -> None: ...
        def warn(self, text: str) -> None: ...
        def error(self, text: str) -> None: ...
        def progress(self, phase: str, done: int, total: int, unit: str = "") -> None:
            assert (phase, unit) == ("unpack", "B")
            self.last = (done, total)

    data = gzip.compress(GOOD)
    (tmp_path / "x").write_bytes(data)
    seen = Seen()
    Archive(tmp_path / "x", "tar").extract(tmp_path / "target", everything, reporter=seen)
    assert seen.last == (len(data), len(data))


@pytest.mark.parametrize("compression", ["zstd", "xz", "gzip", "bzip2", "none"])
def test_assembled_runs_are_read_and_never_executed(compression: str, tmp_path: Path) -> None:
    sources, files = tmp_path / "sources", tmp_path / "files"
    (sources / "nvidia").mkdir(parents=True)
    (sources / "nvidia/nv.c").write_text("int nv;\n")
    (files / "firmware").mkdir(parents=True)
    (files / "firmware/gsp_tu10x.bin").write_bytes(bytes(5000))
    (files / "libcuda.so.1.2").write_bytes(b"\x7fELF")
    (files / "libcuda.so.1").symlink_to("libcuda.so.1.2")
    (files / "nvidia-modprobe").write_bytes(b"\x7fELF")
    (files / "nvidia-modprobe").chmod(0o4755)
    run = assemble(
        tmp_path / "x.run",
        "1.2",
        flavours={"kernel": sources, "kernel-open": sources},
        files=files,
        compression=compression,
    )
    archive = Archive(run, "run")
    manifest = parse_manifest(archive.read([".manifest"], 1 << 20)[".manifest"].decode())
    assert archive.header is not None
    assert archive.header.version == manifest.version == "1.2"
    assert manifest.modules == ("nvidia",)
    done = archive.extract(tmp_path / "target", everything)
    assert archive.header.md5 is not None
    in_manifest = {entry.file for entry in manifest.entries if entry.link is None}
    assert {*done.files} == {".manifest", *in_manifest}
    assert [entry.link for entry in manifest.entries if entry.link] == ["libcuda.so.1.2"]
    assert stat.S_IMODE((tmp_path / "target/nvidia-modprobe").stat().st_mode) == 0o755
    assert not list(tmp_path.glob("*.executed"))
