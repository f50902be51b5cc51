"""Records how a start has left the driver, for quick repairs to go by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from modulus.core.generation.recorded_state import RecordedState
from modulus.core.kernel.moddep import module_name
from modulus.errors import ModulusError
from modulus.host.devices.apply import NodesResult
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.paths import inside
from modulus.host.files.regular import read_text
from modulus.host.generation.install import Generation
from modulus.host.generation.recorded_state import (
    driven_gpus,
    driver_majors,
    srcversion,
    write_recorded_state,
)
from modulus.host.kernel.firmware_path import firmware_path
from modulus.host.modules.load import WantedModule
from modulus.host.report.reporter import Reporter
from modulus.pipeline.node import Node


def record_state(
    node: Node,
    reporter: Reporter,
    generation: Generation,
    wanted: Sequence[WantedModule],
    nodes: NodesResult,
) -> None:
    """Records that the driver is to stay as it is now: ``generation``, with ``wanted`` loaded
    and ``nodes`` made. Trouble with that is a warning: the driver is at work."""
    root, profile = node.site.root, node.profile
    state = RecordedState(
        instance=str(node.instance),
        generation=generation.name,
        needed=tuple(module_name(module.name) for module in wanted),
        modules={name: srcversion(root, name) for name in map(module_name, profile.build)},
        firmware=firmware_path(root) if _has_firmware(generation) else None,
        files=_generated(node.paths),
        pci=profile.pci,
        rules=profile.nodes,
        nodes=nodes.wanted,
    )
    state = replace(state, majors=driver_majors(root, state), gpus=driven_gpus(root, state))
    try:
        write_recorded_state(node.paths, state)
    except (ModulusError, OSError) as error:
        reporter.warn(f"what is to be kept right is not recorded: {error}")


def _has_firmware(generation: Generation) -> bool:
    tree = generation.contents.tree
    return any(file.path.startswith("firmware/") for file in tree.files)


def _generated(driver: DriverPaths) -> dict[str, str]:
    """The driver's files in /etc, by their paths inside the root."""
    paths = (driver.modprobe_config, driver.linker_config)
    return {inside(driver.root, path): read_text(path) for path in paths if path.is_file()}
