"""Instance names: a driver and its version, also a systemd template unit's ``%i``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from modulus.errors import UsageError

_NAME = re.compile(r"([a-z0-9][a-z0-9_-]*)-([0-9][0-9A-Za-z._]*)")


@dataclass(frozen=True, order=True)
class Instance:
    """One version of one driver; ``str()`` gives the name back."""

    profile: str
    version: str

    def __str__(self) -> str:
        return f"{self.profile}-{self.version}"


def parse_instance(text: str, example: str) -> Instance:
    """Splits ``text`` at the last hyphen before a digit.

    ``example`` is a good name for the hint. Raises UsageError for anything else, ``..``
    included, since names become file names.
    """
    match = _NAME.fullmatch(text)
    if not match or ".." in text:
        raise UsageError(
            f"{text!r} is not an instance name",
            f"write PROFILE-VERSION, such as {example}",
        )
    return Instance(*match.groups())
