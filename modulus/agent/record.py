"""How often an instance failed in a row, kept in /run so that it outlives the agent."""

from __future__ import annotations

from pathlib import Path

from modulus.host import files
from modulus.host.place import below, make_dirs
from modulus.host.statefile import STATES


class Record:
    """The failures of ``instance`` with the same inputs."""

    def __init__(self, root: Path, instance: str) -> None:
        self._path = below(root, STATES) / f"{instance}.backoff.json"

    def failed(self, inputs: str) -> int:
        """Counts one more; how many that makes. Other ``inputs`` begin anew."""
        held = files.read_json(self._path)
        before = held.get("failures") if isinstance(held, dict) else None
        if not isinstance(before, int) or held.get("inputs") != inputs:
            before = 0
        make_dirs(self._path.parent)
        files.write_json(self._path, {"failures": before + 1, "inputs": inputs})
        return before + 1

    def clear(self) -> None:
        """It works again."""
        self._path.unlink(missing_ok=True)
