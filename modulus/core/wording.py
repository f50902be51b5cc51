"""How a message names a list in one line."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice


def some(names: Collection[str], shown: int = 3, *, between: str = ", ") -> str:
    """The first ``shown`` of ``names``, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return between.join(islice(names, shown)) + more
