"""Values for the bus that Python has no types for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def text_maps(maps: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Maps from names to text, as the ``aa{sv}`` of a published property."""
    from gi.repository import GLib

    return [{key: GLib.Variant("s", text) for key, text in given.items()} for given in maps]
