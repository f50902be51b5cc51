"""Which flavour of a driver a node gets, and why: its GPUs' ids, the package, the version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modulus.core.gpu.fit import GpuFit, fit
from modulus.core.gpu.supported import parse_gpu_list
from modulus.core.pci import PciDevice, devices_of
from modulus.core.profile.profile import FlavourRule, Profile
from modulus.errors import ConfigError, UnsupportedError


@dataclass(frozen=True)
class DroppedGpu:
    """A GPU that the driver leaves out beside one that it drives: why, and what would do."""

    gpu: str
    cause: str
    fix: str

    def __str__(self) -> str:
        return f"{self.cause}; the driver leaves it out: {self.fix}"


@dataclass(frozen=True)
class FlavourChoice:
    """A flavour, in a few words what decided for it, and the GPUs that it does not drive."""

    flavour: str
    reason: str
    dropped: tuple[DroppedGpu, ...] = ()


def decide(
    profile: Profile,
    wanted: str,
    version: str,
    gpus: Sequence[PciDevice],
    gpu_list: Any,
    *,
    require_all: bool = False,
) -> FlavourChoice:
    """The flavour for driver ``version`` on a node with the PCI devices ``gpus``.

    ``wanted`` is a flavour or ``auto``, the one that drives most of the GPUs; ``gpu_list`` the
    JSON of the package's own list, None where there is none or it is not at hand yet. Raises
    ConfigError for a flavour the profile does not know, UnsupportedError where no flavour, or
    not the wanted one, works with any of the GPUs, or with ``require_all`` not with each,
    IntegrityError for a damaged list.
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
        fit(profile, version, device, listed, missing)
        for device in devices_of(profile.pci, gpus)
    ]
    if wanted != "auto":
        flavour, reason = wanted, "set by the settings"
    else:
        flavour, reason = _automatic(profile, version, ours, missing)
    # The wrong flavour for a GPU is a smaller matter than the wrong version.
    left_out = sorted((gpu for gpu in ours if flavour not in gpu.works), key=_is_unfit)
    if left_out and (require_all or len(left_out) == len(ours)):
        raise _refused(flavour, wanted, left_out, ours)
    dropped = tuple(DroppedGpu(gpu.address, *_why(gpu, flavour, wanted)) for gpu in left_out)
    return FlavourChoice(flavour, reason, dropped)


def _automatic(
    profile: Profile, version: str, gpus: Sequence[GpuFit], missing: Mapping[str, str]
) -> tuple[str, str]:
    """The flavour that drives most of ``gpus``, and what decided for it."""
    driven = {
        name: sum(name in gpu.works for gpu in gpus)
        for name in profile.flavours
        if name not in missing
    }
    fitting = [name for name, count in driven.items() if count == max(driven.values())]
    if len(profile.flavours) == 1:
        return fitting[0], "the only one there is"
    rule = _default(profile, version)
    if rule.flavour in fitting and len(fitting) > 1:
        absent = profile.pci and not gpus
        reason = f"{rule.why}; no GPU is here to say otherwise" if absent else rule.why
        return rule.flavour, reason
    for gpu in gpus:
        for name, why in gpu.excluded.items():
            if name not in missing and fitting[0] in gpu.works:
                return fitting[0], f"{gpu.title}: {why}"
    return fitting[0], next(iter(missing.values()), rule.why)


def _default(profile: Profile, version: str) -> FlavourRule:
    """The rule for any GPU; the profile's schema ensures that there is one."""
    return next(
        rule for rule in profile.flavour_rules if not rule.pci and rule.driver.contains(version)
    )


def _is_unfit(gpu: GpuFit) -> bool:
    return not gpu.works


def _why(gpu: GpuFit, flavour: str, wanted: str) -> tuple[str, str]:
    """Why ``flavour`` does not work with ``gpu``, and what to do."""
    if not gpu.works:
        return gpu.refusal, gpu.remedy
    other = f"flavour: {gpu.works[0]}"
    return (
        f"{gpu.title} does not work with the {flavour} flavour: {gpu.excluded[flavour]}",
        f"set flavour: auto, or {other}"
        if wanted != "auto"
        else f"set {other}, without others",
    )


def _refused(
    flavour: str, wanted: str, left_out: Sequence[GpuFit], gpus: Sequence[GpuFit]
) -> UnsupportedError:
    """Why ``flavour`` is not enough: for none of ``gpus``, or not for all that have to work."""
    if wanted == "auto" and all(gpu.works for gpu in gpus):
        needs = "; ".join(
            f"{gpu.title} needs the {' or '.join(gpu.works)} one ({gpu.why})"
            for gpu in gpus
            if gpu.excluded
        )
        return UnsupportedError(
            f"no flavour works with all GPUs, and require_all_gpus is set: {needs}",
            "take one of them out of this node, or pass it through to a virtual machine",
        )
    message, hint = _why(left_out[0], flavour, wanted)
    if len(left_out) < len(gpus):
        message = f"{message}, and require_all_gpus is set"
    return UnsupportedError(message, hint)
