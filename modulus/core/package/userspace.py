"""Which packaged files a node gets and where, by manifest and components."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from modulus.core.package.vendor_manifest import ManifestEntry, VendorManifest
from modulus.core.profile.profile import ComponentRule
from modulus.core.record.forms import is_inside
from modulus.core.store.keys import digest
from modulus.core.tree import EXECUTABLE, PLAIN, Link
from modulus.errors import ConfigError, IntegrityError

LAYOUT_VERSION = 1
"""Part of a userspace's id; raised with every change of what this module decides."""

_OTHER_ARCH = "COMPAT32"


@dataclass(frozen=True)
class Selection:
    """What a profile and the settings say of the userspace.

    ``rules`` are those of the chosen components. ``folders`` has, by type, the template of the
    folder for its files, with ``{version}`` and the manifest's ``{path}``.
    """

    components: tuple[str, ...]
    rules: tuple[ComponentRule, ...]
    folders: Mapping[str, str]


@dataclass(frozen=True)
class PlacedFile:
    """The package's file ``member`` goes to ``path``, relative to the driver's folder."""

    member: str
    path: str
    mode: int


@dataclass(frozen=True)
class Layout:
    """All files and links to place, by path; no path twice, every link leads to a file."""

    files: tuple[PlacedFile, ...]
    links: tuple[Link, ...]

    @property
    def paths(self) -> frozenset[str]:
        """The paths of all files and links."""
        return frozenset(file.path for file in self.files) | {link.path for link in self.links}


def userspace_id(source_sha256: str, version: str, selection: Selection) -> str:
    """The digest of the package and of all that decides which files go where."""
    rules = sorted([sorted(rule.types), sorted(rule.names)] for rule in selection.rules)
    kinds = {kind for rule in selection.rules for kind in rule.types}
    return digest(
        {
            "source": source_sha256,
            "version": version,
            "components": sorted(set(selection.components)),
            "rules": rules,
            "folders": {kind: selection.folders.get(kind) for kind in kinds},
            "layout": LAYOUT_VERSION,
        }
    )


def plan_layout(manifest: VendorManifest, selection: Selection) -> Layout:
    """The files and links that ``selection`` takes, 32-bit files left out.

    A link without its file is left out too. Raises IntegrityError where the manifest puts two
    files in one place or one outside of the folder, ConfigError for a type without a folder.
    """
    chosen = [
        (entry, _path(entry, manifest.version, selection.folders))
        for entry in manifest.entries
        if entry.arch != _OTHER_ARCH and _is_chosen(entry, selection.rules)
    ]
    files: dict[str, PlacedFile] = {}
    links: dict[str, str] = {}
    for entry, path in chosen:
        if entry.link is not None:
            links.setdefault(path, entry.link)
            continue
        member = posixpath.normpath(entry.file)
        other = files.setdefault(path, PlacedFile(member, path, _mode(entry, path)))
        if other.member != member:
            raise IntegrityError(
                f"the driver's manifest puts both {other.member} and {member} at {path}",
                "correct the profile's components so that only one is taken",
            )
    return Layout(tuple(files[path] for path in sorted(files)), _resolved(links, files.keys()))


def soname_links(paths: Iterable[str], sonames: Mapping[str, str]) -> tuple[Link, ...]:
    """The soname links that ``paths`` lack.

    ``sonames`` are the libraries' sonames by path. Where several libraries share one, its link
    leads to the highest version, as with ldconfig(8).
    """
    taken = set(paths)
    links = []
    for path in sorted(sonames, key=_version_order, reverse=True):
        link = posixpath.join(posixpath.dirname(path), sonames[path])
        if link not in taken and "/" not in sonames[path] and is_inside(link):
            taken.add(link)
            links.append(Link(link, posixpath.basename(path)))
    return tuple(sorted(links))


def _is_chosen(entry: ManifestEntry, rules: Iterable[ComponentRule]) -> bool:
    name = posixpath.basename(entry.file)
    return any(
        entry.type in rule.types
        and (not rule.names or any(fnmatchcase(name, pattern) for pattern in rule.names))
        for rule in rules
    )


def _path(entry: ManifestEntry, version: str, folders: Mapping[str, str]) -> str:
    if entry.type not in folders:
        raise ConfigError(
            f"the profile has no folder for files of type {entry.type}",
            "add the type to the profile's folders, or take it out of its components",
        )
    folder = folders[entry.type].replace("{version}", version)
    folder = folder.replace("{path}", entry.path.strip("/"))
    path = posixpath.normpath(posixpath.join(folder, posixpath.basename(entry.file)))
    if not is_inside(path) or "/" not in path:
        raise IntegrityError(
            f"{entry.file} would go to {path}, outside the driver's folders",
            "correct the profile's folders; if they are right, do not trust this package",
        )
    return path


def _mode(entry: ManifestEntry, path: str) -> int:
    """The mode that a file gets, whatever is packaged: no setuid, no write for others."""
    return EXECUTABLE if entry.mode & 0o111 or path.startswith("bin/") else PLAIN


def _resolved(wanted: Mapping[str, str], files: Iterable[str]) -> tuple[Link, ...]:
    """The links of ``wanted`` that lead to a file, directly or over other links, made relative.

    A vendor's target is a name in the link's folder, or in another folder of the driver, whose
    place the installer knows only at run time.
    """
    placed = set(files)
    names = {posixpath.basename(path): path for path in sorted(placed, reverse=True)}
    left = {link: target for link, target in wanted.items() if link not in placed}
    links = []
    progress = True
    while progress:
        progress = False
        for link, target in sorted(left.items()):
            folder = posixpath.dirname(link)
            beside = posixpath.normpath(posixpath.join(folder, target))
            found = beside if beside in placed else names.get(posixpath.basename(target))
            if found is None or found == link:
                continue
            links.append(Link(link, posixpath.relpath(found, folder)))
            placed.add(link)
            names.setdefault(posixpath.basename(link), link)
            del left[link]
            progress = True
    return tuple(sorted(links))


def _version_order(path: str) -> list[tuple[bool, int, str]]:
    """Sorts ``libx.so.10`` after ``libx.so.9``."""
    parts = re.split(r"(\d+)", path)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
