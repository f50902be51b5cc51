"""A service's state by what systemd tells of it, in whatever order."""

from __future__ import annotations

from typing import cast

from modulus.core.status.boot_hold import UnitState
from modulus.host.bus import systemd
from modulus.host.bus.calls import Peer
from modulus.host.bus.unitwatch import UnitWatch

UNIT = {
    "LoadState": "loaded", "ActiveState": "active", "SubState": "running",
    "Job": (0, "/"), "UnitFileState": "static",
}  # fmt: skip


def test_what_is_not_whole_is_waited_for() -> None:
    told: list[UnitState] = []
    # It is asked for nothing here.
    watch = UnitWatch("x.service", cast(Peer, None), lambda callback: callback, told.append)
    watch.changed(systemd.UNIT_SERVICE, {"MainPID": 7})
    watch.changed(systemd.UNIT, UNIT)
    assert told == []
    watch.changed(systemd.UNIT_SERVICE, {"Result": "success", "ExecMainStatus": 0})
    watch.changed(systemd.UNIT, {"ActiveState": "inactive"})
    assert [(state.active, state.result) for state in told] == [("inactive", "success")]
