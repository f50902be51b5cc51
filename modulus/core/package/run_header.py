"""The shell header of a self-extracting archive, read as text and never run.

Two dialects of makeself are in use. The original 1.x line, which driver vendors carry on,
cuts itself with ``tail -n +$skip`` and sums everything from line 4 on; stock 2.x cuts with
``head -n "$skip"`` and sums the payload alone. (makeself.sh and makeself-header.sh of both.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from modulus.errors import IntegrityError

HEADER_BYTES = 256 << 10
"""How much of the file's beginning is looked at; real headers are some 40 KiB."""

_ASSIGNMENT = re.compile(
    r"""^(?P<name>skip|label|version_string|targetdir|CRCsum|MD5|SHA)="""
    r"""(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>\S*))[ \t\r]*$"""
)
_CUT_AFTER = re.compile(r"""head -n "?\$\{?skip\b""")
_VERSION = re.compile(r"\d[0-9A-Za-z._]*$")


@dataclass(frozen=True)
class RunHeader:
    """What the header says. Lines count from 1; a digest is None where there is none.

    ``md5`` covers the file from the start of ``md5_line`` to its end, ``sha256`` from the
    start of the payload. ``crc`` is that of cksum(1) over what ``md5`` covers.
    """

    payload_line: int
    label: str
    version: str
    target: str
    crc: int | None
    md5: str | None
    md5_line: int
    sha256: str | None


def parse_header(head: bytes) -> RunHeader:
    """Reads the header off a file's first HEADER_BYTES; raises IntegrityError."""
    if not head.startswith(b"#!"):
        raise _not_ours("it does not begin with a shell header")
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    skip, cut_after = 0, False
    for number, line in enumerate(head.decode("latin-1").split("\n"), 1):
        if skip and number >= skip:
            break
        found = _ASSIGNMENT.match(line)
        if found and found["name"] not in values:
            name = found["name"]
            values[name] = found["double"] or found["single"] or found["bare"] or ""
            lines[name] = number
            if name == "skip":
                skip = _skip(values[name], number)
        cut_after = cut_after or _CUT_AFTER.search(line) is not None
    if not skip:
        raise _not_ours("its header has no skip= line")
    payload = skip + 1 if cut_after else skip
    label = values.get("label", "")
    version = _VERSION.search(values.get("version_string") or label)
    crc = values.get("CRCsum", "")
    return RunHeader(
        payload_line=payload,
        label=label,
        version=version[0] if version else "",
        target=values.get("targetdir", ""),
        crc=int(crc) if re.fullmatch(r"\d{1,10}", crc, re.ASCII) and int(crc) else None,
        md5=_digest(values.get("MD5", ""), 32),
        md5_line=4 if lines.get("MD5", 4) < 4 and not cut_after else payload,
        sha256=_digest(values.get("SHA", ""), 64),
    )


def _skip(text: str, line: int) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) <= line:
        raise _not_ours(f"its header has skip={text[:20]!r}")
    return int(text)


def _digest(text: str, length: int) -> str | None:
    """A digest in hexadecimal; makeself writes zeros where it computed none."""
    text = text.lower()
    return text if re.fullmatch(f"[0-9a-f]{{{length}}}", text) and text.strip("0") else None


def _not_ours(why: str) -> IntegrityError:
    return IntegrityError(
        f"not a self-extracting archive: {why}",
        "see that the source names the driver's .run file and not a page about it",
    )
