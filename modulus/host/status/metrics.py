"""The metrics files that node_exporter's textfile collector reads."""

from __future__ import annotations

from pathlib import Path

from modulus.host.files import atomic
from modulus.host.files.place import below, writing


def write_metrics(root: Path, folder: str, instance: str, text: str) -> None:
    """Makes ``text`` the metrics of ``instance`` in ``folder``, in one rename.

    ConfigError or BuildError where it cannot be written.
    """
    path = _path(root, folder, instance)
    with writing(path):
        # A half-written file has another suffix: the collector takes every *.prom.
        atomic.write_atomic(path, text)


def remove_metrics(root: Path, folder: str, instance: str) -> None:
    """Takes the metrics of ``instance`` away, if there are any."""
    path = _path(root, folder, instance)
    with writing(path):
        path.unlink(missing_ok=True)


def _path(root: Path, folder: str, instance: str) -> Path:
    return below(root, folder) / f"modulus-{instance}.prom"
