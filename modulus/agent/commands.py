"""The command lines of an agent's children, which get the agent's own options."""

from __future__ import annotations

from collections.abc import Iterator

from modulus.agent.job_queue import BUILD, REPAIR, Work
from modulus.host.process.own_children import MODULUS
from modulus.pipeline.site import Site

LOCK_TIMEOUT = 120.0
"""Seconds, unless the options give others. Below the unit's TimeoutStartSec: a child that waits
for a lock fails first, and the agent waits in its place, so that the start does not hang."""


def command(site: Site, instance: str, work: Work, verbose: bool) -> tuple[str, ...]:
    """The command line that does ``work`` on ``instance``, with the options of ``site``."""
    return (
        *MODULUS,
        *("build" if work == BUILD else "up", instance),
        *(["--repair"] if work == REPAIR else ()),
        *_options(site, verbose, waits=True),
    )


def ahead_command(site: Site, instance: str, verbose: bool) -> tuple[str, ...]:
    """The command line that builds ``instance`` for all kernels."""
    return (*MODULUS, "build", instance, "--all-kernels", *_options(site, verbose))


def prove_command(site: Site, verbose: bool) -> tuple[str, ...]:
    """The command line that proves what this node has built by a shortcut."""
    return (
        *(*MODULUS, "cache", "reproduce", "--unproved", "--idle"),
        *_options(site, verbose, waits=True),
    )


def _options(site: Site, verbose: bool, *, waits: bool = False) -> Iterator[str]:
    yield f"--root={site.root}"
    if site.config:
        yield f"--config={site.config}"
    yield from (f"--set={assignment}" for assignment in site.assignments)
    if waits:
        timeout = LOCK_TIMEOUT if site.lock_timeout is None else site.lock_timeout
        yield f"--lock-timeout={timeout:g}"
    if verbose:
        yield "-v"
