"""How messages put things."""

from __future__ import annotations

import pytest

from modulus.core.wording import span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5 s"), (59.9, "1:00 min"), (900, "15:00 min"), (61, "1:01 min"), (21600, "6 h")],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text
