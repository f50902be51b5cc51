"""What ``up`` leaves, which is what is to stay: the wanted state of a driver, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modulus.core.dataclass import asdict, dataclass, field
from modulus.core.nodes import DeviceNode, Minors, NodeRule, Params, When
from modulus.core.pci import PciMatch

_SCHEMA = 1


@dataclass(frozen=True)
class WantedState:
    """A driver at work: the generation ``generation`` of ``instance``.

    ``modules`` are all that the driver has, by the kernel's names, with the srcversion of
    those that are loaded ("" where the kernel shows none) and None for others; those in
    ``needed`` have to be. ``majors`` are those of the names that ``rules`` have for the
    device numbers of ``nodes``. ``firmware`` is the kernel's own folder for firmware, None
    where the driver needs none. ``files`` are generated ones with their texts. ``gpus`` are
    the devices that ``pci`` describes, by address, with the driver of each.
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


def wanted_value(state: WantedState) -> dict[str, Any]:
    """As JSON values."""
    return {"schema": _SCHEMA, **asdict(state)}


def parse_wanted(value: object) -> WantedState:
    """What ``wanted_value`` told of; ValueError for anything else."""
    try:
        return _parse(value)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a wanted state: {error}") from None


def _parse(value: Any) -> WantedState:
    if value["schema"] != _SCHEMA:
        raise ValueError(f"not a wanted state of schema {_SCHEMA}")
    known = {name: one for name, one in value.items() if name != "schema"}
    return WantedState(**{
        **known,
        "needed": tuple(value["needed"]),
        "pci": tuple(PciMatch(**one) for one in value["pci"]),
        "rules": tuple(_rule(one) for one in value["rules"]),
        "nodes": tuple(DeviceNode(**one) for one in value["nodes"]),
    })  # fmt: skip


def _rule(value: Mapping[str, Any]) -> NodeRule:
    minors, params, when = value["minors"], value["params"], value["when"]
    return NodeRule(**{
        **value,
        "major": tuple(value["major"]),
        "minors": minors and Minors(tuple(minors["files"]), minors["field"]),
        "params": params and Params(**params),
        "when": when and When(**when),
    })  # fmt: skip
