"""The device nodes that a driver wants, by a profile's rules and what the driver says."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from modulus.core.devices.proc_devices import MOST_MINOR, CharDevices

DEV = "/dev"
MINOR = "{minor}"
MODE = 0o666
_ALL_BITS = 0o777
_NOBODY = (1 << 32) - 1
"""Not an owner: to chown(2) it means to leave the owner as it is."""


@dataclass(frozen=True)
class Minors:
    """Where minors come from: the number ``field`` of each file below /proc that one of the
    patterns ``files`` matches; without ``field`` the files are counted, from 0 on."""

    files: tuple[str, ...]
    field: str | None = None


@dataclass(frozen=True)
class Params:
    """The decimal fields in which the driver says the owner and mode of a node.

    ``modify`` is 1 unless the driver wants its nodes left alone. ``file`` is below /proc;
    without it the fields stand in the file that the node's minor is from.
    """

    file: str | None = None
    uid: str | None = None
    gid: str | None = None
    mode: str | None = None
    modify: str | None = None


@dataclass(frozen=True)
class When:
    """A condition: ``field`` of ``file``, below /proc, holds a number other than 0."""

    file: str
    field: str


@dataclass(frozen=True)
class NodeRule:
    """Nodes at ``path`` below /dev; the first known of the names ``major`` gives their major.

    A path with ``{minor}`` is for each of ``minors``; with no source of minors the nodes that
    are there are kept right, and none is made. ``default_major`` counts if no name is known.
    While the ``module`` of a rule is not loaded, the rule does not apply.
    """

    path: str
    major: tuple[str, ...]
    default_major: int | None = None
    module: str | None = None
    minor: int | None = None
    minors: Minors | None = None
    mode: int = MODE
    params: Params | None = None
    when: When | None = None

    @property
    def folder(self) -> str:
        """The folder of its nodes, absolute."""
        return posixpath.dirname(f"{DEV}/{self.path}")

    @property
    def makes(self) -> bool:
        """Whether its nodes are made, not only kept right."""
        return self.minor is not None or self.minors is not None

    def matches(self, path: str) -> bool:
        """Whether this rule is for the absolute ``path``."""
        return bool(_pattern(self.path).fullmatch(path))

    def minor_in(self, path: str) -> int:
        """The number in place of ``{minor}`` in ``path``, which this rule matches."""
        match = _pattern(self.path).fullmatch(path)
        return int(match[1]) if match else 0

    def files(self) -> frozenset[str]:
        """The patterns of all files below /proc that the rule needs."""
        sources = (self.params, self.when)
        found = {source.file for source in sources if source and source.file}
        return frozenset(found.union(self.minors.files if self.minors else ()))


@dataclass(frozen=True)
class Seen:
    """What is at a path: a character device, or another ``kind`` of file."""

    kind: str = ""
    major: int = 0
    minor: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class NodeFacts:
    """What the kernel, the driver and /dev say.

    ``modules`` are loaded (with underscores). ``files`` are texts by pattern: "" for a file
    that cannot be read, no entry for a pattern whose folder is missing. ``seen`` is what is at
    the rules' paths, and at the paths of their folders where that is no folder. ``links`` are
    the targets of what is in /dev/char, None for what is no link.
    """

    devices: CharDevices = field(default_factory=CharDevices)
    modules: frozenset[str] = frozenset()
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seen: Mapping[str, Seen] = field(default_factory=dict)
    links: Mapping[str, str | None] = field(default_factory=dict)

    def text(self, file: str) -> str:
        return next(iter(self.files.get(file, ())), "")

    def major(self, rule: NodeRule) -> int | None:
        """The major of a rule's nodes; None while there can be none."""
        if rule.module and rule.module.replace("-", "_") not in self.modules:
            return None
        major = self.devices.major(rule.major)
        return rule.default_major if major is None else major


@dataclass(frozen=True)
class DeviceNode:
    """A device node that should be there; one that is not ``managed`` is left as it is."""

    path: str
    major: int
    minor: int
    mode: int = MODE
    uid: int = 0
    gid: int = 0
    managed: bool = True

    @property
    def number(self) -> tuple[int, int]:
        return self.major, self.minor


def number(text: str, name: str | None, most: int = _NOBODY) -> int | None:
    """The decimal number up to ``most`` after ``name`` and a colon, if a line has it."""
    for line in text.split("\n") if name else ():
        key, _, value = line.partition(":")
        value = value.strip()
        if key.strip() == name and value.isascii() and value.isdigit() and len(value) <= 10:
            return int(value) if int(value) <= most else None
    return None


def wanted_nodes(rules: tuple[NodeRule, ...], facts: NodeFacts) -> tuple[DeviceNode, ...]:
    """The nodes there should be; where rules disagree on a path or number the first counts."""
    paths: dict[str, DeviceNode] = {}
    numbers: set[tuple[int, int]] = set()
    for rule in rules:
        for node in _nodes(rule, facts):
            if node.path not in paths and node.number not in numbers:
                paths[node.path] = node
                numbers.add(node.number)
    return tuple(paths.values())


def hands_off(rule: NodeRule, facts: NodeFacts) -> bool:
    """Whether the driver wants any node of the rule left alone."""
    params = rule.params or Params()
    patterns = (params.file,) if params.file else rule.minors.files if rule.minors else ()
    texts = [text for pattern in patterns for text in facts.files.get(pattern, ())]
    return any(number(text, params.modify) not in (None, 1) for text in texts)


def _nodes(rule: NodeRule, facts: NodeFacts) -> Iterator[DeviceNode]:
    major = facts.major(rule)
    if major is None or (rule.when and not number(facts.text(rule.when.file), rule.when.field)):
        return
    params = rule.params or Params()
    for minor, text, seen in _minors(rule, facts):
        text = facts.text(params.file) if params.file else text
        mode, uid, gid = (seen.mode, seen.uid, seen.gid) if seen else (rule.mode, 0, 0)
        given = number(text, params.mode)
        yield DeviceNode(
            f"{DEV}/{rule.path.replace(MINOR, str(minor))}",
            major,
            minor,
            mode if given is None else given & _ALL_BITS,
            _owner(text, params.uid, uid),
            _owner(text, params.gid, gid),
            number(text, params.modify) in (None, 1),
        )


def _minors(rule: NodeRule, facts: NodeFacts) -> Iterator[tuple[int, str, Seen | None]]:
    """Each minor with its text and, for a node that is only kept right, what is there."""
    if rule.minor is not None:
        yield rule.minor, "", None
    elif rule.minors is None:
        for path, seen in facts.seen.items():
            if not seen.kind and rule.matches(path):
                yield rule.minor_in(path), "", seen
    else:
        texts = [text for pattern in rule.minors.files for text in facts.files.get(pattern, ())]
        for index, text in enumerate(texts):
            named = rule.minors.field
            minor = number(text, named, MOST_MINOR) if named else index
            if minor is not None:
                yield minor, text, None


def _owner(text: str, name: str | None, default: int) -> int:
    given = number(text, name, _NOBODY - 1)
    return default if given is None else given


@cache
def _pattern(path: str) -> re.Pattern[str]:
    """Matches the absolute paths of a rule's ``path``; minors have no leading zero."""
    head, minor, tail = path.partition(MINOR)
    digits = "(0|[1-9][0-9]{0,5})" if minor else ""
    return re.compile(re.escape(f"{DEV}/{head}") + digits + re.escape(tail))
