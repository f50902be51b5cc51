"""Who uses a driver: other modules, and processes with its devices or libraries open."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from modulus.core.kernel.moddep import module_name
from modulus.core.profile.profile import Profile

_LONGEST_COMMAND = 60
_MOST_NAMED = 5


@dataclass(frozen=True)
class Process:
    """A process and its shortened command line."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


@dataclass(frozen=True)
class NodeSet:
    """Device nodes: by number, by major alone, or by path as processes see it."""

    numbers: frozenset[tuple[int, int]] = frozenset()
    majors: frozenset[int] = frozenset()
    paths: frozenset[str] = frozenset()

    @cached_property
    def names(self) -> frozenset[str]:
        """The last parts of the paths."""
        return frozenset(posixpath.basename(path) for path in self.paths)

    def __or__(self, other: NodeSet) -> NodeSet:
        return NodeSet(
            self.numbers | other.numbers,
            self.majors | other.majors,
            self.paths | other.paths,
        )

    def has(self, major: int, minor: int) -> bool:
        return major in self.majors or (major, minor) in self.numbers


@dataclass(frozen=True)
class ModuleUse:
    """How often a loaded module is used, and the modules that hold it."""

    refcount: int
    holders: tuple[str, ...] = ()

    @property
    def unexplained(self) -> int:
        """The number of uses by anything but modules: open files, mostly."""
        return max(0, self.refcount - len(self.holders))


@dataclass(frozen=True)
class Users:
    """Who uses a driver; ``references`` counts, by module, the uses that no holder explains."""

    processes: tuple[Process, ...] = ()
    modules: tuple[str, ...] = ()
    references: Mapping[str, int] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        return bool(self.processes or self.modules or self.references)

    @property
    def text(self) -> str:
        """Such as ``in use by process 4242 (python3 train.py), module gdrdrv``."""
        if not self.any:
            return "not in use"
        named = describe(self.processes, self.modules)
        if named:
            return f"in use by {named}"
        return "in use: " + ", ".join(
            f"{count} reference{'' if count == 1 else 's'} to {module}"
            for module, count in self.references.items()
        )


def describe(processes: Iterable[Process], modules: Iterable[str]) -> str:
    """The users by name, at most a few of each."""
    return ", ".join(
        [
            *_first([str(process) for process in processes], "processes"),
            *_first([f"module {module}" for module in modules], "modules"),
        ]
    )


def _first(names: list[str], what: str) -> list[str]:
    rest = len(names) - _MOST_NAMED
    # One more name is as short as the note that there is one.
    return names if rest <= 1 else [*names[:_MOST_NAMED], f"{rest} more {what}"]


def unload_order(profile: Profile, loaded: Collection[str]) -> tuple[str, ...]:
    """The ``loaded`` modules to unload, users first.

    The profile's ``unload`` leads, in its order; the other modules it builds follow, the last
    loaded first. Names are those of sysfs.
    """
    built = [*profile.load, *profile.build]
    names = dict.fromkeys(map(module_name, [*profile.unload, *reversed(built)]))
    there = set(map(module_name, loaded))
    return tuple(name for name in names if name in there)


def module_users(
    modules: Collection[str], built: Collection[str], uses: Mapping[str, ModuleUse]
) -> tuple[tuple[str, ...], dict[str, int]]:
    """The modules that stand in the way of unloading ``modules``, and unexplained uses.

    Two kinds stand in the way: a holder outside ``modules``, and one of ``modules`` that is in
    use and not among those ``built``.
    """
    ours = set(map(module_name, built))
    blocking: dict[str, None] = {}
    references = {}
    for name in modules:
        use = uses.get(name)
        if use is None:
            continue
        blocking.update(dict.fromkeys(h for h in use.holders if h not in modules))
        if use.unexplained and name in ours:
            references[name] = use.unexplained
        elif use.unexplained:
            blocking[name] = None
    return tuple(blocking), references


def short_command(cmdline: str, comm: str | None) -> str:
    """The text of ``/proc/PID/cmdline`` as one short line; if it is empty, ``[comm]``."""
    words = [word for word in cmdline.split("\0") if word]
    text = " ".join(words) if words else f"[{comm or '?'}]"
    text = "".join(sign if sign.isprintable() else "?" for sign in text)
    return text if len(text) <= _LONGEST_COMMAND else f"{text[: _LONGEST_COMMAND - 3]}..."


def maps_any(text: str, folders: Collection[str]) -> bool:
    """Whether a process whose ``/proc/PID/maps`` is ``text`` maps a file below a folder.

    The folder counts anywhere in the path: a container may have it elsewhere.
    """
    return any(f"{folder.rstrip('/')}/" in text for folder in folders)
