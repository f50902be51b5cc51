"""Times as people and JSON have them."""

from __future__ import annotations

import time


def rfc3339(moment: float) -> str:
    """``moment``, in seconds since the epoch, as text in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(moment)))
