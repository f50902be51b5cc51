"""Delays a shutdown: logind's limit on that, and the command that holds a lock of logind."""

from __future__ import annotations

from pathlib import Path

from modulus.core.agent.logind_drop_in import parse_claims, render_claims
from modulus.host.files import atomic
from modulus.host.files.place import below, replace_file, writing
from modulus.host.files.regular import read_text
from modulus.host.process.run import find

DROP_IN = "/run/systemd/logind.conf.d/90-modulus.conf"
"""Below those of /etc, so that an administrator's own word counts; gone with the boot."""


def claim(root: Path, instance: str, seconds: float) -> bool:
    """Has the drop-in say that ``instance`` wants ``seconds``, nothing for 0.

    Returns whether it changed, so that logind has to read it again. ConfigError where it cannot
    be written.
    """
    path = below(root, DROP_IN)
    claims = claimed(root)
    if seconds > 0:
        claims[instance] = seconds
    elif claims.pop(instance, None) is None:
        return False
    text = render_claims(claims)
    with writing(path):
        if text:
            return replace_file(path, text)
        path.unlink(missing_ok=True)
        atomic.fsync_dir(path.parent)
    return True


def claimed(root: Path) -> dict[str, float]:
    """The seconds that each instance wants now."""
    try:
        return parse_claims(read_text(below(root, DROP_IN)))
    except OSError:
        return {}


def lock_command(why: str) -> tuple[str, ...] | None:
    """The command that delays a shutdown as long as it runs; None without the tools for it.

    Not Inhibit() of the bus: its answer is a file descriptor, which pydbus cannot hand back
    (https://github.com/LEW21/pydbus/issues/42).
    """
    tool, sleep = find("systemd-inhibit"), find("sleep")
    if not tool or not sleep:
        return None
    options = ("--what=shutdown", "--mode=delay", "--who=Modulus", f"--why={why}")
    return (str(tool), *options, str(sleep), "infinity")
