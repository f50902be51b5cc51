"""Why a build failed: what made make stop, and known causes with their remedy.

What is special to a driver comes from its profile as more ``Cause``s, which rank before these.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from modulus.core.profile.make_stop import Stop, StopFinder

SHOWN_LINES = 15
"""How many of a log's last error lines a person is shown."""

_LINE_LENGTH = 300


@dataclass(frozen=True)
class Cause:
    """A known cause: the regular expression that finds it in a log line, and what to do.

    ``{release}`` in ``cause`` and ``remedy`` is the kernel's. Without ``anywhere`` it counts
    only in what was said where make stopped: elsewhere such a line may mean nothing.
    ``lasting``: the same build fails so again, whatever room, memory and time there is.
    """

    pattern: str
    cause: str
    remedy: str
    anywhere: bool = False
    lasting: bool = False


OUT_OF_MEMORY = Cause(
    r"Killed signal terminated program|virtual memory exhausted|out of memory"
    r"|Cannot allocate memory|\bKilled\b",
    "the compiler ran out of memory",
    "raise build.memory_max or lower build.jobs",
    anywhere=True,
)
DISK_FULL = Cause(
    r"No space left on device|Disk quota exceeded",
    "no space left on the disk that holds the cache",
    "free some space, for example with modulus cache gc",
    anywhere=True,
)

CAUSES = (
    DISK_FULL,
    OUT_OF_MEMORY,
    Cause(
        r"\b[Cc]annot fork\b|: Resource temporarily unavailable",
        "the build wants more processes than it may have",
        "lower build.jobs",
        anywhere=True,
    ),
    Cause(
        r"error while loading shared libraries: ",
        "a program of kernel {release}'s headers, or of the toolchain, lacks a shared library",
        "install the library where the build runs (for libelf.so.1 Debian's libelf1), or set "
        "build.container to auto",
    ),
    Cause(
        r"unrecogni[sz]ed emulation mode: |LLVM IR|file format not recogni[sz]ed"
        r"|file not recogni[sz]ed",
        "GNU's linker was given what is for LLVM's, by which kernel {release} was linked",
        "have the driver's makefile call no linker of its own: make is given LD by Modulus",
    ),
    Cause(
        # Before 5.18 it is where make runs. "kbuild: Remove support for Clang's ThinLTO
        # caching" took it out.
        r"LLVM ERROR: (Read-only file system|Permission denied)|\.thinlto-cache: ",
        "kernel {release} has the linker keep a cache beside its headers, which are read-only",
        "update the kernel: its stable series has had none since June 2024",
    ),
    Cause(
        r"\b(gcc|clang|cc|ld|make|strip|patch|find)(-[\w.-]+)?: (command )?not found"
        r"|\b(gcc|clang|cc|ld|ld\.lld)(-[\w.]+)?: No such file or directory",
        "the toolchain lacks a program that the build needs",
        "remove the toolchains folder of the cache, so that it is provisioned anew",
    ),
    Cause(
        r"unrecognized command[- ]line option|unknown argument: ",
        "the compiler is not the one that kernel {release} was built with",
        "remove the toolchains folder of the cache, so that it is provisioned anew",
    ),
    Cause(
        r"fatal error: (linux/)?stdarg\.h: No such file",
        "the sources were shown only one half of the kernel's headers",
        "give make both {source} and {build} in the profile",
    ),
    Cause(
        r"Module\.symvers\"? is missing",
        "the headers of kernel {release} have no Module.symvers",
        "install or provision the complete headers of this kernel",
    ),
    Cause(
        r"error: objtool: |objtool: (not found|No such file|cannot execute|Permission denied)",
        "objtool, from the headers of kernel {release}, does not run or refuses the object",
        "provision the headers anew; their tools must fit the build container",
    ),
    Cause(
        r"\bpahole: |resolve_btfids: not found|FAILED:? load BTF",
        "making BTF type information failed",
        "pass CONFIG_DEBUG_INFO_BTF_MODULES= to make in the profile",
    ),
    Cause(
        r"PREEMPT_RT (kernel|sanity check)|does not support (PREEMPT_RT|real-time)",
        "the driver refuses real-time kernels (PREEMPT_RT)",
        "boot a kernel without PREEMPT_RT",
        lasting=True,
    ),
    Cause(
        r"GPL-incompatible module \S+ uses GPL-only symbol",
        "the driver uses what kernel {release} lets only GPL modules use",
        "choose a driver version, or another flavour, that supports this kernel",
        lasting=True,
    ),
    Cause(
        r"hunks? FAILED|Hunk #\d+ FAILED|patch: \*\*\*\* ",
        "a patch of the profile does not apply to these sources",
        "correct the kernel and driver ranges of the patch in the profile",
    ),
    Cause(
        r"internal compiler error|Segmentation fault",
        "the compiler crashed",
        "build again with build.jobs: 1; if it crashes at the same file, it is a compiler bug",
    ),
    Cause(
        r"^\S+:\d+:\d+: (fatal )?error: |ERROR: (modpost: )?\"\S+\" \[\S+\] undefined!",
        "the sources do not fit kernel {release}",
        "choose a driver version that supports this kernel",
        lasting=True,
    ),
    Cause(
        r"No rule to make target",
        "the sources or headers lack a file",
        "remove the unpacked headers from the cache, so that they are provisioned anew",
    ),
    Cause(
        r"Clock skew detected",
        "the clock went backwards during the build",
        "set the clock and build again",
    ),
)
"""Known causes for any driver, the surest first."""

