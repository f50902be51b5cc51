"""Renders the templates of the package; a name that is not defined is an error."""

from __future__ import annotations

import functools
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: object) -> str:
    """The text of ``modulus/templates/TEMPLATE``; values are inserted as they are.

    The filter ``shquote`` makes a value one word of a shell command.
    """
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("modulus"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - what is rendered is never HTML
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shquote"] = _shquote
    return environment


def _shquote(value: object) -> str:
    return shlex.quote(str(value))
