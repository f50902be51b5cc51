"""The command line and the environment of our own children: Python, run by ourselves."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

PYTHON = (sys.executable, "-I")
"""Isolated: neither the environment nor the current folder adds code to what root runs."""

MODULUS = (*PYTHON, "-m", "modulus")
"""Modulus itself; its arguments follow."""

_PASSED = ("JOURNAL_STREAM", "INVOCATION_ID", "TERM", "NO_COLOR")
_SETTINGS = "MODULUS_"
_STATUS = "NOTIFY_SOCKET"


def passed_on(
    environ: Mapping[str, str] = os.environ, *, status: bool = False
) -> dict[str, str]:
    """The variables that ``MODULUS`` gets besides those of every program.

    Only with ``status`` is the child's progress the unit's STATUS. The watchdog's variables are
    never among them: the watchdog is for an agent's loop alone.
    """
    return {
        name: value
        for name, value in environ.items()
        if name in _PASSED or name.startswith(_SETTINGS) or (status and name == _STATUS)
    }
