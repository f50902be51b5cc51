"""The command lines of an agent's children, which get the agent's own options."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

from modulus.agent.lane import BUILD, REPAIR, Work
from modulus.pipeline.site import Site

LOCK_TIMEOUT = 120.0
"""Seconds, where no other is asked for. Within the unit's TimeoutStartSec, so that waiting for
another's lock becomes the agent's waiting, and no hung start."""

_PASSED = ("NOTIFY_SOCKET", "JOURNAL_STREAM", "INVOCATION_ID", "TERM", "NO_COLOR")
_SETTINGS = "MODULUS_"


def command(site: Site, instance: str, work: Work, verbose: bool) -> tuple[str, ...]:
    """The command line that does ``work`` on ``instance``, with the options of ``site``."""
    return (
        # -I: neither the environment nor the current folder adds code to what root runs.
        *(sys.executable, "-I", "-m", "modulus"),
        *("build" if work == BUILD else "up", instance),
        *(["--repair"] if work == REPAIR else ()),
        *_options(site, verbose),
    )


def prove_command(site: Site, verbose: bool) -> tuple[str, ...]:
    """The command line that proves what this node has built by a shortcut."""
    return (
        *(sys.executable, "-I", "-m", "modulus", "cache", "reproduce", "--unproved", "--idle"),
        *_options(site, verbose),
    )


def _options(site: Site, verbose: bool) -> Iterator[str]:
    yield f"--root={site.root}"
    if site.config:
        yield f"--config={site.config}"
    yield from (f"--set={assignment}" for assignment in site.assignments)
    timeout = LOCK_TIMEOUT if site.lock_timeout is None else site.lock_timeout
    yield f"--lock-timeout={timeout:g}"
    if verbose:
        yield "-v"


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """What of the environment a child gets besides that of any command.

    Not the watchdog's variables: that one is for the loop alone.
    """
    return {
        name: value
        for name, value in environ.items()
        if name in _PASSED or name.startswith(_SETTINGS)
    }
