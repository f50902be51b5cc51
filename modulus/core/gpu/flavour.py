"""Which flavour of a driver a node gets, and why: its GPUs' ids, the package, the version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from modulus.core.gpu.supported import GpuList, parse_gpu_list
from modulus.core.pci import PciDevice, devices_of
from modulus.core.profile.profile import FlavourRule, Profile
from modulus.errors import ConfigError, UnsupportedError


@dataclass(frozen=True)
class FlavourChoice:
    """A flavour, and in a few words what decided for it."""

    flavour: str
    reason: str


@dataclass(frozen=True)
class _Gpu:
    """A GPU with the flavours that work with it, and why each other one does not."""

    title: str
    works: tuple[str, ...]
    excluded: Mapping[str, str]

    @property
    def why(self) -> str:
        return next(iter(self.excluded.values()), "")


def decide(
    profile: Profile,
    wanted: str,
    version: str,
    gpus: Sequence[PciDevice],
    gpu_list: Any,
) -> FlavourChoice:
    """The flavour for driver ``version`` on a node with the PCI devices ``gpus``.

    ``wanted`` is a flavour or ``auto``; ``gpu_list`` the JSON of the package's own list, None
    where there is none or it is not at hand yet. Raises ConfigError for a flavour the profile
    does not know, UnsupportedError where no flavour, or not the wanted one, works with all
    GPUs, IntegrityError for a damaged list.
    """
    if wanted != "auto" and wanted not in profile.flavours:
        raise ConfigError(
            f"{profile.name} has no flavour {wanted}, only {', '.join(profile.flavours)}",
            f"set drivers.{profile.name}.flavour to one of these, or to auto",
        )
    missing = {
        name: f"{profile.name} {version} has no {name} flavour (versions {flavour.driver} do)"
        for name, flavour in profile.flavours.items()
        if not flavour.driver.contains(version)
    }
    if wanted in missing or len(missing) == len(profile.flavours):
        raise UnsupportedError(
            missing.get(wanted) or "; ".join(missing.values()),
            "choose another version, or flavour: auto",
        )
    listed = parse_gpu_list(profile.gpu_list, gpu_list) if profile.gpu_list else {}
    ours = [
        _gpu(profile, version, device, listed, missing)
        for device in devices_of(profile.pci, gpus)
    ]
    for gpu in ours:
        if not gpu.works:
            raise UnsupportedError(
                f"{gpu.title} cannot work with {profile.name} {version}: {gpu.why}",
                "choose a version that supports this GPU",
            )
    if wanted != "auto":
        return _explicit(wanted, ours)
    return _automatic(profile, version, ours, missing)


def _explicit(wanted: str, gpus: Iterable[_Gpu]) -> FlavourChoice:
    for gpu in gpus:
        if wanted not in gpu.works:
            raise UnsupportedError(
                f"{gpu.title} does not work with the {wanted} flavour: {gpu.excluded[wanted]}",
                f"set flavour: auto, or flavour: {gpu.works[0]}",
            )
    return FlavourChoice(wanted, "set by the settings")


def _automatic(
    profile: Profile, version: str, gpus: Sequence[_Gpu], missing: Mapping[str, str]
) -> FlavourChoice:
    fitting = [
        name
        for name in profile.flavours
        if name not in missing and all(name in gpu.works for gpu in gpus)
    ]
    if not fitting:
        _no_common(gpus)
    if len(profile.flavours) == 1:
        return FlavourChoice(fitting[0], "the only one there is")
    rule = _default(profile, version)
    if rule.flavour in fitting and len(fitting) > 1:
        absent = profile.pci and not gpus
        reason = f"{rule.why}; no GPU is here to say otherwise" if absent else rule.why
        return FlavourChoice(rule.flavour, reason)
    for gpu in gpus:
        for name, why in gpu.excluded.items():
            if name not in missing:
                return FlavourChoice(fitting[0], f"{gpu.title}: {why}")
    return FlavourChoice(fitting[0], next(iter(missing.values()), rule.why))


def _default(profile: Profile, version: str) -> FlavourRule:
    """The rule for any GPU; the profile's schema ensures that there is one."""
    return next(
        rule for rule in profile.flavour_rules if not rule.pci and rule.driver.contains(version)
    )


def _gpu(
    profile: Profile,
    version: str,
    device: PciDevice,
    listed: GpuList,
    missing: Mapping[str, str],
) -> _Gpu:
    """Raises UnsupportedError where the package or a rule says that the GPU does not work."""
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
        raise UnsupportedError(
            f"{title} is not supported by {profile.name} {version}",
            f"use a driver of the {entry.legacy} branch",
        )
    if rule and rule.flavour is None:
        raise UnsupportedError(f"{title}: {rule.why}", rule.instead or "use another version")
    excluded: dict[str, str] = {}
    for name in profile.flavours:
        feature = profile.gpu_list.flavours.get(name) if profile.gpu_list else None
        if rule and rule.flavour != name:
            excluded[name] = rule.why
        elif name in missing:
            excluded[name] = missing[name]
        elif entry and feature and feature not in entry.features:
            excluded[name] = f"the package does not list it for the {name} flavour"
    works = tuple(name for name in profile.flavours if name not in excluded)
    if not works and rule:
        # Messages end with why the one flavour that the rule allows does not work.
        excluded = {rule.flavour or "": f"{rule.why}, and {excluded[rule.flavour or '']}"}
    return _Gpu(title, works, excluded)


def _no_common(gpus: Sequence[_Gpu]) -> NoReturn:
    """Each GPU has a flavour, but there is none for all."""
    needs = "; ".join(
        f"{gpu.title} needs the {' or '.join(gpu.works)} one ({gpu.why})"
        for gpu in gpus
        if gpu.excluded
    )
    raise UnsupportedError(
        f"no flavour works with all GPUs: {needs}",
        "take one of them out of this node, or pass it through to a virtual machine",
    )
