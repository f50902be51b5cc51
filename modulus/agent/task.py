"""What an agent keeps up, and by which means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from modulus.agent.job_queue import Work
from modulus.core.agent.backoff import Backoff
from modulus.core.instance import Instance


class Command(Protocol):
    """The command line of one piece of work. ``pending``: for the driver that is at work,
    which is another instance's, or another generation."""

    def __call__(self, work: Work, *, pending: bool) -> Sequence[str]: ...


def _no(*_: object) -> bool:
    return False


@dataclass(frozen=True)
class Task:
    """Keep ``instance`` up below ``root``.

    A child runs ``command`` with ``env``. ``inputs`` gives a digest of what the driver is made
    from, which is looked at every ``poll`` seconds between tries. ``waits`` tells whether a
    driver in use is waited for (``switch_busy``), ``at_boot`` whether the boot started this
    agent, and ``stopped`` whether the agent ends for good.

    In seconds: ``settle`` is the wait for more messages of one kind, ``calm`` the wait before
    work that is for later, ``census`` the time between looks for GPUs where the kernel does not
    tell of them.
    """

    root: Path
    instance: Instance
    command: Command
    env: Mapping[str, str]
    inputs: Callable[[], str]
    waits: Callable[[], bool] = _no
    at_boot: Callable[[], bool] = _no
    stopped: Callable[[], bool] = _no
    backoff: Backoff = field(default_factory=Backoff)
    poll: float = 30.0
    census: float = 300.0
    settle: float = 1.0
    calm: float = 10.0
