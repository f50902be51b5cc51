"""How a message puts a list, and a span of time."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice


def some(names: Collection[str], shown: int = 3, *, between: str = ", ") -> str:
    """The first ``shown`` of ``names``, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return between.join(islice(names, shown)) + more


def span(seconds: float) -> str:
    """A span of time as people read it, such as ``15:00 min``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 120:
        return f"{minutes // 60} h"
    return f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"
