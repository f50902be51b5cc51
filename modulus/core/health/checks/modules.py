"""Whether the modules of the active generation are the ones that are loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from modulus.core.findings import Finding


class WantedModule(Protocol):
    """What tells one build of a module from another; None where the module has none."""

    @property
    def version(self) -> str | None: ...
    @property
    def srcversion(self) -> str | None: ...


class LoadedModule(WantedModule, Protocol):
    """A module in the kernel; ``state`` is live, coming or going."""

    @property
    def state(self) -> str: ...


def check_modules(
    instance: str, wanted: Mapping[str, WantedModule], loaded: Mapping[str, LoadedModule]
) -> Iterator[Finding]:
    """Findings for ``wanted``, by the names in sysfs: not loaded, or loaded from elsewhere."""
    for name, module in wanted.items():
        actual = loaded.get(name)
        if actual is None or actual.state != "live":
            yield Finding(
                "module-missing",
                "loaded",
                "error",
                f"module {name} is not loaded",
                f"the kernel has it as {actual.state}, which stays so where its start failed"
                if actual
                else "it was never loaded, or was unloaded since",
                "reboot" if actual else f"modulus up {instance}",
            )
        elif problem := _difference(module, actual):
            yield Finding(
                "module-version",
                "loaded",
                "error",
                f"the module {name} that is loaded is not that of {instance}",
                problem,
                f"modulus down {instance} && modulus up {instance}, or reboot",
            )


def _difference(wanted: WantedModule, actual: LoadedModule) -> str | None:
    if wanted.version and wanted.version != actual.version:
        return f"version {actual.version or 'unknown'} is loaded in place of {wanted.version}"
    if wanted.srcversion and wanted.srcversion != actual.srcversion:
        return f"its sources differ: srcversion {actual.srcversion}, not {wanted.srcversion}"
    return None
