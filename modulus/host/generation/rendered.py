"""Renders templates into files of the system."""

from __future__ import annotations

from pathlib import Path

from modulus.core.render import render
from modulus.host.files.place import replace_file, writing


def render_file(path: Path, template: str, **values: object) -> bool:
    """Renders ``template`` into ``path``; False if it held the same.

    Raises ConfigError where it cannot be written.
    """
    with writing(path):
        return replace_file(path, render(template, **values))
