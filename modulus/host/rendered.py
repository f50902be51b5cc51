"""Rendered files of the system, rendered anew only for other values."""

from __future__ import annotations

from pathlib import Path

from modulus.host.place import replace_file, writing
from modulus.host.recall import Recall

_TEMPLATES = Path(__file__).parents[1] / "templates"


def render_file(path: Path, recall: Recall, template: str, **values: object) -> bool:
    """Makes ``path`` what ``template`` renders; False if it was.

    The ``values`` are plain data. Raises ConfigError where it cannot be written.
    """
    made_of = ("render", (_TEMPLATES / template).read_text("utf-8"), values)
    text = recall.find(*made_of)
    if text is None:
        from modulus.core.render import render

        text = render(template, **values)
        recall.note(text, *made_of)
    with writing(path):
        return replace_file(path, text)
