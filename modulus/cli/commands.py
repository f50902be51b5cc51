"""Which function does which command."""

from __future__ import annotations

import importlib

from modulus.cli.system import Command

COMMANDS: dict[str, str] = {
    "up": "driver:up",
    "down": "driver:down",
    "rollback": "driver:rollback",
    "status": "driver:status",
    "verify": "driver:verify",
    "wait": "driver:wait",
    "render": "driver:render",
    "build": "building:build_modules",
    "plan": "building:show_plan",
    "cache": "cache:manage",
}
"""A module beside this one and a function in it, imported when it is asked for: a warm start
is mostly imports."""


def find_command(name: str) -> Command:
    """The function that does the command ``name``."""
    module, _, function = COMMANDS[name].partition(":")
    command: Command = getattr(importlib.import_module(f"modulus.cli.{module}"), function)
    return command
