"""What is synced to the disk."""

from __future__ import annotations

import os

import pytest


def note_synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list to which the path of each file that is synced from now on is added."""
    synced: list[str] = []
    real = os.fsync

    def note(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        real(handle)

    monkeypatch.setattr(os, "fsync", note)
    return synced
