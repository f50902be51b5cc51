"""Whether another driver's module can be taken off our GPUs, or kept from taking them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from modulus.core.findings import Finding
from modulus.core.modules.in_use import ModuleUse, Process, describe


@dataclass(frozen=True)
class Framebuffer:
    """A framebuffer's number, and whether its device is the one the firmware booted on."""

    number: int
    boot_vga: bool = False


@dataclass(frozen=True)
class Rival:
    """A rival module in the kernel; ``use`` is None for a built-in one.

    ``gpus`` are the addresses of our GPUs that it has, ``others`` those of its other devices.
    ``console`` says that the console is on one of its framebuffers. ``processes`` are those
    with a display or framebuffer node of the GPUs open.
    """

    module: str
    use: ModuleUse | None
    gpus: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    console: bool = False
    processes: tuple[Process, ...] = ()


@dataclass(frozen=True)
class Removal:
    """What to do about a rival, in this order; ``blocked`` says why nothing is done."""

    free_console: bool = False
    unbind: tuple[str, ...] = ()
    unload: bool = False
    blocked: str | None = None


def decide(rival: Rival, *, force: bool) -> Removal:
    """How to take ``rival`` off our GPUs; blocked while it is in use.

    ``force`` takes it off in use, console and all. A rival without a GPU of ours is unloaded if
    it is idle, since it would take the next GPU that appears.
    """
    use = rival.use
    idle = use is not None and not use.holders and not rival.others
    if not rival.gpus:
        return Removal(unload=idle and use is not None and not use.unexplained)
    reasons = _reasons(rival)
    if reasons and not force:
        return Removal(blocked="; ".join(reasons))
    return Removal(free_console=rival.console, unbind=rival.gpus, unload=idle)


def _reasons(rival: Rival) -> list[str]:
    found = ["the console is on its framebuffer"] if rival.console else []
    named = describe(rival.processes, rival.use.holders if rival.use else ())
    if named:
        found.append(f"in use by {named}")
    elif not found and rival.use and rival.use.unexplained:
        count = rival.use.unexplained
        found.append(f"{count} reference{'' if count == 1 else 's'} to it from elsewhere")
    return found


def has_console(
    own: Sequence[Framebuffer], all_numbers: Collection[int], *, boot_vga: bool, bound: bool
) -> bool:
    """Whether the framebuffer console is on one of a rival's framebuffers ``own``.

    ``bound`` says that the console is on any framebuffer. It begins on the lowest of
    ``all_numbers``, or on the firmware's boot device (fbcon,
    FRAMEBUFFER_CONSOLE_DETECT_PRIMARY). sysfs does not tell which, so either counts. Kernels
    without FB_DEVICE show no framebuffer; the console then counts as on the boot device.
    ``boot_vga``: the rival has that device.
    """
    if not bound:
        return False
    if not all_numbers:
        return boot_vga
    lowest = min(all_numbers)
    return any(buffer.boot_vga or buffer.number == lowest for buffer in own)


def parse_framebuffers(text: str) -> dict[int, str]:
    """The framebuffers in ``/proc/fb``: the driver's name for each, by number."""
    found = re.findall(r"^([0-9]+)[ \t]+(\S.*)$", text, re.MULTILINE)
    return {int(number): name.strip() for number, name in found}


def users_first(modules: Iterable[tuple[str, Collection[str]]]) -> tuple[str, ...]:
    """Orders ``modules``, each given with its holders, so that holders come first."""
    left = dict(modules)
    ordered: list[str] = []
    while left:
        free = [name for name, holders in left.items() if not set(holders) & set(left)]
        for name in free or list(left):
            ordered.append(name)
            del left[name]
    return tuple(ordered)


@dataclass(frozen=True)
class RivalsResult:
    """The addresses of the GPUs that were unbound, and what is left to do."""

    unbound: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def reboot_needed(rival: Rival, why: str, force_setting: str) -> Finding:
    """A rival keeps our GPUs until the next boot, which does not load it."""
    return Finding(
        "rival-bound",
        "loaded",
        "error",
        f"{rival.module} has GPU {', '.join(rival.gpus)}: reboot needed",
        why,
        f"reboot, {rival.module} is kept out then; or set {force_setting}: true, which takes "
        "it off in use",
    )


def not_unbound(rival: Rival, address: str, why: str) -> Finding:
    """The kernel refused to take a GPU from a rival."""
    return Finding(
        "rival-bound",
        "loaded",
        "error",
        f"{rival.module} has GPU {address}: reboot needed",
        f"the kernel does not unbind it: {why}",
        f"reboot, {rival.module} is kept out then",
    )


def stays_loaded(rival: Rival, why: str) -> Finding:
    """A rival that has no GPU of ours is still there, and would take one that appears."""
    return Finding(
        "rival-loaded",
        "loaded",
        "warning",
        f"{rival.module} stays loaded, without a GPU of this driver",
        why,
        f"rmmod {rival.module} once nothing uses it, or reboot",
    )
