"""An archive's Release file: which release of the distribution it is, and until when.

Source: https://wiki.debian.org/DebianRepository/Format
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from modulus.core.distribution.deb822 import stanzas


@dataclass(frozen=True)
class ReleaseFile:
    """What a signed Release file says; ``valid_until`` is None for any time."""

    codename: str
    valid_until: datetime | None = None

    def is_of(self, codename: str) -> bool:
        """Whether it is a suite of the distribution's release ``codename``: that one, or one
        beside it, such as CODENAME-backports."""
        return belongs(self.codename, codename)


def belongs(suite: str, codename: str) -> bool:
    """Whether ``suite`` is called as one of the release ``codename``."""
    return suite.partition("/")[0].partition("-")[0] == codename


def parse_release(text: str) -> ReleaseFile:
    """The fields of a Release file, or of an InRelease file that apt has verified."""
    for fields in stanzas(text):
        if "codename" in fields or "suite" in fields:
            return ReleaseFile(fields.get("codename", ""), _date(fields.get("valid-until", "")))
    return ReleaseFile("")


def _date(text: str) -> datetime | None:
    """The time of RFC 5322 that a Release file has, which is always of UTC."""
    try:
        return datetime.strptime(text, "%a, %d %b %Y %H:%M:%S UTC").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
