"""What a profile says of a driver's libraries, its key ``libraries``, and their answers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from modulus.core.config.fields import MODULE_NAME
from modulus.core.config.schema_types import ListOf, Problems, Record, choice, integer, text
from modulus.core.findings import SEVERITIES
from modulus.core.profile.fields import NOTE


@dataclass(frozen=True)
class Status:
    """What one of a library's status codes means: the cause, and what to do about it."""

    status: int
    cause: str
    fix: str
    severity: str = "error"


@dataclass(frozen=True)
class Library:
    """A library by its soname; programs must get it from the driver's own folder.

    ``version_of``: its file ends with the version of this module. The function ``init`` takes
    ``arguments`` and must return 0. The function ``device`` takes a PCI address and a place for
    a handle, and returns 0 for a device that works. The function ``text`` gives the library's
    own words for a status. ``severity`` is that of a status outside ``statuses``.
    """

    name: str
    version_of: str | None = None
    init: str | None = None
    arguments: tuple[int, ...] = ()
    device: str | None = None
    text: str | None = None
    severity: str = "error"
    statuses: tuple[Status, ...] = ()

    def meaning(self, status: int) -> Status | None:
        """What the profile says of a status code, or None."""
        return next((known for known in self.statuses if known.status == status), None)

    def file_version(self, file: str) -> str | None:
        """The version in the name of the library's ``file``; None where there is none."""
        stem = f"{self.name.partition('.so')[0]}.so."
        return file.removeprefix(stem) if file.startswith(stem) and file != stem else None


@dataclass(frozen=True)
class Reply:
    """What a function returned; ``device`` is the PCI address it was asked about."""

    function: str
    status: int
    text: str = ""
    device: str | None = None


@dataclass(frozen=True)
class Answer:
    """All replies of a library, and the ``problem`` that ended them early."""

    library: str
    replies: tuple[Reply, ...] = ()
    problem: str | None = None


_FUNCTION = text(r"[A-Za-z_][A-Za-z0-9_]*", "the name of a C function")

SCHEMA = ListOf(
    Record(
        {
            "name": text(r"[^/\s\x00]+\.so(\.[^/\s\x00]+)?", "a soname, such as liba.so.1"),
            "version_of": MODULE_NAME,
            "init": _FUNCTION,
            "arguments": ListOf(integer(0, 0xFFFFFFFF, "a number of 32 bits")),
            "device": _FUNCTION,
            "text": _FUNCTION,
            "severity": choice(*SEVERITIES),
            "statuses": ListOf(
                Record(
                    {
                        "status": integer(-0x80000000, 0x7FFFFFFF, "a number of 32 bits"),
                        "severity": choice(*SEVERITIES),
                        "cause": NOTE,
                        "fix": NOTE,
                    },
                    ("status", "cause", "fix"),
                    make=Status,
                )
            ),
        },
        ("name",),
        make=Library,
    )
)


def check_fit(
    libraries: Collection[Library], modules: Collection[str], devices: bool, problems: Problems
) -> None:
    """Notes what is missing or does not fit: ``modules`` are those to build, ``devices`` says
    whether the driver has any."""
    for index, library in enumerate(libraries):
        key = f"libraries[{index}]"
        if library.version_of is not None and library.version_of not in modules:
            problems.add(
                f"{key}.version_of", f"{library.version_of} is not among the modules to build"
            )
        for name in ("arguments", "device", "text", "statuses"):
            if getattr(library, name) and library.init is None:
                problems.add(f"{key}.{name}", "needs init, which is called first")
        if library.device and not devices:
            problems.add(f"{key}.device", "needs pci, which says what devices there are")
