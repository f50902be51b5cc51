"""What the apt sources of a node say: which archives, and with what options.

apt itself tells the archives (``apt-get indextargets``), whatever the syntax; of the options it
keeps some to itself, so these are read here. Source: sources.list(5), apt-get(8).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from modulus.core.distribution.deb822 import stanzas

_ONE_LINE = re.compile(r"(deb|deb-src)\s+(?:\[([^\]]*)\]\s*)?(\S.*)")
_OPTION = re.compile(r"""([a-zA-Z-]+)[+-]?=((?:"[^"]*"|[^\s"])*)""")
_NO = ("no", "false", "without", "off", "disable", "0")
_INSECURE = ("trusted", "allow-insecure", "allow-weak", "allow-downgrade-to-insecure")
_LOCAL = re.compile(r"((?:mirror\+)?(?:file|copy)):(?://)?(/.*)")


@dataclass(frozen=True)
class AptEntry:
    """An entry of a file of sources; ``options`` by their deb822 name in lower case."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AptSource:
    """One suite of one archive that an apt uses.

    ``components`` are none for an archive without any. ``file`` is where it is configured,
    ``release`` how the name of its Release file begins among apt's lists.
    """

    uri: str
    suite: str
    components: tuple[str, ...]
    file: str
    release: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join((_without_password(self.uri), self.suite, *self.components))

    @property
    def host(self) -> str:
        """The host of its address; "" for one without."""
        found = re.match(r"[a-z+]+://(?:[^/@]*@)?([^/:]+)", self.uri)
        return found[1] if found else ""

    @property
    def signed_by(self) -> str:
        """The keys that it has to be signed by, as written; "" for any that apt trusts."""
        return self.options.get("signed-by", "")

    def has(self, index: str) -> bool:
        """Whether it has ``index``, as apt-cache writes one: ADDRESS SUITE/COMPONENT ..."""
        place = f"{_without_password(self.uri).rstrip('/')} {self.suite}"
        return index.startswith((f"{place}/", f"{place} "))

    @property
    def insecure(self) -> str | None:
        """The option by which it needs no good signature, or None."""
        marks = (name for name in _INSECURE if not is_no(self.options.get(name) or "no"))
        return next(marks, None)

    @property
    def any_date(self) -> bool:
        """Whether it counts past the date until which it is valid."""
        return is_no(self.options.get("check-valid-until", ""))


def is_no(value: str) -> bool:
    """Whether apt takes ``value`` for a no."""
    return value.lower() in _NO


def parse_list(text: str) -> tuple[AptEntry, ...]:
    """The entries of a one-line-style file (``*.list``); other lines are skipped."""
    entries = []
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        words = match[3].split() if match else []
        if match is None or match[1] != "deb" or len(words) < 2:
            continue
        options = {
            name.lower(): value.replace('"', "")
            for name, value in _OPTION.findall(match[2] or "")
        }
        entries.append(AptEntry((words[0],), (words[1],), options))
    return tuple(entries)


def parse_sources(text: str) -> tuple[AptEntry, ...]:
    """The enabled entries of a deb822-style file (``*.sources``)."""
    entries = []
    for fields in stanzas(text):
        if is_no(fields.get("enabled", "yes")) or "deb" not in fields.get("types", "").split():
            continue
        uris, suites = (tuple(fields.get(name, "").split()) for name in ("uris", "suites"))
        if uris and suites:
            entries.append(AptEntry(uris, suites, fields))
    return tuple(entries)


def parse_targets(text: str, arch: str) -> tuple[AptSource, ...]:
    """The sources that ``apt-get indextargets`` names, with packages for ``arch``."""
    found: dict[tuple[str, str, str], AptSource] = {}
    for fields in stanzas(text):
        if fields.get("created-by") != "Packages":
            continue
        if fields.get("architecture", arch) != arch:
            continue
        file = fields.get("sourcesentry", "").rpartition(":")[0]
        uri, suite = fields.get("repo-uri", ""), fields.get("release", "")
        metakey = fields.get("metakey", "").replace("/", "_")
        release = fields.get("filename", "").rpartition("/")[2].removesuffix(metakey)
        key = (file, uri, suite)
        source = found.get(key, AptSource(uri, suite, (), file, release))
        component = fields.get("component", "")
        if component and component not in source.components:
            source = replace(source, components=(*source.components, component))
        found[key] = source
    return tuple(found.values())


def with_options(
    sources: Iterable[AptSource], entries: Callable[[str], Iterable[AptEntry]]
) -> tuple[AptSource, ...]:
    """``sources`` with the options of their entries, which ``entries`` gives for a file."""
    return tuple(
        replace(source, options=_options(source, entries(source.file))) for source in sources
    )


def rebased(source: AptSource, root: str) -> AptSource:
    """``source``, read below ``root``, with its local path as seen from outside."""
    base = root.rstrip("/")
    return replace(source, uri=_LOCAL.sub(lambda m: f"{m[1]}:{base}{m[2]}", source.uri))


def render(source: AptSource, arch: str, keys: str) -> str:
    """``source`` as an entry of a deb822 file, signed by ``keys`` and nothing else.

    ``keys`` are paths, or an armoured key of several lines.
    """
    lines = [
        "Types: deb",
        f"URIs: {source.uri}",
        f"Suites: {source.suite}",
        *([f"Components: {' '.join(source.components)}"] if source.components else []),
        f"Architectures: {arch}",
        *(["Check-Valid-Until: no"] if source.any_date else []),
        f"Signed-By: {keys.replace(chr(10), chr(10) + ' ')}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _options(source: AptSource, entries: Iterable[AptEntry]) -> Mapping[str, str]:
    """All that is said of the source; apt itself refuses entries that contradict another."""
    said: dict[str, str] = {}
    for entry in entries:
        uris = {uri.rstrip("/") for uri in entry.uris}
        if source.uri.rstrip("/") in uris and source.suite in entry.suites:
            said.update(entry.options)
    return said


def _without_password(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//", uri)
