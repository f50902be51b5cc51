"""Why a build failed: the first real error in its log, and known causes with their remedy.

What is special to a driver comes from its profile as more ``Cause``s, which rank before these.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

SHOWN_LINES = 15
"""How many of a log's last error lines a person is shown."""

_LINE_LENGTH = 300


@dataclass(frozen=True)
class Cause:
    """A known cause: the regular expression that finds it in a log line, and what to do.

    ``{release}`` in ``cause`` and ``remedy`` is the kernel's.
    """

    pattern: str
    cause: str
    remedy: str


OUT_OF_MEMORY = Cause(
    r"Killed signal terminated program|virtual memory exhausted|out of memory"
    r"|Cannot allocate memory|\bKilled\b",
    "the compiler ran out of memory",
    "raise build.memory_max or lower build.jobs",
)
DISK_FULL = Cause(
    r"No space left on device|Disk quota exceeded",
    "no space left on the disk that holds the cache",
    "free some space, for example with modulus cache gc",
)

CAUSES = (
    DISK_FULL,
    OUT_OF_MEMORY,
    Cause(
        r"\b[Cc]annot fork\b|: Resource temporarily unavailable",
        "the build wants more processes than it may have",
        "lower build.jobs",
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
    ),
    Cause(
        r"GPL-incompatible module \S+ uses GPL-only symbol",
        "the driver uses what kernel {release} lets only GPL modules use",
        "choose a driver version, or another flavour, that supports this kernel",
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
    r"|Killed|FAILED"
)
_AFTERMATH = r"\*\*\* .*(Error \d+|Stop\.|Waiting for)|^make.*Error \d+"


class Diagnosis:
    """Reads a log as it grows; remembers its errors, not the log."""

    def __init__(self, causes: Sequence[Cause], release: str) -> None:
        self._release = release
        self._causes = (*causes, *CAUSES)
        self._patterns = tuple(re.compile(cause.pattern) for cause in self._causes)
        self._error, self._aftermath = re.compile(_ERROR), re.compile(_AFTERMATH)
        self._rank = len(self._causes)
        self._cause_line = ""
        self._first = ""
        self._errors: deque[str] = deque(maxlen=SHOWN_LINES)
        self._last: deque[str] = deque(maxlen=SHOWN_LINES)

    def line(self, line: str) -> None:
        """Takes the next line of the log."""
        self._last.append(line)
        is_error = bool(self._error.search(line))
        if is_error or self._aftermath.search(line):
            self._errors.append(line)
        if is_error and not self._first:
            self._first = line
        for rank, pattern in enumerate(self._patterns[: self._rank]):
            if pattern.search(line):
                self._rank, self._cause_line = rank, line
                break

    @property
    def shown(self) -> tuple[str, ...]:
        """The last error lines; the last lines where none looks like an error."""
        return tuple(self._errors or self._last)

    def verdict(self, otherwise: str, hint: str) -> tuple[str, str]:
        """The cause with its line, and the remedy.

        Without a known cause, the first error line (``otherwise`` where there is none) and
        ``hint``.
        """
        if self._rank < len(self._causes):
            known = self._causes[self._rank]
            return f"{self._text(known.cause)}: {_cut(self._cause_line)}", self._text(
                known.remedy
            )
        return _cut(self._first) or otherwise, hint

    def _text(self, template: str) -> str:
        return template.replace("{release}", self._release)


def _cut(line: str) -> str:
    line = line.strip()
    return line if len(line) <= _LINE_LENGTH else line[: _LINE_LENGTH - 1] + "…"
