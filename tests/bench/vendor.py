"""The driver as DKMS and plain make build it: its dkms.conf, and what make compiled."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.bench.measure import FailedError


def dkms_conf(
    template: str, version: str, jobs: int, tree: Path, modules: Sequence[str]
) -> str:
    """The driver's own dkms.conf filled in as its installer does, for headers at ``tree``.

    The installer has make find them by the kernel's name below /lib/modules.
    """
    headers = f"SYSSRC={tree}/source SYSOUT={tree}/build"
    listed = "\n".join(
        f'BUILT_MODULE_NAME[{number}]="{name}"\n'
        f'BUILT_MODULE_LOCATION[{number}]=""\n'
        f'DEST_MODULE_LOCATION[{number}]="/kernel/drivers/video"'
        for number, name in enumerate(modules)
    )
    filled = {
        "__VERSION_STRING": version,
        "__JOBS": str(jobs),
        "__EXCLUDE_MODULES": "",
        "__DKMS_MODULES": listed,
        "KERNEL_UNAME=${kernelver}": headers,
    }
    for mark, value in filled.items():
        if mark not in template:
            raise FailedError(f"the driver's dkms.conf has no {mark}")
        template = template.replace(mark, value)
    return f"{template}\nCLEAN=\"'make' {headers} clean\"\n"


def compilations(records: Iterable[str]) -> list[list[str]]:
    """The compiler's command lines for real objects, of what kbuild records beside each.

    What is compiled of modpost's own making is no object of the vendor's.
    """
    found = []
    for record in records:
        first = record.partition("\n")[0]
        name, _, command = first.partition(" := ")
        if not command or ".mod.o" in name:
            continue
        words = shlex.split(command.partition(" ; ")[0].replace("$$", "$"))
        if words[-1].endswith(".c"):
            found.append(words)
    return found