_ERROR = (
    r"(^|[\s:])(fatal |internal compiler )?error: |^ERROR: |undefined reference to"
    r"|: (command )?not found$|: No such file or directory$|No space left on device"
    r"|Killed|FAILED|error while loading |unrecogni[sz]ed |LLVM ERROR: |Permission denied$"
)
_AFTERMATH = r"\*\*\* .*(Error \d+|Stop\.|Waiting for)|^make.*Error \d+"


class Diagnosis:
    """Reads a log as it grows; remembers its errors, not the log."""

    def __init__(self, causes: Sequence[Cause], release: str) -> None:
        self._release = release
        self._causes = (*(replace(cause, anywhere=True) for cause in causes), *CAUSES)
        self._patterns = tuple(re.compile(cause.pattern) for cause in self._causes)
        self._error, self._aftermath = re.compile(_ERROR), re.compile(_AFTERMATH)
        self._finder = StopFinder()
        self._found: dict[int, str] = {}
        self._first = ""
        self._errors: deque[str] = deque(maxlen=SHOWN_LINES)
        self._last: deque[str] = deque(maxlen=SHOWN_LINES)

    def line(self, line: str) -> None:
        """Takes the next line of the log."""
        self._finder.line(line)
        self._last.append(line)
        is_error = bool(self._error.search(line))
        if is_error or self._aftermath.search(line):
            self._errors.append(line)
        if is_error and not self._first:
            self._first = line
        rank = self._rank(line)
        if rank is not None:
            self._found.setdefault(rank, line)

    @property
    def shown(self) -> tuple[str, ...]:
        """The last error lines; the last lines where none looks like an error."""
        return tuple(self._errors or self._last)

    def verdict(self, otherwise: str, hint: str) -> tuple[str, str]:
        """The cause with its line, and the remedy.

        Without a known cause, the line at which make stopped, or else the first that looks like
        an error (``otherwise`` where there is none), and ``hint``.
        """
        rank, line = self._decision
        return (_cut(line) or otherwise, hint) if rank is None else self._known(rank, line)

    @property
    def is_lasting(self) -> bool:
        """Whether the same build would fail so again."""
        rank, _ = self._decision
        return rank is not None and self._causes[rank].lasting

    @property
    def _decision(self) -> tuple[int | None, str]:
        """The known cause, None for none, and the line that shows what happened."""
        certain = [rank for rank in self._found if self._causes[rank].anywhere]
        if certain:
            return min(certain), self._found[min(certain)]
        stop = self._finder.stop or Stop("", self._finder.said)
        line = self._line_of(stop)
        if line:
            rank = self._rank(line)
            if rank is not None and line not in stop.named:
                line = next(said for said in (*stop.said, line) if self._rank(said) == rank)
            return rank, line
        if self._found:
            return min(self._found), self._found[min(self._found)]
        return None, self._first

    def _line_of(self, stop: Stop) -> str:
        """What says why there was this stop; "" where nothing does.

        Of what the target said that is the first error, since others follow from it; of all
        else the last, which is the nearest to the stop.
        """
        nearest_first = stop.said if stop.own else stop.said[::-1]
        if found := next(filter(self._tells, stop.named), ""):
            return found
        if stop.tells:
            return stop.line
        if found := next(filter(self._tells, nearest_first), ""):
            return found
        return stop.said[-1] if stop.own and stop.said else ""

    def _tells(self, line: str) -> bool:
        return bool(self._error.search(line)) or self._rank(line) is not None

    def _rank(self, line: str) -> int | None:
        """The surest cause that ``line`` is known for."""
        return next(
            (rank for rank, pattern in enumerate(self._patterns) if pattern.search(line)), None
        )

    def _known(self, rank: int, line: str) -> tuple[str, str]:
        known = self._causes[rank]
        return f"{self._text(known.cause)}: {_cut(line)}", self._text(known.remedy)

    def _text(self, template: str) -> str:
        return template.replace("{release}", self._release)


def _cut(line: str) -> str:
    line = line.strip()
    return line if len(line) <= _LINE_LENGTH else line[: _LINE_LENGTH - 1] + "…"
