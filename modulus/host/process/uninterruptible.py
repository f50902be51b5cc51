"""Runs what must not be stopped half-way: the programs by which a module starts or ends.

A module whose start is cut short by a fatal signal cannot make its threads, kthread_create(9).
Not every module copes with that: it may wait for ever for a thread, or crash, and only a reboot
makes the node whole (docs/architecture.md has a case). So such a program runs to its own end,
whatever becomes of its caller. Since systemd kills all of a unit, the program is put into a
scope of its own there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from modulus.host.process.cgroup import find_hierarchies
from modulus.host.process.run import Result, find, run
from modulus.host.process.spawn import spawn
from modulus.host.report import own_unit

_OUR_UNITS = "modulus@"
_SCOPE_SECONDS = 10.0
"""How long systemd may take to make a scope; without one, the program runs in the unit."""
_POLL_SECONDS = 0.005
_numbers = itertools.count(1)

Whole = Callable[[Sequence[str | Path], float], Result]
"""Runs a program to its own end: its arguments, and the seconds that it is waited for. The
errors are those of ``run.run``."""


@contextlib.contextmanager
def shelter(what: str) -> Iterator[Whole]:
    """Yields a function that runs programs to their end; the journal calls them ``what``."""
    with contextlib.ExitStack() as stack:
        groups: tuple[Path, ...] = ()
        if _in_unit():
            groups = stack.enter_context(_scope(what))

        def enter() -> None:
            for group in groups:
                # Gone where somebody has stopped the scope.
                with contextlib.suppress(OSError):
                    (group / "cgroup.procs").write_text("0")

        def run_whole(argv: Sequence[str | Path], timeout: float) -> Result:
            return run(argv, timeout=timeout, preexec=enter, unbroken=True)

        yield run_whole


def _in_unit() -> bool:
    """Whether this process is in a unit of Modulus, of which systemd kills all at once.

    Other units, by default, first ask all their processes to end.
    """
    return own_unit.systemd_runs() and own_unit.current_unit().startswith(_OUR_UNITS)


@contextlib.contextmanager
def _scope(what: str) -> Iterator[tuple[Path, ...]]:
    """The control groups of a new scope; none where systemd makes none."""
    tool, sleep = find("systemd-run"), find("sleep")
    if not tool or not sleep:
        yield ()
        return
    # A new name each time: the last scope may not be gone yet.
    name = f"modulus-load-{os.getpid()}-{next(_numbers)}"
    # A scope needs a process in it, from its beginning until the programs are there.
    options = ("--quiet", "--collect", f"--unit={name}", f"--description={what}")
    keeper = spawn(
        (tool, "--scope", *options, "--property=Delegate=yes", "--", sleep, "infinity")
    )
    try:
        yield _wait_for_scope(keeper)
    finally:
        os.kill(keeper, signal.SIGTERM)
        os.waitpid(keeper, 0)


def _wait_for_scope(keeper: int) -> tuple[Path, ...]:
    """The control groups that ``keeper`` is moved to, by which systemd knows its scope."""
    ours = _cgroup("self")
    deadline = time.monotonic() + _SCOPE_SECONDS
    while time.monotonic() < deadline:
        if os.waitid(os.P_PID, keeper, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        text = _cgroup(str(keeper))
        if text != ours and ".scope" in text:
            found = find_hierarchies(text, Path("/proc/self/mountinfo").read_text("utf-8"))
            return tuple(found[name].own for name in ("", "name=systemd") if name in found)
        time.sleep(_POLL_SECONDS)
    return ()


def _cgroup(pid: str) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text("utf-8")
