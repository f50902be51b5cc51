"""The events that the resident agent's event sources tell it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["wrong", "modules", "gpus", "kernels", "selected", "build"]

WRONG: Kind = "wrong"
"""Device nodes, links or the firmware path may not be as wanted."""
MODULES: Kind = "modules"
"""Modules were loaded or unloaded."""
GPUS: Kind = "gpus"
"""A GPU was plugged in, lost, bound or let go."""
KERNELS: Kind = "kernels"
"""Kernels were installed or removed, or inputs of their modules' builds changed."""
SELECTED: Kind = "selected"
"""Which instance of the driver is selected may have changed."""
BUILD: Kind = "build"
"""A build in the background has ended."""


@dataclass(frozen=True)
class Event:
    """One thing that was seen; ``text`` says it for the journal."""

    kind: Kind
    text: str = ""


Tell = Callable[[Event], object]
"""Takes an event, in the thread of the main loop."""


class EventSource(Protocol):
    """Watches something and tells events, from ``start`` until ``stop``.

    Both methods may be called more than once.
    """

    def start(self) -> None: ...

    def stop(self) -> None: ...
