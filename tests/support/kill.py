"""Kills a piece of work at a chosen moment, as a crash or a power cut might."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

STEPS = frozenset(
    {
        "open",
        "os.mkdir",
        "os.rename",
        "os.symlink",
        "os.chmod",
        "os.remove",
        "os.rmdir",
        "os.scandir",
        "fcntl.flock",
        "fcntl.ioctl",
        "tempfile.mkdtemp",
    }
)
"""The audit events (sys.addaudithook) that count as steps: all that changes files."""


def killed_at(step: int, work: Callable[[], object], events: frozenset[str] = STEPS) -> bool:
    """Runs ``work`` in a child that is killed just before its ``step``th step.

    ``events`` are what counts as one. False if it came to its end before that.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            left = step

            def hook(event: str, _: object) -> None:
                nonlocal left
                if event in events:
                    left -= 1
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False
