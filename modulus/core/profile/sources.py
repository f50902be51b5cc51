"""The places to get a driver from, in order, and what a checksum file says."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote, urlsplit

from modulus.errors import ConfigError
from modulus.redact import redact


class Mirror(Protocol):
    """A place that the settings name."""

    @property
    def url(self) -> str: ...
    @property
    def trusted(self) -> bool: ...


class PackagePlace(Protocol):
    """A place the profile names."""

    @property
    def url(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def checksum_url(self) -> str | None: ...


@dataclass(frozen=True)
class Candidate:
    """One place to try; ``url`` is a URL or an absolute path, ``format`` "run" or "tar".

    ``trusted``: the checksum beside the file counts over any protocol.
    """

    url: str
    format: str
    checksum_url: str | None
    trusted: bool


def candidates(
    mirrors: Sequence[Mirror],
    sources: Sequence[PackagePlace],
    *,
    name: str,
    version: str,
    arch: str,
) -> tuple[Candidate, ...]:
    """The user's mirrors in order, then the profile's sources, with their fields filled in.

    Raises ConfigError for a template with a field that does not exist.
    """
    fields = {"name": name, "version": version, "arch": arch}
    usual = sources[0].format if sources else "run"
    found = []
    for mirror in mirrors:
        url = _expand(mirror.url, fields)
        kind = "tar" if _ARCHIVE.search(filename(url)) else usual
        found.append(Candidate(url, kind, None, mirror.trusted))
    for source in sources:
        checksum = _expand(source.checksum_url, fields) if source.checksum_url else None
        found.append(Candidate(_expand(source.url, fields), source.format, checksum, False))
    return tuple(found)


_ARCHIVE = re.compile(r"\.(deb|tar(\.[a-z0-9]+)?|t[gbx]z)$")


def _expand(template: str, fields: Mapping[str, str]) -> str:
    known = " ".join(f"{{{field}}}" for field in sorted(fields))
    shown = redact(template)
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"{shown}: {error}", f"the fields of a URL are {known}") from None
    url = ""
    for text, field, form, conversion in parts:
        url += text
        if field is None:
            continue
        if field not in fields or form or conversion:
            raise ConfigError(
                f"{shown}: there is no field {{{field}}}", f"the fields of a URL are {known}"
            )
        url += fields[field]
    try:
        urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"{shown}: {error}", "correct the URL") from None
    return url


def filename(url: str) -> str:
    """The name of the file: the last part of the URL's path."""
    path = url if url.startswith("/") else unquote(urlsplit(url).path)
    return path.rpartition("/")[2]


def beside(url: str) -> str:
    """Where the checksum beside ``url`` is: its path with ``.sha256sum`` appended."""
    if url.startswith("/"):
        return url + ".sha256sum"
    parts = urlsplit(url)
    return parts._replace(path=parts.path + ".sha256sum").geturl()


def counts(checksum_url: str, trusted: bool) -> bool:
    """Whether a checksum from ``checksum_url`` can vouch for what will run in the kernel."""
    return trusted or checksum_url.startswith("/") or scheme(checksum_url) in ("https", "file")


def scheme(url: str) -> str:
    """The URL's scheme in small letters, "" where it has none."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    return match[1].lower() if match else ""


_GNU = re.compile(r"(\\?)([0-9A-Fa-f]{64})(?: [ *]|\t| +)(\S.*)")
_BSD = re.compile(r"(\\?)SHA256 ?\((.+)\) ?= ?([0-9A-Fa-f]{64})")
_BARE = re.compile(r"[0-9A-Fa-f]{64}")


def parse_sha256sums(text: str) -> tuple[tuple[str, str], ...]:
    """(file name, sha256) of each line of a ``.sha256sum`` or ``SHA256SUMS``, in order.

    The forms of coreutils' sha256sum(1), ``--tag`` and escaped names included; a hash alone has
    the name "". Other lines (comments, a signature around it) are skipped.
    """
    found = []
    for raw in text.removeprefix("\ufeff").splitlines():
        line = raw.strip()
        if match := _GNU.fullmatch(line):
            escaped, digest, name = match.groups()
        elif match := _BSD.fullmatch(line):
            escaped, name, digest = match.groups()
        elif _BARE.fullmatch(line):
            escaped, name, digest = "", "", line
        else:
            continue
        found.append((_unescape(name) if escaped else name, digest.lower()))
    return tuple(found)


def _unescape(name: str) -> str:
    plain = {"n": "\n", "r": "\r", "\\": "\\"}
    return re.sub(r"\\([nr\\])", lambda match: plain[match[1]], name)


def sha256_for(text: str, name: str) -> str | None:
    """The one sha256 a checksum file gives for the file ``name``, in any folder.

    None where it gives this file no hash, or two. A hash without a name counts only if it
    stands alone.
    """
    entries = parse_sha256sums(text)
    if len(entries) == 1 and not entries[0][0]:
        return entries[0][1]
    found = {digest for path, digest in entries if path.rpartition("/")[2] == name}
    return found.pop() if len(found) == 1 else None
