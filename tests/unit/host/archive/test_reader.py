"""Unpacking: every format and compression, and archives that mean harm."""

import bz2
import functools
import gzip
import hashlib
import io
import lzma
import os
import stat
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from modulus.core.package.vendor_manifest import parse_manifest
from modulus.errors import IntegrityError
from modulus.host.archive.reader import Archive, Extracted, ExtractLimits, Texts, all_of
from tests.support.runfile import assemble

Member = tuple[tarfile.TarInfo, bytes]


def member(
    name: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, **fields: object
) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, len(data), 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Member:
    return member(name, kind=kind, linkname=target)


def tar(*members: Member, end: bool = True) -> bytes:
    """A tar as written, with no judgement; ``end`` adds the mark of its end."""
    packed = io.BytesIO()
    for info, data in members:
        packed.write(info.tobuf(tarfile.PAX_FORMAT))
        packed.write(data + bytes(-len(data) % 512))
    return packed.getvalue() + (bytes(10240) if end else b"")


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def zstd_frames(data: bytes) -> bytes:
    half = len(data) // 2
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0skip"
    return skippable + zstd(data[:half]) + skippable + zstd(data[half:])


def zstd_long(data: bytes) -> bytes:
    """A frame of unknown size with the window of ``zstd --long``."""
    params = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=params).compressobj()
    return packer.compress(data) + packer.flush()


xz = functools.partial(lzma.compress, preset=0)


def xz_streams(data: bytes) -> bytes:
    return xz(data[:700]) + bytes(8) + xz(data[700:], check=lzma.CHECK_NONE)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "gzip members": lambda data: gzip.compress(data[:600]) + gzip.compress(data[600:]),
    "bzip2": bz2.compress,
    "xz": xz,
    "xz streams": xz_streams,
    "zstd": zstd,
    "zstd frames": zstd_frames,
    "zstd long": zstd_long,
}


def run_file(payload: bytes, *, quoted: bool = False, md5: str | None = None) -> bytes:
    """The vendor's shape: sums on lines 2 and 3 cover all from line 4 on."""
    skip = '"10"' if quoted else "10"
    rest = f'skip={skip}\nlabel="Driver 1.0"\ntargetdir=driver\n\necho no\nexit 1\n'.encode()
    rest += payload
    md5 = md5 if md5 is not None else hashlib.md5(rest).hexdigest()
    return b"#! /bin/sh\nCRCsum=0\nMD5=" + md5.encode() + b"\n" + rest


def stock_file(payload: bytes, sha256: str | None = None) -> bytes:
    """Stock makeself 2.4: the payload follows line ``skip`` and is all that is summed."""
    sha256 = sha256 or hashlib.sha256(payload).hexdigest()
    head = f'#!/bin/sh\n# stock\n\nMD5="{hashlib.md5(payload).hexdigest()}"\nSHA="{sha256}"\n'
    return head.encode() + b'skip="8"\nhead -n "$skip" "$0"\nexit\n' + payload


def deb(payload: bytes, name: bytes = b"data.tar.xz") -> bytes:
    packed = b"!<arch>\n"
    for title, data in ((b"debian-binary", b"2.0\n"), (b"control.tar", b"x"), (name, payload)):
        packed += title.ljust(48) + str(len(data)).encode().ljust(10) + b"`\n"
        packed += data + b"\n" * (len(data) % 2)
    return packed


SOURCES = (
    member("./", kind=tarfile.DIRTYPE),
    member("./kernel/", kind=tarfile.DIRTYPE, mode=0o700),
    member("./kernel/nv.c", b"int nv;\n" * 300, mtime=1_000_000_000),
    member("./kernel/conftest.sh", b"#!/bin/sh\n", mode=0o775),
    member("./kernel/empty.h"),
    member("./firmware/gsp.bin", Random(0).randbytes(1_200_000)),
    member("./.manifest", b"Driver\n1.0\n"),
)


@functools.cache
def packed_sources(packer: str) -> bytes:
    return PACKERS[packer](tar(*SOURCES))


def everything(name: str) -> str:
    return name


def kernel(name: str) -> str | None:
    return name.removeprefix("kernel/") if name.startswith("kernel/") else None


@pytest.fixture
def unpack(tmp_path: Path) -> Callable[..., Extracted]:
    """Writes the bytes as a file and extracts it to ``tmp_path/target``."""

    def do(
        data: bytes,
        select: Callable[[str], str | None] = everything,
        kind: str = "tar",
        limits: ExtractLimits | None = None,
    ) -> Extracted:
        path = tmp_path / "archive"
        path.write_bytes(data)
        archive = Archive(path, "run" if kind == "run" else "tar")
        return archive.extract(tmp_path / "target", select, limits=limits or ExtractLimits())

    return do


def refused(tmp_path: Path) -> None:
    """Nothing is left but the archive itself."""
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


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


GOOD = tar(*SOURCES)
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


def test_what_follows_the_end_mark_is_ignored(unpack: Callable[..., Extracted]) -> None:
    assert len(unpack(gzip.compress(GOOD + b"garbage") + bytes(512)).files) == 5


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
