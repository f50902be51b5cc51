"""Archives as they are published, and as nobody should write them."""

from __future__ import annotations

import bz2
import functools
import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import zstandard

from modulus.host.archive.reader import Archive, Extracted, ExtractLimits

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
GOOD = tar(*SOURCES)


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
