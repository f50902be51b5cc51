"""Whether programs get the driver's own libraries, and these fit the loaded modules."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from modulus.core.findings import Finding
from modulus.core.health.checks.modules import LoadedModule
from modulus.core.profile.libraries import Library

# Types of files where no rule says what they are; the policies let confined programs map
# none of these types (selinux-policy, files.fc and files.if).
_UNFIT_TYPES = frozenset({
    "admin_home_t", "default_t", "file_t", "tmp_t", "unlabeled_t", "user_home_t",
    "user_tmp_t", "var_lib_t", "var_t",
})  # fmt: skip


@dataclass(frozen=True)
class InstalledLibrary:
    """A library of the active generation.

    ``file`` is the name of the file that its soname leads to, None where that is gone;
    ``resolved`` the path at which the dynamic linker finds the soname; ``label`` the
    file's SELinux context, None where SELinux is off.
    """

    library: Library
    file: str | None
    resolved: str | None
    label: str | None = None


def check_libraries(
    instance: str,
    folder: str,
    libraries: Iterable[InstalledLibrary],
    loaded: Mapping[str, LoadedModule],
) -> Iterator[Finding]:
    """What is wrong with the libraries in ``folder``, the path that programs know."""
    for installed in libraries:
        name = installed.library.name
        if installed.file is None:
            yield _error(
                "library-missing",
                f"{folder}/{name} is gone",
                "something removed it, or the file it leads to, from the generation",
                f"modulus up {instance}",
            )
            continue
        yield from _version(instance, installed.library, installed.file, loaded)
        if installed.resolved is None:
            yield _error(
                "library-unresolved",
                f"the dynamic linker does not find {name}",
                "/etc/ld.so.cache has no such library, or one that is gone",
                "ldconfig",
            )
        elif installed.resolved != f"{folder}/{name}":
            path = installed.resolved
            yield _error(
                "library-unresolved",
                f"programs get another {name} than the driver's: {path}",
                "it comes first in the configuration of the dynamic linker",
                f"remove the package that has it (dpkg -S {path} or rpm -qf {path}), then run "
                "ldconfig",
            )
        yield from _label(folder, installed)


def _version(
    instance: str, library: Library, file: str, loaded: Mapping[str, LoadedModule]
) -> Iterator[Finding]:
    if library.version_of is None:
        return
    module = library.version_of.replace("-", "_")
    actual = loaded[module].version if module in loaded else None
    version = library.file_version(file)
    if version and actual and version != actual:
        yield _error(
            "library-version",
            f"{library.name} and the loaded module {module} do not fit each other",
            f"the library has version {version}, the module version {actual}",
            f"modulus down {instance} && modulus up {instance}, or reboot",
        )


def _label(folder: str, installed: InstalledLibrary) -> Iterator[Finding]:
    # user:role:type, and a level that not every policy has.
    kind = f"{installed.label}::".split(":")[2]
    if kind in _UNFIT_TYPES:
        yield Finding(
            "selinux-label",
            "usable",
            "warning",
            f"{folder}/{installed.library.name} has the SELinux type {kind}",
            "confined programs may not map files of this type",
            # The folder of all drivers: FOLDER's parent is a link to the generation beside it.
            f"restorecon -R {posixpath.dirname(posixpath.dirname(folder))}",
        )


def _error(identity: str, message: str, cause: str, fix: str) -> Finding:
    return Finding(identity, "usable", "error", message, cause, fix)
