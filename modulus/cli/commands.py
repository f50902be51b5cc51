"""Which function does which command."""

from __future__ import annotations

from modulus.cli import building, cache, driver
from modulus.cli.system import Command

COMMANDS: dict[str, Command] = {
    "up": driver.up,
    "down": driver.down,
    "status": driver.status,
    "verify": driver.verify,
    "wait": driver.wait,
    "render": driver.render,
    "build": building.build_modules,
    "plan": building.show_plan,
    "cache": lambda options, reporter: cache.ACTIONS[options.action](options, reporter),
}
