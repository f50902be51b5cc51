"""Archives that mean harm: names that lead out, damage, bombs."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from modulus.errors import IntegrityError
from modulus.host.archive.reader import Archive, Extracted, ExtractLimits
from tests.unit.host.archive.conftest import (
    GOOD,
    PACKERS,
    SOURCES,
    Member,
    deb,
    everything,
    link,
    member,
    refused,
    run_file,
    stock_file,
    tar,
    zstd,
)

HOSTILE: dict[str, tuple[Member, ...]] = {
    "absolute": (member("/etc/passwd", b"x"),),
    "parent": (member("../x", b"x"),),
    "parent inside": (member("a/../../x", b"x"),),
    "null": (member("a", b"x", pax_headers={"path": "a\0b"}),),
    "long part": (member("x" * 300, b"x"),),
    "long name": (member("x/" * 600 + "y", b"x"),),
    "no name": (member("./", b"x", kind=tarfile.LNKTYPE),),
    "absolute symlink": (link("a", "/etc"),),
    "symlink out": (link("a/b", "../../x"),),
    "symlink around": (link("d/up", ".."), link("a", "d/up/../x")),
    "empty symlink": (link("a", ""),),
    "through a symlink": (link("a", "b"), member("a/x", b"x")),
    "through a deep one": (link("d/a", "b"), member("d/a/x/y", b"x")),
    "folder over symlink": (link("a", "b"), member("a", kind=tarfile.DIRTYPE)),
    "file over symlink": (link("a", "b"), member("a", b"x")),
    "symlink over file": (member("a", b"x"), link("a", "b")),
    "symlink over folder": (member("a/x", b"x"), link("a", "b")),
    "file over file": (member("a", b"x"), member("./a", b"y")),
    "file over folder": (member("a/x", b"x"), member("a", b"y")),
    "folder over file": (member("a", b"x"), member("a/x", b"y")),
    "hard link out": (link("a", "../x", tarfile.LNKTYPE),),
    "hard link to root": (link("a", "/etc/shadow", tarfile.LNKTYPE),),
    "hard link to nothing": (link("a", "b", tarfile.LNKTYPE),),
    "hard link to symlink": (link("a", "b"), link("c", "a", tarfile.LNKTYPE)),
    "hard link to itself": (link("a", "a", tarfile.LNKTYPE),),
    "device": (member("a", kind=tarfile.BLKTYPE),),
    "fifo": (member("a", kind=tarfile.FIFOTYPE),),
    "sparse": (member("a", b"x", kind=tarfile.GNUTYPE_SPARSE),),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("first", [(), SOURCES])
def test_hostile(
    name: str, first: tuple[Member, ...], unpack: Callable[..., Extracted], tmp_path: Path
) -> None:
    with pytest.raises(IntegrityError) as caught:
        unpack(tar(*first, *HOSTILE[name]))
    assert "refused" in caught.value.message
    assert "\n" not in caught.value.message
    refused(tmp_path)


def test_select_cannot_lead_out(unpack: Callable[..., Extracted], tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        unpack(tar(*SOURCES), lambda name: f"../{name}")
    refused(tmp_path)


DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "page": b"<html><body>Not found</body></html>" * 50,
    "cut in data": GOOD[:4000],
    "cut between members": tar(*SOURCES, end=False),
    "cut in header": GOOD[:1300],
    "flipped header": GOOD[:1024] + b"\xff" + GOOD[1025:],
    "cut gzip": gzip.compress(GOOD)[:-9],
    "gzip sum": gzip.compress(GOOD)[:-8] + bytes(8),
    "gzip and more": gzip.compress(GOOD) + b"more",
    "cut xz": lzma.compress(GOOD)[:-30],
    "cut bzip2": bz2.compress(GOOD)[:-30],
    "flipped bzip2": bz2.compress(GOOD).replace(b"\x31\x41\x59", b"\x31\x41\x58"),
    "cut zstd": zstd(GOOD)[: len(zstd(GOOD)) // 2],
    "zstd and more": zstd(GOOD) + b"more",
    "deb without data": deb(b"", b"other.tar"),
    "cut deb": deb(GOOD)[:-20],
    "deb of nonsense": b"!<arch>\n" + b"x" * 100,
    "negative size": tar(member("a", size=-5)),
    "huge size": tar(member("a", size=1 << 30)),
    "odd pax": tar(member("a", pax_headers={"GNU.sparse.map": "x", "size": "x"})),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged(name: str, unpack: Callable[..., Extracted], tmp_path: Path) -> None:
    with pytest.raises(IntegrityError) as caught:
        unpack(DAMAGED[name])
    assert "\n" not in caught.value.message
    refused(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        run_file(GOOD, md5="a" * 32),
        run_file(GOOD)[:-512],
        stock_file(GOOD, sha256="a" * 64),
        b"#!/bin/sh\nskip=100\n" + GOOD,
        b"<html>",
        GOOD,
        run_file(b"<html>not a tar</html>" * 99),
    ],
)
def test_damaged_run(data: bytes, unpack: Callable[..., Extracted], tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        unpack(data, everything, "run")
    refused(tmp_path)


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (ExtractLimits(total=1 << 20), "more than 1 MiB"),
        (ExtractLimits(member=1 << 20), "more than 1 MiB"),
        (ExtractLimits(members=3), "more than 3 members"),
    ],
)
def test_limits(
    limits: ExtractLimits, why: str, unpack: Callable[..., Extracted], tmp_path: Path
) -> None:
    with pytest.raises(IntegrityError, match=why):
        unpack(tar(*SOURCES), limits=limits)
    refused(tmp_path)


def test_hard_links_count_as_what_they_unpack_to(unpack: Callable[..., Extracted]) -> None:
    links = (link(f"h{number}", "firmware/gsp.bin", tarfile.LNKTYPE) for number in range(9))
    with pytest.raises(IntegrityError, match="more than 4 MiB"):
        unpack(tar(*SOURCES, *links), limits=ExtractLimits(total=4 << 20))


@pytest.mark.parametrize("kind", ["selected", "left out", "after the end"])
def test_bomb(kind: str, unpack: Callable[..., Extracted], tmp_path: Path) -> None:
    """100 MB of zeros in some 4 kB."""
    zeros = bytes(100_000_000)
    packer = zstandard.ZstdCompressor().compressobj()
    head = tar(member("a", size=len(zeros))) if kind != "after the end" else tar(*SOURCES[:4])
    data = packer.compress(head[:512] if kind != "after the end" else head)
    data += packer.compress(zeros) + packer.flush()
    with pytest.raises(IntegrityError, match="250 times its size"):
        unpack(data, everything if kind == "selected" else lambda name: None)
    refused(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        tarfile.TarInfo.create_pax_global_header({"comment": "x" * 99_000}),
        tarfile.TarInfo("x" * 99_000).tobuf(tarfile.GNU_FORMAT),
        member("././@LongLink", b"x", kind=tarfile.GNUTYPE_LONGNAME)[0].tobuf() * 2000,
        b"".join(
            tarfile.TarInfo.create_pax_global_header({f"k{n}": "x"}) + member("a")[0].tobuf()
            for n in range(200)
        ),
    ],
)
def test_endless_headers(header: bytes, unpack: Callable[..., Extracted]) -> None:
    with pytest.raises(IntegrityError):
        unpack(header + GOOD, lambda name: None)


_PART = st.sampled_from(["a", "b", "c", "..", ".", "", "\udcff", "a\0", "canary"])
_PATH = st.lists(_PART, min_size=1, max_size=4).map("/".join)
_MEMBER = st.builds(
    lambda name, kind, target, size, mode, pax: member(
        name,
        b"x" * size if kind in tarfile.REGULAR_TYPES else b"",
        kind=kind,
        linkname=target,
        mode=mode,
        pax_headers=pax,
    ),
    _PATH,
    st.sampled_from([tarfile.REGTYPE, *(bytes([byte]) for byte in b"0012235567SLKx")]),
    _PATH,
    st.sampled_from([0, 1, 511, 512, 513]),
    st.integers(0, 0o7777),
    st.dictionaries(
        st.sampled_from(["path", "linkpath", "size", "mtime", "GNU.sparse.map"]),
        _PATH | st.sampled_from(["-1", "9", "nan", "inf"]),
        max_size=1,
    ),
)


@settings(max_examples=150)
@given(st.lists(_MEMBER, min_size=1, max_size=6), st.sampled_from(sorted(PACKERS)))
def test_hostile_tars_never_leave_the_target(members: list[Member], packer: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        top = Path(name).resolve()
        (top / "canary").write_text("alive")
        packed = PACKERS[packer](tar(*members))
        (top / "archive").write_bytes(packed)
        try:
            Archive(top / "archive", "tar").extract(top / "target", everything)
        except IntegrityError:
            assert not (top / "target").exists()
        left = {path.name for path in top.iterdir()} - {"target"}
        assert left == {"archive", "canary"}
        assert (top / "canary").read_text() == "alive"
        for path in (top / "target").rglob("*"):
            mode = path.lstat().st_mode
            assert stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)
            assert stat.S_ISLNK(mode) or stat.S_IMODE(mode) in (0o644, 0o755)
            if stat.S_ISLNK(mode) and os.path.exists(path):
                assert path.resolve().is_relative_to(top / "target")


@settings(max_examples=100)
@given(st.data())
def test_flipped_bytes_are_read_or_refused(data: st.DataObject) -> None:
    packer = data.draw(st.sampled_from(sorted(PACKERS)))
    packed = bytearray(PACKERS[packer](tar(*SOURCES[:4])))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(packed)))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "archive")
        path.write_bytes(packed[:cut] if data.draw(st.booleans()) else packed)
        try:
            Archive(path, "tar").extract(Path(name, "target"), everything)
        except IntegrityError:
            assert os.listdir(name) == ["archive"]
