"""Asks a driver's library whether it works, in a process that may crash or hang."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Sequence
from pathlib import Path

from modulus.core.profile.libraries import Answer, Library, Reply
from modulus.core.record import forms
from modulus.core.record.forms import Fields
from modulus.core.record.json_text import parse_json
from modulus.errors import ModulusError
from modulus.host.process.own_children import PYTHON
from modulus.host.process.run import run

SECONDS = 20.0
SECONDS_PER_DEVICE = 5.0
"""How long an answer may take: devices that nothing uses are brought up first, which takes
seconds for each."""

_GRACE = 5.0
"""The child keeps the time limit itself; this much later it is ended from here."""


def ask(library: Library, path: Path, devices: Sequence[str] = ()) -> Answer:
    """What the library at ``path`` says of itself and of the ``devices``, PCI addresses.

    Whatever goes wrong is the answer's ``problem``; nothing is raised.
    """
    seconds = SECONDS + SECONDS_PER_DEVICE * len(devices)
    request = {
        "library": str(path),
        "init": library.init,
        "arguments": library.arguments,
        "device": library.device,
        "devices": list(devices),
        "text": library.text,
        "seconds": seconds,
    }
    heard = _Heard(seconds)
    # Run by its path and without site (-S) it starts in half the time.
    program = Path(__file__).with_name("library_probe_child.py")
    try:
        run(
            [*PYTHON, "-S", program, json.dumps(request)],
            timeout=seconds + _GRACE,
            # The library's own dependencies lie beside it.
            env={"LD_LIBRARY_PATH": str(path.parent)},
            on_line=heard.line,
        )
    except ModulusError as error:
        heard.problem = heard.problem or error.message
    return Answer(library.name, tuple(heard.replies), heard.problem)


_STATUS = forms.number(-(1 << 31), (1 << 32) - 1)
"""What a C function returns, or a process ends with."""


class _Heard:
    """What the child has said so far."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._calling: str | None = "fork"
        self.replies: list[Reply] = []
        self.problem: str | None = None

    def line(self, line: str) -> None:
        """Takes a line; half a line, which a killed child may leave, is ignored."""
        word = forms.optional(forms.text)
        with contextlib.suppress(ValueError):
            of = Fields(parse_json(line.encode(errors="replace")), "what the child says")
            if "calling" in of.all:
                self._calling = of("calling", word)
            self.problem = of("problem", word) or self.problem
            if "function" in of.all:
                self.replies.append(
                    Reply(
                        of("function", forms.line),
                        of("status", _STATUS),
                        of("text", forms.text),
                        of("device", word),
                    )
                )
            if "ended" in of.all:
                ended = of("ended", forms.optional(_STATUS))
                self.problem = self.problem or self._end(ended)

    def _end(self, status: int | None) -> str | None:
        if status is None:
            return f"{self._calling} did not return within {self._seconds:g} s"
        if status < 0:
            return f"{self._calling} crashed ({_signal(-status)})"
        return f"{self._calling} ended its process" if self._calling else None


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
