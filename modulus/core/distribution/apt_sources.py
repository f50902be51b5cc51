"""The apt sources of a system, and which of them are the distribution's own.

Only entries that could be the distribution's archive or a mirror of it are kept. They are
written anew with the archive's keys and without their options: whatever is downloaded is then
signed by the distribution. Source: sources.list(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from modulus.core.distribution.deb822 import stanzas
from modulus.core.distribution.families import Distribution

_ONE_LINE = re.compile(r"(deb|deb-src)\s+(?:\[([^\]]*)\]\s*)?(\S.*)")
_OPTION = re.compile(r"([a-zA-Z-]+)[+-]?=(\S*)")
_NO = ("", "no", "false", "without", "off", "disable", "0")
_INSECURE = ("trusted", "allow-insecure", "allow-weak", "allow-downgrade-to-insecure")
_SCHEMES = (
    "http",
    "https",
    "ftp",
    "file",
    "copy",
    "mirror+file",
    "mirror+http",
    "mirror+https",
)
_LOCAL = re.compile(r"((?:mirror\+)?(?:file|copy)):(?://)?(/.*)")


@dataclass(frozen=True)
class AptEntry:
    """One apt source; ``options`` by their deb822 name in lower case."""

    types: tuple[str, ...]
    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join(self.uris + self.suites + self.components)


def parse_list(text: str) -> tuple[AptEntry, ...]:
    """The entries of a one-line-style file (``*.list``); other lines are skipped."""
    entries = []
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if not match:
            continue
        words = match[3].split()
        options = {name.lower(): value for name, value in _OPTION.findall(match[2] or "")}
        if "arch" in options:
            options["architectures"] = options.pop("arch").replace(",", " ")
        if len(words) >= 2:
            entries.append(
                AptEntry((match[1],), (words[0],), (words[1],), tuple(words[2:]), options)
            )
    return tuple(entries)


def parse_sources(text: str) -> tuple[AptEntry, ...]:
    """The enabled entries of a deb822-style file (``*.sources``)."""
    entries = []
    for fields in stanzas(text):
        if fields.get("enabled", "yes").lower() in _NO:
            continue
        types, uris, suites, components = (
            tuple(fields.pop(key, "").split())
            for key in ("types", "uris", "suites", "components")
        )
        if types and uris and suites:
            entries.append(AptEntry(types, uris, suites, components, fields))
    return tuple(entries)


def own(
    entries: Iterable[AptEntry], distribution: Distribution, release: str = ""
) -> tuple[tuple[AptEntry, ...], tuple[str, ...]]:
    """The distribution's own ``entries``, narrowed to what is used, and a line with the reason
    for each other entry; kernel ``release`` decides on backports."""
    kept, refused = [], []
    for entry in entries:
        if "deb" not in entry.types:
            continue
        narrowed = replace(
            entry,
            types=("deb",),
            uris=tuple(uri for uri in entry.uris if uri.partition(":")[0] in _SCHEMES),
            suites=_both(entry.suites, distribution.suites(release)),
            components=_both(entry.components, distribution.family.components),
            options={},
        )
        reason = _objection(entry, narrowed, distribution)
        if reason:
            refused.append(f"{entry}: {reason}")
        else:
            kept.append(narrowed)
    return tuple(kept), tuple(refused)


def rebased(entry: AptEntry, root: str) -> AptEntry:
    """``entry``, read below ``root``, with its local paths as seen from outside."""
    if root.rstrip("/") == "":
        return entry
    uris = (_LOCAL.sub(lambda m: f"{m[1]}:{root.rstrip('/')}{m[2]}", uri) for uri in entry.uris)
    return replace(entry, uris=tuple(uris))


def render(entries: Iterable[AptEntry], arch: str, keyring: str) -> str:
    """``entries`` as a deb822 file, each signed by ``keyring`` and nothing else."""
    return "\n".join(
        "Types: deb\n"
        f"URIs: {' '.join(entry.uris)}\n"
        f"Suites: {' '.join(entry.suites)}\n"
        f"Components: {' '.join(entry.components)}\n"
        f"Architectures: {arch}\n"
        f"Signed-By: {keyring}\n"
        for entry in entries
    )


def _objection(entry: AptEntry, narrowed: AptEntry, distribution: Distribution) -> str | None:
    for option in _INSECURE:
        if entry.options.get(option, "no").lower() not in _NO:
            return f"marked {option}"
    signed_by = entry.options.get("signed-by", "")
    if signed_by and not distribution.is_own_key(signed_by):
        return "signed by keys that are not the distribution's"
    architectures = entry.options.get("architectures", "").split()
    if architectures and distribution.arch not in architectures:
        return f"not for {distribution.arch}"
    if not narrowed.uris:
        return "no kind of address that is used"
    if not narrowed.suites:
        return f"no suite of {distribution.codename}"
    if not narrowed.components:
        return "no component of the distribution"
    return None


def _both(words: Iterable[str], allowed: Iterable[str]) -> tuple[str, ...]:
    known = set(allowed)
    return tuple(word for word in words if word in known)
