"""``down``: takes a driver out of the kernel, and away what Modulus made for it."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from modulus.core.boot import unit_name
from modulus.core.instance import Instance
from modulus.core.inuse import NodeSet, unload_order
from modulus.core.nodes import NodeFacts, wanted_nodes
from modulus.errors import BusyError, LockedError
from modulus.host import bus
from modulus.host.display import display_nodes
from modulus.host.enabled import selected_instance
from modulus.host.firmware import release_firmware
from modulus.host.install import active_generation, remove_driver
from modulus.host.inuse import users
from modulus.host.kmod import loaded
from modulus.host.linker import unconfigure_linker
from modulus.host.modprobeconf import unconfigure_modprobe
from modulus.host.moduleroot import remove_module_root
from modulus.host.nodefacts import read_facts
from modulus.host.nodes import remove_nodes
from modulus.host.place import DRIVERS, below
from modulus.host.statefile import remove_state
from modulus.host.unload import unload
from modulus.pipeline.node import Node

STOP_SECONDS = 120.0


def down(node: Node) -> tuple[str, ...]:
    """Stops the instance's unit and removes what was made for it; what was removed.

    Where another instance of the driver is the one that is active or selected, all but the
    unit and its state are that one's, and stay. Raises BusyError, with nothing changed, where
    the driver is in use, and ConfigError without its profile.
    """
    root, name = node.site.root, node.instance.profile
    _ = node.profile
    if bus.available(root):
        with bus.Systemd() as systemd:
            _look_first(node)
            systemd.stop_unit(unit_name(str(node.instance)), STOP_SECONDS)
    with node.site.lock(f"up-{name}", f"the driver {name}"):
        removed: list[str] = []
        owner = _owner(node)
        if owner in (None, node.instance):
            if owner:
                # What others have loaded is not ours to unload.
                removed += _unload(node)
            if remove_module_root(root, name):
                removed.append(f"/run/modulus/{name}")
            removed += release_firmware(root, name, node.reporter)
            if unconfigure_modprobe(root, name):
                removed.append(f"/etc/modprobe.d/modulus-{name}.conf")
            removed += remove_driver(root, name)
            if unconfigure_linker(root, name, node.reporter):
                removed.append(f"/etc/ld.so.conf.d/modulus-{name}.conf")
        remove_state(root, str(node.instance))
        return tuple(removed)


def _look_first(node: Node) -> None:
    """Raises BusyError for a driver in use, before its unit is stopped.

    While ``up`` is at work it has the driver open itself; that ends with the unit.
    """
    name = node.instance.profile
    with contextlib.suppress(LockedError):
        site = replace(node.site, lock_timeout=0)
        with site.lock(f"up-{name}", f"the driver {name}"):
            if _owner(node) == node.instance:
                _check_unused(node)


def _owner(node: Node) -> Instance | None:
    """The instance that the driver is; None where Modulus has started none.

    ``up`` activates and selects before it loads, and what is loaded goes before these do.
    """
    root, name = node.site.root, node.instance.profile
    active = active_generation(root, name)
    if active:
        return active.contents.identity.instance
    damaged = (below(root, DRIVERS) / name).is_symlink()
    return selected_instance(root, name) or (node.instance if damaged else None)


def _check_unused(node: Node) -> tuple[tuple[str, ...], NodeFacts]:
    """The modules to unload, in order, and what there is of nodes; BusyError for a driver in
    use."""
    root, profile = node.site.root, node.profile
    order = unload_order(profile, loaded(root, (*profile.unload, *profile.build)))
    facts = read_facts(root, profile.nodes)
    nodes = _nodes(node, facts)
    using = users(root, profile, order, nodes)
    if using.any:
        raise BusyError(
            f"{node.instance} is {using.text}",
            "end what uses it and run it again, or reboot after systemctl disable "
            f"{unit_name(str(node.instance))}",
        )
    return order, facts


def _unload(node: Node) -> list[str]:
    """Unloads the modules and removes their device nodes."""
    order, facts = _check_unused(node)
    names = unload(node.site.root, order, node.reporter)
    paths = remove_nodes(node.site.root, node.profile.nodes, facts)
    return [*(f"module {module}" for module in names), *paths]


def _nodes(node: Node, facts: NodeFacts) -> NodeSet:
    """The driver's device nodes: those it should have, those that are there, its displays."""
    rules = node.profile.nodes
    wanted = wanted_nodes(rules, facts)
    own = NodeSet(
        numbers=frozenset((device.major, device.minor) for device in wanted),
        paths=frozenset((*facts.seen, *(device.path for device in wanted))),
    )
    return own | display_nodes(node.site.root, [gpu.address for gpu in node.census.usable])
