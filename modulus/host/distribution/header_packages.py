"""Which of a distribution's packages make up a kernel's headers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from modulus.core.distribution.deb822 import Relation, relations
from modulus.core.distribution.families import Distribution
from modulus.core.kernel.release import near_releases
from modulus.errors import ToolchainError
from modulus.host.distribution.apt.packages import Apt, AptPackage


def missing(apt: Apt, distribution: Distribution, release: str, reason: str) -> ToolchainError:
    """The error for a kernel whose headers the archive lacks; it names who has them, else near
    kernels."""
    package = distribution.headers_package(release)
    what = (
        f"no headers of kernel {release}: {reason}, and "
        f"{distribution.family.id} {distribution.codename} has no {package}"
    )
    for name, source in apt.elsewhere(_suffix(release)):
        return ToolchainError(
            f"{what}; {name} is in the apt source {source}, which is not the distribution's",
            f"install {name}, or trust that source and its key for headers: "
            f"kernel_sources: [{PurePosixPath(source).name}]",
        )
    names = (distribution.release_of(name) for name in apt.names("linux-headers-"))
    near = near_releases(release, (name for name in names if name))
    return apt.missing(
        what,
        f"there are headers of {', '.join(near)}" if near else "check the kernel's name",
    )


def _suffix(release: str) -> str:
    """How the headers of other makers' kernels are called, too: proxmox-headers-RELEASE."""
    return f"-headers-{release}"


class HeaderChoice:
    """Picks the packages that make up a release's headers from apt's lists.

    ``image`` is the version of the installed kernel's package. Headers of that version are
    wanted; others are taken only when up-to-date lists have none.
    """

    def __init__(
        self, apt: Apt, distribution: Distribution, release: str, image: str | None
    ) -> None:
        self.image = image
        self.other_version = ""
        self._apt = apt
        self._distribution = distribution
        self._release = release
        self._package = distribution.headers_package(release)
        self._asked = False

    def __call__(self) -> dict[str, str] | None:
        known = self._known()
        exact = [package for package in known if package.version == self.image]
        again, self._asked = self._asked, True
        if exact or (known and (again or not self.image)):
            chosen = (exact or list(known))[0]
            self.other_version = "" if exact or not self.image else chosen.version
            return self._with_dependencies(chosen)
        return None

    def _known(self) -> Sequence[AptPackage]:
        known = self._apt.versions([self._package])
        if not known:
            known = self._apt.versions(self._apt.ending(_suffix(self._release)))
        return next(iter(known.values()), ())

    def _with_dependencies(self, chosen: AptPackage) -> dict[str, str] | None:
        pattern = self._distribution.family.headers_depends
        wanted = {
            relation.name: relation
            for group in relations(chosen.depends)
            for relation in group
            if pattern.fullmatch(relation.name)
        }
        known = self._apt.versions(wanted)
        picked = {chosen.name: chosen.version}
        for name, relation in wanted.items():
            version = _version(relation, chosen.version, known.get(name, ()))
            if version is None:
                return None
            picked[name] = version
        return picked


def _version(relation: Relation, beside: str, known: Sequence[AptPackage]) -> str | None:
    """The version in ``known`` that ``relation`` asks for, preferably ``beside``, or None."""
    versions = [package.version for package in known]
    if relation.operator == "=":
        return relation.version if relation.version in versions else None
    return beside if beside in versions else next(iter(versions), None)
