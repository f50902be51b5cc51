"""Distributions as values: where their kernels' headers and compilers come from.

A new distribution of this family of package tools is one more ``Family`` here, not code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from modulus.core.kernel.release import Compiler

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Package architectures by uname's machine."""

_HEADERS = "linux-headers-"
_RELEASE = re.compile(r"\d+\.\d+\.\d+\S*-[a-z]\S*")

# Alternatives are separated by a bar and tried in order: names moved between releases.
_TOOLS = (
    *("bash", "binutils", "coreutils", "dash", "diffutils", "findutils", "grep", "kmod"),
    *("libc-bin", "make", "mawk", "patch", "perl-base", "sed", "util-linux", "xz-utils"),
    *("zlib1g", "zstd", "pahole|dwarves"),
    # What the kernel's own tools under scripts/ and tools/ are linked against.
    *("libelf1t64|libelf1", "libssl3t64|libssl3|libssl1.1"),
)


@dataclass(frozen=True)
class Archive:
    """Where a distribution's packages come from, and who signs them.

    ``keyrings`` are the files of its keys, ``signed_by`` patterns of files that count as them
    in an apt source. One with a ``host`` has keys of its own, which count for that host alone.
    """

    signed_by: tuple[str, ...]
    keyrings: tuple[str, ...] = ()
    host: str = ""

    def is_own_key(self, signed_by: str) -> bool:
        """Whether an apt source's Signed-By names its keys and nothing else."""
        return all(
            any(_is_like(path, pattern) for pattern in self.signed_by)
            for path in key_files(signed_by)
        )


@dataclass(frozen=True)
class Family:
    """What is the same for all releases of a distribution.

    ``archive`` is its own, ``more`` are others by the same maker that it is extended from.
    ``headers_depends`` matches the packages that complete a headers package.
    """

    id: str
    archive: Archive
    components: tuple[str, ...]
    images: tuple[str, ...]
    headers_depends: re.Pattern[str]
    tools: tuple[str, ...]
    more: tuple[Archive, ...] = ()

    def archive_at(self, host: str) -> Archive:
        """The archive that ``host`` may have: its own, or a mirror of the distribution's."""
        return next((archive for archive in self.more if archive.host == host), self.archive)


@dataclass(frozen=True)
class Distribution:
    """One release of a distribution on one architecture."""

    family: Family
    codename: str
    arch: str

    def __str__(self) -> str:
        return f"{self.family.id}/{self.codename}/{self.arch}"

    @property
    def any_release(self) -> re.Pattern[str]:
        """Matches what any release of the distribution is called on this architecture.

        A node that was upgraded to the next release has kernels of the one before.
        """
        return re.compile(rf"{re.escape(self.family.id)}/[^/]+/{re.escape(self.arch)}")

    def headers_package(self, release: str) -> str:
        """The package with the headers of kernel ``release``."""
        return f"{_HEADERS}{release}"

    def release_of(self, package: str) -> str | None:
        """The kernel release whose headers ``package`` has; None for any other package."""
        release = package.removeprefix(_HEADERS)
        if release == package or "-common" in release or not _RELEASE.fullmatch(release):
            return None
        return release

    def image_packages(self, release: str) -> tuple[str, ...]:
        """The packages that kernel ``release`` itself may have been installed from."""
        return tuple(name.format(release=release) for name in self.family.images)

    def compiler_packages(self, compiler: Compiler) -> tuple[str, ...]:
        """The packages that bring ``compiler`` and the linker it needs."""
        return compiler.packages


def key_files(signed_by: str) -> tuple[str, ...]:
    """The words of an apt source's Signed-By, which are paths where it is no key itself."""
    return tuple(re.split(r"[\s,]+", signed_by.strip()))


def _is_like(path: str, pattern: str) -> bool:
    of, folder = PurePosixPath(path), pattern.rpartition("/")[0]
    return str(of.parent) == folder and fnmatchcase(str(of), pattern)


DEBIAN = Family(
    id="debian",
    archive=Archive(
        signed_by=(
            "/usr/share/keyrings/debian-archive-*",
            "/etc/apt/trusted.gpg.d/debian-archive-*",
        ),
        keyrings=(
            "/usr/share/keyrings/debian-archive-keyring.gpg",
            "/usr/share/keyrings/debian-archive-keyring.pgp",
        ),
    ),
    components=("main",),
    images=("linux-image-{release}", "linux-image-{release}-unsigned"),
    # linux-image-* stays out: nothing in it takes part in a module's build.
    headers_depends=re.compile(r"linux-headers-\S+-common\S*|linux-kbuild-\S+"),
    tools=_TOOLS,
)

UBUNTU = Family(
    id="ubuntu",
    archive=Archive(
        signed_by=(
            "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
            "/etc/apt/trusted.gpg.d/ubuntu-keyring-*",
        ),
        keyrings=("/usr/share/keyrings/ubuntu-archive-keyring.gpg",),
    ),
    # Ubuntu Pro: longer support, FIPS and real-time kernels, each with a key of its own.
    more=(
        Archive(
            signed_by=(
                "/usr/share/keyrings/ubuntu-pro-*",
                "/usr/share/keyrings/ubuntu-advantage-*",
                "/etc/apt/trusted.gpg.d/ubuntu-pro-*",
                "/etc/apt/trusted.gpg.d/ubuntu-advantage-*",
            ),
            host="esm.ubuntu.com",
        ),
    ),
    # universe has the DKMS source packages.
    components=("main", "restricted", "universe"),
    images=("linux-image-{release}", "linux-image-unsigned-{release}"),
    # linux-headers-5.15.0-91, linux-hwe-6.5-headers-6.5.0-14, linux-aws-headers-6.8.0-1015
    headers_depends=re.compile(r"linux-(?:[a-z0-9.+-]+-)?headers-\d\S*"),
    tools=_TOOLS,
)

FAMILIES = (DEBIAN, UBUNTU)


def identify(os_release: Mapping[str, str], machine: str) -> Distribution | None:
    """The distribution of a node, or None where it is none of ``FAMILIES``.

    ``machine`` is uname's, such as x86_64.
    """
    codename = os_release.get("VERSION_CODENAME", "")
    arch = ARCHITECTURES.get(machine)
    for family in FAMILIES:
        if os_release.get("ID") == family.id and re.fullmatch(r"[a-z]+", codename) and arch:
            return Distribution(family, codename, arch)
    return None
