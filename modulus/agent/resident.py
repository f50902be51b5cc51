"""``up --watch``: has the driver brought up and stays, as the unit's main process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from modulus.agent.agent import Agent, Task
from modulus.agent.loop import Loop
from modulus.core.instance import Instance
from modulus.core.pci import PciMatch
from modulus.host.notify import make_notifier, watchdog_seconds
from modulus.pipeline.site import Site

LOCK_TIMEOUT = 120.0
"""Seconds, where no other is asked for. Within the unit's TimeoutStartSec, so that waiting for
another's lock becomes the agent's waiting, and no hung start."""

_PASSED = ("NOTIFY_SOCKET", "JOURNAL_STREAM", "INVOCATION_ID", "TERM", "NO_COLOR")
_SETTINGS = "MODULUS_"


def watch(site: Site, instance: Instance, *, verbose: bool = False) -> int:
    """Keeps ``instance`` up below the site's root until told to end; an exit code.

    The work is done by ``modulus up`` in a process of its own.
    """
    config = site.config.absolute() if site.config else None

    def gpus() -> Sequence[PciMatch]:
        # Only now: what a GPU is need not be known, nor YAML be loaded, where none is missing.
        from modulus.host.config import load_profile

        return load_profile(site.root, instance.profile).pci

    def inputs() -> str:
        # Only after a failure.
        from modulus.agent.inputs import inputs_digest

        return inputs_digest(site.root, config)

    site.reporter.about(instance=str(instance))
    task = Task(
        root=site.root,
        instance=str(instance),
        command=command(site, instance, config, verbose),
        env=passed_on(os.environ),
        inputs=inputs,
        gpus=gpus,
    )
    # As daemons do, or no file system could be unmounted that it was started in.
    os.chdir("/")
    agent = Agent(task, Loop(), make_notifier(), site.reporter)
    return agent.run(watchdog_seconds())


def command(
    site: Site, instance: Instance, config: Path | None, verbose: bool
) -> tuple[str, ...]:
    """The command line of one ``up`` with the same options."""
    timeout = LOCK_TIMEOUT if site.lock_timeout is None else site.lock_timeout
    return (
        # -I: neither the environment nor the current folder adds code to what root runs.
        *(sys.executable, "-I", "-m", "modulus", "up", str(instance)),
        f"--root={site.root}",
        *([f"--config={config}"] if config else ()),
        *(f"--set={assignment}" for assignment in site.assignments),
        f"--lock-timeout={timeout:g}",
        *(["-v"] if verbose else ()),
    )


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """What of the environment ``up`` gets besides that of any command.

    Not the watchdog's variables: that one is for the loop alone.
    """
    return {
        name: value
        for name, value in environ.items()
        if name in _PASSED or name.startswith(_SETTINGS)
    }
