"""``down``: takes a driver out of the kernel, and removes what Modulus made for it."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from modulus.core.instance import Instance
from modulus.core.status.boot_hold import build_unit_name, unit_name
from modulus.errors import BuildError, BusyError, ConfigError, LockedError
from modulus.host.bus import endpoint
from modulus.host.bus.systemd import Systemd
from modulus.host.devices.apply import remove_nodes
from modulus.host.generation.enabled import selected_instance
from modulus.host.generation.install import active_generation, remove_driver, write_selected
from modulus.host.generation.linker import unconfigure_linker
from modulus.host.generation.modprobe_conf import unconfigure_modprobe
from modulus.host.modules.firmware import release_firmware
from modulus.host.modules.module_root import remove_module_root
from modulus.host.modules.unload import unload
from modulus.host.report.reporter import Reporter
from modulus.host.status.files import remove_state
from modulus.host.status.metrics import remove_metrics
from modulus.pipeline.activate.in_use import Use, look_in_use
from modulus.pipeline.node import Node

STOP_SECONDS = 120.0


def down(node: Node, reporter: Reporter) -> tuple[str, ...]:
    """Stops the instance's units, and removes and returns what was made for it.

    Where another instance of the driver is active or selected, all but the unit and its state
    belongs to that one, and stays. Raises BusyError, with nothing changed, where
    the driver is in use, and ConfigError without its profile.
    """
    root, name, driver = node.site.root, node.instance.profile, node.paths
    _ = node.profile
    if endpoint.available(root):
        with Systemd() as systemd:
            _look_first(node, reporter)
            for name_of in (unit_name, build_unit_name):
                systemd.stop_unit(name_of(str(node.instance)), STOP_SECONDS)
    with node.site.lock(f"up-{name}", f"the driver {name}", reporter):
        removed: list[str] = []
        owner = _owner(node)
        if owner in (None, node.instance):
            if owner:
                # What others have loaded is not ours to unload.
                removed += _unload(node, reporter)
            if remove_module_root(driver):
                removed.append(driver.inside.run)
            removed += release_firmware(driver, reporter)
            if unconfigure_modprobe(driver):
                removed.append(driver.inside.modprobe_config)
            removed += remove_driver(driver)
            if unconfigure_linker(driver, reporter):
                removed.append(driver.inside.linker_config)
        elif selected_instance(driver) == node.instance:
            # A switch to it was pending, and would be done at the next boot.
            write_selected(driver, owner)
            removed.append(f"the pending switch from {owner}")
        _remove_metrics(node)
        remove_state(root, str(node.instance))
        return tuple(removed)


def _remove_metrics(node: Node) -> None:
    # The agent takes them away when it stops, but not after a failure.
    with contextlib.suppress(ConfigError, BuildError):
        if node.settings.metrics_dir:
            remove_metrics(node.site.root, node.settings.metrics_dir, str(node.instance))


def _look_first(node: Node, reporter: Reporter) -> None:
    """Raises BusyError for a driver in use, before its unit is stopped.

    While ``up`` is at work it has the driver open itself; that ends with the unit.
    """
    name = node.instance.profile
    with contextlib.suppress(LockedError):
        site = replace(node.site, lock_timeout=0)
        with site.lock(f"up-{name}", f"the driver {name}", reporter):
            if _owner(node) == node.instance:
                _check_unused(node, reporter)


def _owner(node: Node) -> Instance | None:
    """The instance that owns the driver; None where Modulus has started none.

    ``up`` activates and selects before it loads; ``down`` unloads before it removes either.
    """
    active = active_generation(node.paths)
    if active:
        return active.contents.identity.instance
    damaged = node.paths.link.is_symlink()
    return selected_instance(node.paths) or (node.instance if damaged else None)


def _check_unused(node: Node, reporter: Reporter) -> Use:
    """What to unload; BusyError for a driver in use."""
    use = look_in_use(node, reporter)
    if use.users.any:
        raise BusyError(
            f"{node.instance} is {use.users.text}",
            "end what uses it and run it again, or reboot after systemctl disable "
            f"{unit_name(str(node.instance))}",
        )
    return use


def _unload(node: Node, reporter: Reporter) -> list[str]:
    """Unloads the modules and removes their device nodes."""
    use = _check_unused(node, reporter)
    names = unload(node.site.root, use.order, reporter)
    paths = remove_nodes(node.site.root, node.profile.nodes, use.facts)
    return [*(f"module {module}" for module in names), *paths]
