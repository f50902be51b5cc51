"""Headers of self-extracting archives: both dialects of makeself, and what is neither."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.package.run_header import parse_header
from modulus.errors import IntegrityError

MD5 = "0123456789abcdef0123456789abcdef"
SHA = "ab" * 32

VENDOR = f"""#! /bin/sh
CRCsum=2393117914
MD5={MD5}
skip=1148
skip_decompress=1148
size_decompress=0
label="NVIDIA Accelerated Graphics Driver for Linux-x86_64 535.309.01"
version_string=535.309.01
pkg_version=0
script=./nvidia-installer
targetdir=NVIDIA-Linux-x86_64-535.309.01
scriptargs=""
keep=n
    skip=3
    tail -n +${{skip}} $0
"""

STOCK = f"""#!/bin/sh
# This script was generated using Makeself 2.4.5
# The license covering this archive

ORIG_UMASK=`umask`
CRCsum="1234567890"
MD5="{MD5}"
SHA="{SHA}"
skip="713"
label="A driver 1.2.3"
targetdir="driver"
filesizes="2345"
    offset=`head -n "$skip" "$1" | wc -c | sed "s/ //g"`
"""


def test_vendor_header() -> None:
    header = parse_header(VENDOR.encode() + b"\xff\x00")
    assert header.payload_line == 1148
    assert header.label.startswith("NVIDIA Accelerated")
    assert header.version == "535.309.01"
    assert header.target == "NVIDIA-Linux-x86_64-535.309.01"
    assert (header.md5, header.md5_line) == (MD5, 4)
    assert (header.crc, header.sha256) == (2393117914, None)


def test_stock_header() -> None:
    header = parse_header(STOCK.encode())
    assert header.payload_line == 714  # head -n N: the payload follows line N
    assert header.version == "1.2.3"
    assert header.target == "driver"
    assert (header.md5, header.md5_line) == (MD5, 714)
    assert header.sha256 == SHA


@pytest.mark.parametrize("line", ["skip=12", 'skip="12"', "skip='12'", "skip=12 ", "skip=12\r"])
def test_skip_spellings(line: str) -> None:
    header = parse_header(f"#!/bin/sh\n{line}\n".encode())
    assert header.payload_line == 12
    assert (header.md5, header.sha256, header.crc, header.version) == (None, None, None, "")


def test_zeros_are_no_digest() -> None:
    text = VENDOR.replace(MD5, "0" * 32).replace("CRCsum=2393117914", "CRCsum=0000000000")
    header = parse_header(text.encode())
    assert (header.md5, header.crc) == (None, None)


def test_payload_is_not_read_as_header() -> None:
    text = f'#!/bin/sh\nskip=3\nMD5={MD5}\nversion_string=1\nhead -n "$skip"\n'
    header = parse_header(text.encode())
    assert (header.md5, header.version, header.payload_line) == (None, "", 3)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>skip=3\n</html>",
        b"#!/bin/sh\necho hello\n",
        b"#!/bin/sh\nskip=\n",
        b"#!/bin/sh\nskip=x\n",
        b"#!/bin/sh\nskip=0\n",
        b"#!/bin/sh\nskip=-4\n",
        b"#!/bin/sh\nskip=2\n",
        b"#!/bin/sh\nskip=$(reboot)\n",
        b"#!/bin/sh\nskip=9999999999999999\n",
        "#!/bin/sh\nskip=٣٣\n".encode(),
    ],
)
def test_no_header(text: bytes) -> None:
    with pytest.raises(IntegrityError) as caught:
        parse_header(text)
    assert "\n" not in caught.value.message + caught.value.hint


@given(st.integers(min_value=20, max_value=10**9 - 1), st.text("abc \t$`'();=\n", max_size=200))
def test_skip_survives_any_script(skip: int, script: str) -> None:
    text = f'#!/bin/sh\nskip={skip}\nlabel="x 1.0"\n{script}'
    assert parse_header(text.encode()).payload_line == skip


@given(st.binary(max_size=300), st.sampled_from([b"", b"#!", b"#!/bin/sh\n", VENDOR.encode()]))
def test_any_bytes_parse_or_are_refused(data: bytes, start: bytes) -> None:
    try:
        header = parse_header(start + data)
    except IntegrityError:
        assert start != VENDOR.encode()
    else:
        assert header.payload_line > 1
