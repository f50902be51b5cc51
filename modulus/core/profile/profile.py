"""What a driver is: the values of a profile, and what follows from them for a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modulus.core.devices.wanted import NodeRule
from modulus.core.pci import IdRange, PciMatch
from modulus.core.profile.build_causes import Cause
from modulus.core.profile.libraries import Library
from modulus.core.profile.load_causes import LoadCause
from modulus.core.profile.progress import Work
from modulus.core.version import ANY, Range

RECIPE_FILES = ("build.sh", "batch.sh", "batch-cc.sh", "forkcc.c", "forkcc-text.h")
"""What a build finds in its folder ``MODULUS_RECIPE`` whatever the profile says."""


@dataclass(frozen=True)
class PackageSource:
    """A template of URLs of the driver's package.

    ``apt:NAME`` is the distribution's package of that name. Without ``checksum_url`` the
    checksum is looked for beside the file.
    """

    url: str
    format: str
    checksum_url: str | None = None


@dataclass(frozen=True)
class Flavour:
    """One of the kinds of sources in a package; ``driver`` are the versions that have it.

    ``dir`` are templates of folders in the package; one of them is there.
    """

    dir: tuple[str, ...]
    driver: Range = ANY

    def folders(self, version: str) -> tuple[str, ...]:
        """The folders to look for the sources in."""
        return tuple(template.replace("{version}", version) for template in self.dir)


@dataclass(frozen=True)
class FlavourRule:
    """What GPUs or driver versions need, and ``why``; the first rule that applies counts.

    With ``pci``, the GPUs of these ids need ``flavour``; where it is None they do not work, and
    ``instead`` says what to do. Without ``pci``, ``flavour`` is the versions' default.
    """

    why: str
    flavour: str | None = None
    pci: tuple[IdRange, ...] = ()
    driver: Range = ANY
    instead: str | None = None

    def speaks_of(self, device_id: int, version: str) -> bool:
        return self.driver.contains(version) and any(
            ids.contains(device_id) for ids in self.pci
        )


@dataclass(frozen=True)
class GpuListFormat:
    """How to read the package's own JSON list of GPUs, in the file ``path`` of the package.

    ``entries`` names the list in it. ``id``, ``name``, ``features`` and ``legacy`` (the branch
    that still supports a GPU) are keys of an entry. ``flavours`` has, by flavour, the feature
    of the GPUs that it works with.
    """

    path: str
    entries: str
    id: str
    name: str
    features: str
    legacy: str
    flavours: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Patch:
    """A patch for a range of kernels and driver versions.

    ``file`` is its name in the profile; ``path`` and ``sha256`` are those of the file.
    """

    file: str
    kernel: Range = ANY
    driver: Range = ANY
    path: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class BuildFile:
    """A file that the build finds in the folder ``MODULUS_RECIPE``, for a range of drivers.

    With ``append_to`` it is also appended to that file of the sources, if there is one. A
    ``shortcut`` only saves time: a build without it has the same bits. ``path`` and ``sha256``
    are as with a patch.
    """

    file: str
    append_to: str | None = None
    driver: Range = ANY
    shortcut: bool = False
    path: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Flags:
    """Variables for make with a range of kernels; their text is added to that of ``Make``."""

    make: Mapping[str, str]
    kernel: Range = ANY


@dataclass(frozen=True)
class Make:
    """What make is given; values may hold the placeholders of ``core.build.recipe.Recipe``.

    With ``batch``, objects of the same flags are compiled together (payload/batch.sh); no bit
    of them changes.
    """

    targets: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    batch: bool = False


@dataclass(frozen=True)
class Remake:
    """Lets modules be made again from the objects of a kernel with the same headers.

    ``harmless`` are regular expressions for lines of the driver's makefiles and its tests of
    the kernel: lines that name the kernel's release though no object depends on it.
    """

    harmless: tuple[str, ...]


@dataclass(frozen=True)
class Vgpu:
    """How to tell a virtual GPU: what its vendor-specific PCI capability begins with."""

    signature: str


@dataclass(frozen=True)
class ComponentRule:
    """Manifest types, and patterns of file names: one must match, if there are any."""

    types: tuple[str, ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Installer:
    """How the package describes its userspace: the file that lists it, and for each type of
    file the template of its folder, with ``{version}`` and the manifest's ``{path}``."""

    manifest: str
    folders: Mapping[str, str]


@dataclass(frozen=True)
class Profile:
    """A driver; the fields are those of a profile's file (docs/reference.md)."""

    name: str
    sources: tuple[PackageSource, ...]
    flavours: Mapping[str, Flavour]
    build: tuple[str, ...]
    make: Make
    load: tuple[str, ...]
    sha256: Mapping[str, str] = field(default_factory=dict)
    pci: tuple[PciMatch, ...] = ()
    requires_config: tuple[str, ...] = ()
    refuses_config: tuple[str, ...] = ()
    flavour_rules: tuple[FlavourRule, ...] = ()
    gpu_list: GpuListFormat | None = None
    preload: tuple[str, ...] = ()
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    blacklist: tuple[str, ...] = ()
    nodes: tuple[NodeRule, ...] = ()
    unload: tuple[str, ...] = ()
    vgpu: Vgpu | None = None
    patches: tuple[Patch, ...] = ()
    files: tuple[BuildFile, ...] = ()
    flags: tuple[Flags, ...] = ()
    remake: Remake | None = None
    work: tuple[Work, ...] = ()
    causes: tuple[Cause, ...] = ()
    load_causes: tuple[LoadCause, ...] = ()
    components: Mapping[str, tuple[ComponentRule, ...]] = field(default_factory=dict)
    installer: Installer | None = None
    libraries: tuple[Library, ...] = ()

    def make_for(self, release: str) -> Make:
        """What make is given for kernel ``release``."""
        variables = dict(self.make.variables)
        for flags in self.flags:
            if flags.kernel.contains(release):
                for name, value in flags.make.items():
                    variables[name] = f"{variables.get(name, '')} {value}".strip()
        return Make(self.make.targets, variables, self.make.batch)

    def patches_for(self, release: str, version: str) -> tuple[Path, ...]:
        """The patches of driver ``version`` for kernel ``release``, in order."""
        return tuple(Path(patch.path) for patch in self._patches(release, version))

    def files_for(self, version: str) -> tuple[BuildFile, ...]:
        """The files that the build of driver ``version`` finds beside its script."""
        return tuple(file for file in self.files if file.driver.contains(version))

    def build_section(self, flavour: str, release: str, version: str) -> dict[str, Any]:
        """All of the profile that can change the bits of a build, as JSON values.

        Entries for other kernels, versions and flavours are not in it, so that adding one
        leaves every other build as it is.
        """
        make = self.make_for(release)
        section: dict[str, Any] = {
            "modules": list(self.build),
            "targets": list(make.targets),
            "make": dict(make.variables),
            "patches": [patch.sha256 for patch in self._patches(release, version)],
            "folders": list(self.flavours[flavour].folders(version)),
        }
        files = self.files_for(version)
        if files:
            section["files"] = [
                [Path(file.file).name, file.sha256, file.append_to] for file in files
            ]
        if self.remake:
            section["remake"] = list(self.remake.harmless)
        return section

    def _patches(self, release: str, version: str) -> tuple[Patch, ...]:
        return tuple(
            patch
            for patch in self.patches
            if patch.kernel.contains(release) and patch.driver.contains(version)
        )
