"""What holds a boot: where instances stand on the way to READY, and which of them counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from modulus.core.agent.backoff import PERMANENT
from modulus.core.status.state import Failure, State
from modulus.errors import ModulusError

READY = "ready"
WAITING = "waiting"
FAILED = "failed"
OFF = "off"


@dataclass(frozen=True)
class UnitState:
    """What systemd says of a unit, in the words of org.freedesktop.systemd1(5).

    ``job`` says that a job is queued for it, ``enabled`` that a boot starts it.
    """

    load: str
    active: str
    sub: str
    result: str
    exit_status: int
    job: bool
    enabled: bool

    @property
    def at_rest(self) -> bool:
        """Whether it does not run, and nothing is about to change that."""
        return self.active in ("inactive", "failed") and not self.job


@dataclass(frozen=True)
class Standing:
    """An instance is READY, FAILED for good (``error`` says why), WAITING, or OFF: nothing is
    going to start it. ``text`` is what it does now."""

    instance: str
    verdict: str
    text: str = ""
    error: Failure | None = None


def stand(instance: str, unit: UnitState | None, state: State | None) -> Standing:
    """Where ``instance`` stands by its unit, or without one by its state alone."""
    doing = state.doing if state else ""
    if unit is None:
        return _by_state(instance, state)
    # Since systemd 254 a unit passes through "failed-before-auto-restart".
    if unit.job or unit.active in ("activating", "deactivating") or "auto-restart" in unit.sub:
        return Standing(instance, WAITING, doing or f"its unit is {unit.active} ({unit.sub})")
    if unit.load in ("error", "bad-setting"):
        fault = Failure(
            ModulusError.code,
            f"its unit cannot be loaded ({unit.load})",
            f"see systemd-analyze verify {unit_name(instance)}",
        )
        return Standing(instance, FAILED, error=fault)
    if unit.active == "failed":
        return Standing(instance, FAILED, error=_failure(instance, unit, state))
    # An inactive unit without a job stays so, enabled or not: the hold would be in vain.
    return Standing(instance, OFF if unit.active == "inactive" else READY, doing)


def expect(instance: str, state: State | None) -> Standing:
    """Where ``instance`` stands while systemd, which has started it or will, cannot be asked.

    Anything but READY and FAILED for good counts as WAITING.
    """
    standing = _by_state(instance, state)
    final = standing.error is not None and standing.error.code in PERMANENT
    if standing.verdict == READY or final:
        return standing
    return Standing(instance, WAITING, standing.text or "systemd cannot be asked")


def decisive(standings: Iterable[Standing], selected: str | None) -> Standing | None:
    """The standing that counts among those of one driver: the ``selected`` instance's.

    Where that instance is OFF, or none is selected, one that is READY counts, else a WAITING,
    else a FAILED one; None if all are OFF.
    """
    on = [standing for standing in standings if standing.verdict != OFF]
    candidates = [standing for standing in on if standing.instance == selected] or on
    order = (READY, WAITING, FAILED)
    return min(candidates, key=lambda standing: order.index(standing.verdict), default=None)


def unit_name(instance: str) -> str:
    """The unit that runs ``instance``, whose name needs no escaping."""
    return f"modulus@{instance}.service"


def build_unit_name(instance: str) -> str:
    """The unit that builds for ``instance``'s other kernels."""
    return f"modulus-build@{instance}.service"


def _by_state(instance: str, state: State | None) -> Standing:
    if state is None or state.phase is None:
        return Standing(instance, OFF)
    if state.phase == "failed":
        fault = state.error or Failure(
            ModulusError.code, "it failed", f"see modulus status {instance}"
        )
        return Standing(instance, FAILED, error=fault)
    # With a build it waits for a GPU: as ready as it gets. Without, it waits for a lock.
    resting = state.phase == "wait" and state.error is None and state.key is not None
    ready = resting or state.phase in ("ready", "watch")
    return Standing(instance, READY if ready else WAITING, state.doing)


def _failure(instance: str, unit: UnitState, state: State | None) -> Failure:
    """Why it failed: its own error if it exited with one, else systemd's word for the unit."""
    if unit.result == "exit-code":
        if state and state.error:
            return state.error
        code = unit.exit_status
    else:
        code = ModulusError.code
    return Failure(
        code,
        f"its unit failed: {unit.result}",
        f"see journalctl -u {unit_name(instance)}, then systemctl restart it",
    )
