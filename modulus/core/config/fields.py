"""The kinds of values that settings and profiles have in common."""

from __future__ import annotations

import re

from modulus.core.config.schema_types import MapOf, Scalar, text

COMPONENTS = ("compute", "utility", "graphics", "video", "display")
MODULE_NAME = text(r"[A-Za-z0-9_][A-Za-z0-9_-]*", "the name of a kernel module")
DRIVER_NAME = text(r"[a-z0-9][a-z0-9_-]*", "the name of a driver, in lower case")


def _sha256(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9A-Fa-f]{64}", value):
        raise ValueError("must be a sha256 of 64 hexadecimal digits")
    return value.lower()


def _option(value: object) -> str:
    """A module parameter; the kernel takes 1 and 0 for every truth value."""
    if isinstance(value, (bool, int)):
        return str(int(value))
    if not isinstance(value, str) or not re.fullmatch(r"[^\x00-\x1f\x7f]+", value):
        raise ValueError("must be a value for a module's parameter, on one line")
    return value


URL_FIELDS = ("arch", "version", "name")
"""What stands in braces in a URL: ``uname -m``, the driver's version, the driver's name."""


def url(*schemes: str) -> Scalar:
    """The template of a URL with one of ``schemes``."""
    named = "|".join(URL_FIELDS)
    return text(
        rf"(?:{'|'.join(schemes)}):(?:[^\s{{}}\x00-\x1f\x7f]|\{{(?:{named})\}})+",
        "a URL ({}) in which only {{{}}} stand in braces".format(
            ", ".join(f"{scheme}:" for scheme in schemes), "} {".join(URL_FIELDS)
        ),
    )


SHA256 = Scalar(_sha256)
OPTIONS = MapOf(
    MODULE_NAME,
    MapOf(text(r"[A-Za-z0-9_.-]+", "the name of a module's parameter"), Scalar(_option)),
)
