"""Whether it is known which processors are near a GPU."""

from __future__ import annotations

import re
from collections.abc import Iterator

from modulus.core.findings import Finding
from modulus.core.gpu.census import Census


def has_several_nodes(online: str) -> bool:
    """Whether a list of NUMA nodes, as sysfs has it (``0-1,3``), has more than one."""
    return not re.fullmatch(r"\d*", online.strip())


def check_numa(
    instance: str, census: Census, several: bool, numa_fix: bool
) -> Iterator[Finding]:
    """The GPUs whose NUMA node is -1; that costs something with ``several`` nodes."""
    for gpu in census.usable:
        if gpu.numa_node == -1:
            yield Finding(
                "numa-node",
                "usable",
                "warning" if several else "info",
                f"the NUMA node of GPU {gpu} is -1",
                "the firmware does not say which processors are near it",
                # With the setting, the NUMA node is set before each load.
                f"modulus up {instance}"
                if numa_fix
                else "set numa_fix: true in /etc/modulus/modulus.yaml, which makes it node 0",
            )
