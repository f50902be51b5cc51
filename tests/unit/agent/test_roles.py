"""The agents of several instances of one driver, and what else they are told."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modulus.core.agent.events import GPUS, KERNELS, MODULES, WRONG
from modulus.core.agent.role import (
    ACTIVE,
    STANDBY,
    Part,
    Role,
    part_at_boot,
    part_kept,
    role_after,
)
from modulus.core.instance import Instance, parse_instance
from modulus.core.status.state import State
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.install import write_selected
from modulus.host.generation.selected import mark_standby, read_selected, stands_by
from tests.support.agentbench import NAME, Bench, agent_bench, wait_for

OTHER = "driver-2.0"
READY = State(NAME, "ready", active=True, selected=True, generation="g-1")


def instance(text: str) -> Instance:
    return parse_instance(text, "")


MINE = instance(NAME)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with agent_bench(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("selected", "standby", "part"),
    [
        (NAME, False, Part(ACTIVE)),
        (NAME, True, Part(ACTIVE)),
        (OTHER, True, Part(STANDBY)),
        (None, True, Part(STANDBY)),
        (OTHER, False, None),
        (None, False, None),
    ],
)
def test_a_part_is_kept(selected: str | None, standby: bool, part: Part | None) -> None:
    chosen = instance(selected) if selected else None
    assert part_kept(MINE, chosen, standby=standby) == part


@pytest.mark.parametrize(
    ("selected", "enabled", "role", "warned"),
    [
        (None, [], ACTIVE, False),
        (None, [NAME], ACTIVE, False),
        (NAME, [NAME, OTHER], ACTIVE, False),
        (OTHER, [NAME, OTHER], STANDBY, False),
        # What is selected is not started, so that it would be nobody.
        (OTHER, [NAME], ACTIVE, True),
        (OTHER, [], ACTIVE, True),
        # The newest, by numbers.
        (None, [NAME, "driver-0.9"], ACTIVE, False),
        (None, [NAME, "driver-0.10", "driver-10.0"], STANDBY, False),
        (OTHER, [NAME, "driver-0.10"], ACTIVE, True),
        (OTHER, [NAME, "driver-1.0.1"], STANDBY, False),
        # Another driver is no matter.
        (None, [NAME, "other-2.0"], ACTIVE, False),
    ],
)
def test_the_part_at_boot(
    selected: str | None, enabled: list[str], role: Role, warned: bool
) -> None:
    chosen = instance(selected) if selected else None
    part = part_at_boot(MINE, chosen, [instance(name) for name in enabled])
    assert (part.role, part.warning is not None) == (role, warned)
    assert not warned or f"{OTHER} is selected, but not enabled" in str(part.warning)


@pytest.mark.parametrize(
    ("role", "before", "now", "after"),
    [
        (ACTIVE, OTHER, OTHER, ACTIVE),
        (ACTIVE, OTHER, NAME, ACTIVE),
        (ACTIVE, NAME, OTHER, STANDBY),
        (ACTIVE, None, OTHER, STANDBY),
        (ACTIVE, NAME, None, ACTIVE),
        (STANDBY, OTHER, None, STANDBY),
        (STANDBY, OTHER, "driver-3.0", STANDBY),
        (STANDBY, None, NAME, ACTIVE),
    ],
)
def test_the_part_follows_what_is_selected(
    role: Role, before: str | None, now: str | None, after: Role
) -> None:
    first, second = (instance(name) if name else None for name in (before, now))
    assert role_after(role, MINE, first, second) == after


def test_what_is_kept(tmp_path: Path) -> None:
    assert not stands_by(tmp_path, MINE)
    mark_standby(tmp_path, MINE, False)
    mark_standby(tmp_path, MINE, True)
    assert stands_by(tmp_path, MINE) and not stands_by(tmp_path, instance(OTHER))
    mark_standby(tmp_path, MINE, False)
    assert not stands_by(tmp_path, MINE)


@pytest.mark.parametrize("text", ["", "nonsense", "other-1.0", "\udcff"])
def test_what_is_selected_may_be_nonsense(tmp_path: Path, text: str) -> None:
    driver = DriverPaths(tmp_path, "driver")
    path = tmp_path / "var/lib/modulus/driver/selected"
    assert read_selected(driver) is None
    path.parent.mkdir(parents=True)
    path.write_text(text, errors="surrogateescape")
    assert read_selected(driver) is None
    path.write_text(f"{NAME}\n")
    assert read_selected(driver) == MINE


def test_what_is_selected_is_read_where_it_is_written(tmp_path: Path) -> None:
    driver = DriverPaths(tmp_path, "driver")
    records = tmp_path / "var/lib/modulus/driver"
    records.parent.mkdir(parents=True)
    records.symlink_to("/srv/driver")
    write_selected(driver, MINE)
    assert (tmp_path / "srv/driver/selected").exists()
    assert read_selected(driver) == MINE
    records.unlink()
    records.symlink_to("driver")
    assert read_selected(driver) is None


def at_boot(bench: Bench) -> None:
    """The boot starts it, and another one is selected."""
    bench.enable(NAME)
    bench.enable(OTHER)
    bench.select(OTHER)
    bench.task = replace(bench.task, at_boot=lambda: True)


STANDS_BY = f"READY=1\nSTATUS=standby: {OTHER} is selected"


def test_standby(bench: Bench) -> None:
    at_boot(bench)
    bench.start()
    bench.tells(STANDS_BY)
    # Builds, and looks at the other kernels after that.
    wait_for(lambda: bench.spare == ["give way", "look"])
    assert bench.works == ["build"]
    assert (bench.state.phase, bench.state.active, bench.state.selected) == (
        "watch",
        False,
        False,
    )
    for kind in (WRONG, MODULES, GPUS):
        bench.tell(kind)
    time.sleep(0.2)
    assert bench.works == ["build"], "it touches nothing"
    bench.leaves(READY)
    bench.select(NAME)
    bench.tells("READY=1\nSTATUS=ready: g-1")
    assert bench.works == ["build", "up"]
    assert not stands_by(bench.root, MINE)
    bench.select(OTHER)
    wait_for(lambda: bench.works == ["build", "up", "build"])
    assert stands_by(bench.root, MINE)


def test_an_explicit_start_selects(bench: Bench) -> None:
    at_boot(bench)
    bench.task = replace(bench.task, at_boot=lambda: False)
    bench.leaves(READY)
    (bench.folder / "up-selects").write_text(f"{NAME}\n")
    bench.start()
    bench.tells("READY=1\nSTATUS=ready: g-1")
    time.sleep(0.1)
    assert bench.works == ["up"], "that its own child selects it is no news"


def test_a_selected_one_that_is_not_enabled_is_no_reason_to_have_none(bench: Bench) -> None:
    at_boot(bench)
    (
        bench.root / f"etc/systemd/system/multi-user.target.wants/modulus@{OTHER}.service"
    ).unlink()
    bench.start()
    bench.tells("READY=1")
    assert bench.works == ["up"]
    assert f"warning: {OTHER} is selected, but not enabled" in bench.log()


@pytest.mark.parametrize("stopped", [True, False])
def test_a_restart_keeps_the_part(bench: Bench, stopped: bool) -> None:
    at_boot(bench)
    bench.task = replace(bench.task, stopped=lambda: stopped)
    pid = bench.start()
    bench.tells(STANDS_BY)
    os.kill(pid, signal.SIGKILL)
    bench.ended()
    bench.messages.clear()
    bench.task = replace(bench.task, at_boot=lambda: False)
    bench.start()
    bench.tells(STANDS_BY)
    assert bench.stop() == 0
    assert stands_by(bench.root, MINE) != stopped
    bench.messages.clear()
    bench.start()
    bench.tells("STATUS=ready" if stopped else STANDS_BY)


def test_a_standby_that_cannot_be_built(bench: Bench) -> None:
    at_boot(bench)
    bench.codes(15)
    bench.start()
    bench.tells(f"{STANDS_BY}; not built for this kernel: status 15")
    time.sleep(0.1)
    assert bench.works == ["build"]
    bench.tell(KERNELS, "headers came")
    wait_for(lambda: bench.works == ["build", "build"])
    bench.tells(STANDS_BY)
