"""How far a build is: the jobs counted in its sources, and the jobs that its log shows.

kbuild prints a line when it starts a job, and make limits the jobs at a time, so a line counts
as a job done. Kinds of jobs differ in cost; a weight makes the time left come out right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """One kind of job.

    ``done`` is a regular expression that the log line of such a job matches at its start. The
    number of jobs is that of different matches of ``count`` (its group) in the ``files``, plus
    ``per_module`` for each wanted module. ``files`` are globs below the driver's sources;
    ``{module}`` stands for each wanted module in turn. ``weight`` is the cost of a job, in any
    unit that all kinds of a build share.
    """

    done: str
    count: str = ""
    files: tuple[str, ...] = ()
    per_module: int = 0
    weight: int = 1


KBUILD = (
    Work(done=r"  CC \[M\] ", per_module=1, weight=3),
    Work(done=r"  LD \[M\] ", per_module=2, weight=1),
)
"""What kbuild does for every module beyond its sources: compile NAME.mod.c, link twice."""


def globs(work: Work, modules: Sequence[str]) -> tuple[str, ...]:
    """The patterns of the files in which to count ``work``, each once."""
    return tuple(
        dict.fromkeys(
            pattern.replace("{module}", module) for pattern in work.files for module in modules
        )
    )


def predict(work: Work, texts: Iterable[str], modules: Sequence[str]) -> int:
    """How many jobs of this kind a build of ``modules`` has; ``texts`` are its files' texts."""
    counter = re.compile(work.count, re.MULTILINE) if work.count else None
    found = {name for text in texts for name in counter.findall(text)} if counter else set()
    return len(found) + work.per_module * len(modules)


class Progress:
    """Weighs the jobs that a log shows against those that were predicted.

    A log line counts for the first kind of work that matches it. ``done`` never passes
    ``total``: a prediction can be too low.
    """

    def __init__(self, predicted: Iterable[tuple[Work, int]]) -> None:
        works = tuple(predicted)
        self.total = sum(work.weight * count for work, count in works)
        self._kinds = tuple((re.compile(work.done), work.weight) for work, _ in works)
        self._done = 0

    @property
    def done(self) -> int:
        return min(self._done, self.total)

    def line(self, line: str) -> bool:
        """Takes the next log line; says whether it marks a job."""
        for pattern, weight in self._kinds:
            if pattern.match(line):
                self._done += weight
                return True
        return False
