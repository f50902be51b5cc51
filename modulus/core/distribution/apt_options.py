"""What of a node's apt configuration counts for the packages of builds.

Source: apt.conf(5), apt-config(8), apt-transport-http(1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from modulus.core.distribution.apt_sources import is_no

_LINE = re.compile(r'([A-Za-z0-9:._/+-]+) "(.*)";')
_PROXY = re.compile(r"acquire::(?:https?|ftp)::proxy(?:::.+)?", re.IGNORECASE)

AptOption = tuple[str, str]
"""An option's name and value."""


def parse_options(text: str) -> tuple[AptOption, ...]:
    """The options that ``apt-config dump`` lists; names count whatever their case."""
    matches = (_LINE.fullmatch(line) for line in text.splitlines())
    return tuple((match[1], match[2]) for match in matches if match)


def proxies(options: Iterable[AptOption]) -> tuple[AptOption, ...]:
    """Those that name a proxy, for all hosts or one, or none (DIRECT)."""
    return tuple((name, value) for name, value in options if value and _PROXY.fullmatch(name))


def any_date(options: Iterable[AptOption]) -> bool:
    """Whether archives count past the date until which they are valid."""
    return any(
        name.lower() == "acquire::check-valid-until" and is_no(value) for name, value in options
    )
