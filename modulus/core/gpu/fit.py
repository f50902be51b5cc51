"""Whether a driver works with a GPU, by which of its flavours, and why not by the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modulus.core.gpu.supported import GpuList, ListedGpu
from modulus.core.pci import PciDevice
from modulus.core.profile.profile import FlavourRule, Profile


@dataclass(frozen=True)
class GpuFit:
    """A GPU with the flavours that work with it, and why each other one does not.

    Where none works, ``refusal`` says so in a line, and ``remedy`` what to do.
    """

    address: str
    title: str
    works: tuple[str, ...]
    excluded: Mapping[str, str]
    refusal: str = ""
    remedy: str = ""

    @property
    def why(self) -> str:
        return next(iter(self.excluded.values()), "")


def fit(
    profile: Profile,
    version: str,
    device: PciDevice,
    listed: GpuList,
    missing: Mapping[str, str],
) -> GpuFit:
    """What driver ``version`` makes of ``device``.

    ``listed`` is the package's own list; ``missing`` has the flavours that the version lacks,
    and why.
    """
    entry = listed.get(device.device)
    title = f"GPU {device.address} ({device.vendor:04x}:{device.device:04x}"
    title += f", {entry.name})" if entry and entry.name else ")"
    rule = next(
        (
            rule
            for rule in profile.flavour_rules
            if rule.pci and rule.speaks_of(device.device, version)
        ),
        None,
    )
    if entry and entry.legacy:
        refusal = f"{title} is not supported by {profile.name} {version}"
        remedy = f"use a driver of the {entry.legacy} branch"
        return _unfit(profile, device, title, refusal, remedy)
    if rule and rule.flavour is None:
        remedy = rule.instead or "use another version"
        return _unfit(profile, device, title, f"{title}: {rule.why}", remedy)
    excluded = _excluded(profile, rule, entry, missing)
    works = tuple(name for name in profile.flavours if name not in excluded)
    if works:
        return GpuFit(device.address, title, works, excluded)
    why = next(iter(excluded.values()))
    if rule:
        # Or it would not be said why the one flavour that the rule allows does not work.
        why = f"{rule.why}, and {excluded[rule.flavour or '']}"
    refusal = f"{title} cannot work with {profile.name} {version}: {why}"
    remedy = "choose a version that supports this GPU"
    return GpuFit(device.address, title, (), excluded, refusal, remedy)


def _unfit(
    profile: Profile, device: PciDevice, title: str, refusal: str, remedy: str
) -> GpuFit:
    excluded = dict.fromkeys(profile.flavours, refusal)
    return GpuFit(device.address, title, (), excluded, refusal, remedy)


def _excluded(
    profile: Profile,
    rule: FlavourRule | None,
    entry: ListedGpu | None,
    missing: Mapping[str, str],
) -> dict[str, str]:
    """Why which flavours do not work with a GPU that ``rule`` and ``entry`` speak of."""
    excluded: dict[str, str] = {}
    for name in profile.flavours:
        feature = profile.gpu_list.flavours.get(name) if profile.gpu_list else None
        if rule and rule.flavour != name:
            excluded[name] = rule.why
        elif name in missing:
            excluded[name] = missing[name]
        elif entry and feature and feature not in entry.features:
            excluded[name] = f"the package does not list it for the {name} flavour"
    return excluded
