"""The recorded state of a driver, as data: what ``up`` leaves is to stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from modulus.core.devices.proc_devices import MOST_MAJOR, MOST_MINOR
from modulus.core.devices.wanted import DEV, DeviceNode, Minors, NodeRule, Params, When
from modulus.core.pci import PciMatch
from modulus.core.record import forms
from modulus.core.record.forms import Fields

_SCHEMA = 1


@dataclass(frozen=True)
class RecordedState:
    """A driver at work: the generation ``generation`` of ``instance``.

    ``modules`` are all of the driver, by the kernel's names: the srcversion of a loaded one
    ("" where the kernel shows none), None for others. ``needed`` are those that must be
    loaded. ``majors`` are the majors of ``nodes``, by the names that ``rules`` have for them.
    ``firmware`` is the kernel's own folder for firmware, None where the driver needs none.
    ``files`` are the texts of generated files, by path. ``gpus`` are the devices that ``pci``
    describes, by address, with the driver of each.
    """

    instance: str
    generation: str
    needed: tuple[str, ...] = ()
    modules: Mapping[str, str | None] = field(default_factory=dict)
    majors: Mapping[str, int] = field(default_factory=dict)
    firmware: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    pci: tuple[PciMatch, ...] = ()
    gpus: Mapping[str, str | None] = field(default_factory=dict)
    rules: tuple[NodeRule, ...] = ()
    nodes: tuple[DeviceNode, ...] = ()

    @property
    def major_names(self) -> frozenset[str]:
        """All names that the rules have for majors."""
        return frozenset(name for rule in self.rules for name in rule.major)


def recorded_state_value(state: RecordedState) -> dict[str, Any]:
    """As JSON values."""
    return {"schema": _SCHEMA, **asdict(state)}


def parse_recorded_state(value: object) -> RecordedState:
    """The state in a ``recorded_state_value``; ValueError for anything else."""
    of = Fields(value, "the recorded state")
    of("schema", forms.exactly(_SCHEMA))
    modules, majors = forms.module_name, forms.number(0, MOST_MAJOR)
    return RecordedState(
        instance=str(of("instance", forms.instance)),
        generation=of("generation", forms.name),
        needed=of("needed", forms.list_of(modules)),
        modules=of("modules", forms.map_of(modules, forms.optional(forms.line))),
        majors=of("majors", forms.map_of(forms.line, majors)),
        firmware=of("firmware", forms.optional(forms.absolute)),
        files=of("files", forms.map_of(forms.absolute, forms.content)),
        pci=of("pci", forms.list_of(_match)),
        gpus=of("gpus", forms.map_of(forms.name, forms.optional(forms.name))),
        rules=of("rules", forms.list_of(_rule)),
        nodes=of("nodes", forms.list_of(_node)),
    )


def _match(value: object) -> PciMatch:
    of = Fields(value, "a kind of device")
    bits = forms.number(0, 0xFFFF)
    return PciMatch(of("vendor", bits), of("device_class", bits))


def _node(value: object) -> DeviceNode:
    of = Fields(value, "a device node")
    owner = forms.number(0, _MOST_OWNER)
    return DeviceNode(
        of("path", _in_dev),
        of("major", forms.number(0, MOST_MAJOR)),
        of("minor", forms.number(0, MOST_MINOR)),
        of("mode", _MODE),
        of("uid", owner),
        of("gid", owner),
        of("managed", forms.flag),
    )


def _in_dev(value: object) -> str:
    found = forms.absolute(value)
    if not found.startswith(f"{DEV}/"):
        raise ValueError(f"must be below {DEV}")
    return found


def _rule(value: object) -> NodeRule:
    of = Fields(value, "a rule of nodes")
    return NodeRule(
        path=of("path", forms.relative),
        major=of("major", forms.list_of(forms.line)),
        default_major=of("default_major", forms.optional(forms.number(0, MOST_MAJOR))),
        module=of("module", forms.optional(forms.module_name)),
        minor=of("minor", forms.optional(forms.number(0, MOST_MINOR))),
        minors=of("minors", forms.optional(_minors)),
        mode=of("mode", _MODE),
        params=of("params", forms.optional(_params)),
        when=of("when", forms.optional(_when)),
    )


def _minors(value: object) -> Minors:
    of = Fields(value, "a source of minors")
    return Minors(
        of("files", forms.list_of(forms.relative)), of("field", forms.optional(forms.line))
    )


def _params(value: object) -> Params:
    of = Fields(value, "parameters of nodes")
    return Params(
        of("file", forms.optional(forms.relative)),
        *(of(name, forms.optional(forms.line)) for name in ("uid", "gid", "mode", "modify")),
    )


def _when(value: object) -> When:
    of = Fields(value, "a condition of nodes")
    return When(of("file", forms.relative), of("field", forms.line))


_MODE = forms.number(0, 0o777)
_MOST_OWNER = (1 << 32) - 2  # One more means no change, to chown(2).
