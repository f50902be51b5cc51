"""The live states of instances: ``/run/modulus/INSTANCE.json``.

Each is replaced by one rename. It also tells which process wrote it (``writer``), so that the
state of a killed process is not taken for work that goes on.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modulus.core.record import forms
from modulus.core.record.forms import Fields
from modulus.core.status.state import State, abandoned, parse_state
from modulus.host.files.place import below, make_dirs, writing
from modulus.host.files.record import read_record

STATES = "/run/modulus"
_FAILURES = "backoff"
_RECORDS = (_FAILURES, "builds", "ahead")
"""Folders beside the states with what else is kept of each instance."""


def write_state(root: Path, state: State) -> None:
    """Makes ``state`` the live one of its instance, as long as this process is there.

    Not synced: /run does not outlive a power cut. Raises ConfigError where /run cannot be
    written.
    """
    path = _path(root, state.instance)
    value = {**state.value(), "writer": _writer()}
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        make_dirs(path.parent, lasting=False)
        scratch.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
        scratch.chmod(0o644)
        os.replace(scratch, path)


def read_state(root: Path, instance: str) -> State | None:
    """The state of ``instance``, as abandoned where its writer has ended; None without one."""
    found = read_record(_path(root, instance), _parse)
    if found is None or found[0].instance != instance:
        return None
    state, writer = found
    return state if writer and writer.is_alive else abandoned(state)


def read_states(root: Path) -> tuple[State, ...]:
    """The states of all instances, by name."""
    found = (
        read_state(root, path.stem)
        for path in sorted(below(root, STATES).glob("*.json"))
        if not path.name.startswith(".")
    )
    return tuple(state for state in found if state)


def is_anothers(root: Path, instance: str) -> bool:
    """Whether another live process wrote the state: neither this one nor its parent, which may
    be the agent that it works for."""
    _, writer = read_record(_path(root, instance), _parse) or (None, None)
    if writer is None:
        return False
    ours = writer.pid_namespace == _namespace() and writer.pid in (os.getpid(), os.getppid())
    return not ours and writer.is_alive


def clear_state(root: Path, instance: str) -> None:
    """Removes the state of ``instance``, if there is one."""
    path = _path(root, instance)
    with writing(path):
        path.unlink(missing_ok=True)


def remove_state(root: Path, instance: str) -> None:
    """Removes all that is kept of ``instance`` in /run, what killed writers left included."""
    clear_state(root, instance)
    path = _path(root, instance)
    with writing(path):
        for kind in _RECORDS:
            (path.parent / kind / path.name).unlink(missing_ok=True)
        sweep_states(root, instance)


def sweep_states(root: Path, instance: str | None = None) -> None:
    """Removes what killed writers left, of one instance or of all."""
    name = glob.escape(instance) if instance else "*"
    for scratch in below(root, STATES).glob(f".{name}.json.*"):
        if not Path(f"/proc/{scratch.suffix[1:]}").exists():
            scratch.unlink(missing_ok=True)


def failures_file(root: Path, instance: str) -> Path:
    """Where the agent counts the failures of ``instance``."""
    return below(root, STATES) / _FAILURES / f"{instance}.json"


def _path(root: Path, instance: str) -> Path:
    return below(root, STATES) / f"{instance}.json"


def _started(process: str) -> tuple[int, int] | None:
    """The pid of ``process`` (a pid, or "self") and when it started, in ticks since boot.

    Together they name one process only. None for one that has ended, a zombie included.
    Fields 1, 3 and 22 of stat, proc(5).
    """
    text = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
    # The command stands in brackets and may hold anything.
    words = text.rpartition(")")[2].split()
    return None if words[0] in "ZX" else (int(text.split(maxsplit=1)[0]), int(words[19]))


@dataclass(frozen=True)
class _Writer:
    """A process: its pid and when it started, in ticks since boot, as seen in a namespace."""

    pid: int
    start: int
    pid_namespace: str

    @property
    def is_alive(self) -> bool:
        """Whether it is there, or cannot be seen from here."""
        try:
            if self.pid_namespace != _namespace():
                return True
            return _started(str(self.pid)) == (self.pid, self.start)
        except OSError:
            return False


def _writer() -> dict[str, Any]:
    pid, start = _started("self") or (None, None)
    return {"pid": pid, "start": start, "pid_namespace": _namespace()}


def _parse(value: object) -> tuple[State, _Writer | None]:
    """The state and its writer; None where the writer is not told."""
    writer = None
    with contextlib.suppress(ValueError):
        of = Fields(Fields(value, "the state").all.get("writer"), "its writer")
        writer = _Writer(
            of("pid", forms.count), of("start", forms.count), of("pid_namespace", forms.line)
        )
    return parse_state(value), writer


def _namespace() -> str:
    return os.readlink("/proc/self/ns/pid")
