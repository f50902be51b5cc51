"""Starts a program that goes on by itself while we do something else."""

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
    """Starts ``argv``, a path and its arguments, with our own output; returns its pid.

    The caller waits for it, with waitpid(2). It has no standard input and a session of its own,
    so that a terminal's Ctrl-C is ours to pass on, and gets SIGTERM when we die. ``nice`` is
    added to our own niceness, nice(2).
    """
    prctl()
    parent = os.getpid()

    def prepare() -> None:
        tie(parent, signal.SIGTERM)
        os.nice(nice)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    return start([str(word) for word in argv], environment(env), prepare)
