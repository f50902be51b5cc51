"""What went wrong where apt had an archive to reach, and what helps."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FAILED = re.compile("E: |W: (?:Failed to fetch|GPG error|An error occurred)")
_DATED = re.compile("is expired|is not valid yet")
_REMEDIES = (
    (
        "is expired",
        "set the clock if it is wrong; for a snapshot or a mirror that stands still, say in "
        "its apt source that this is meant: check-valid-until=no",
    ),
    ("is not valid yet", "the clock is not set: set it, and try again"),
    (
        "not signed|signatures|NO_PUBKEY|GPG error",
        "the apt source is not signed by the distribution; take a mirror of its archive",
    ),
    ("[Cc]ertificate", "check the clock, and set ca_bundle if a proxy ends TLS"),
)


def failure(lines: Sequence[str]) -> str:
    """The cause that apt's ``lines`` name, or "": dates first, which stop all of an archive."""
    failed = [line[3:] for line in lines if _FAILED.match(line)]
    return next((line for line in failed if _DATED.search(line)), next(iter(failed), ""))


def remedy(cause: str) -> str:
    """The next step where apt says ``cause``."""
    for pattern, step in _REMEDIES:
        if re.search(pattern, cause):
            return step
    return "check the network and the mirrors in /etc/apt, and set proxy if one is needed"
