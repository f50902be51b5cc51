"""Starts a program that runs beside its caller."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from modulus.host.process.run import environment
from modulus.host.process.start import prctl, start, tie


def spawn(
    argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, nice: int = 0
) -> int:
    """Starts ``argv``, a path and its arguments, with the caller's output; returns its pid.

    The caller waits for the program, with waitpid(2). The program has no standard input. It has
    a session of its own, so that the caller decides about a terminal's Ctrl-C, and gets SIGTERM
    when the caller dies. ``nice`` is added to the caller's niceness, nice(2).
    """
    prctl()
    parent = os.getpid()

    def prepare() -> None:
        tie(parent, signal.SIGTERM)
        os.nice(nice)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    return start([str(word) for word in argv], environment(env), prepare)
