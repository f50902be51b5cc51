"""Versions of kernels and drivers, and the ranges of versions in profiles."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

_LEADING = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_BOUND = re.compile(r"(>=|<=|==|>|<)\s*([0-9]+(?:\.[0-9]+)*)")
_COMPARE: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}


def version_tuple(text: str) -> tuple[int, ...]:
    """The leading dotted numbers of ``text``: (6, 12, 117) for ``6.12.117+deb12-amd64``.

    Raises ValueError where it does not begin with a number.
    """
    match = _LEADING.match(text)
    if not match:
        raise ValueError(f"{text!r} does not begin with a version number")
    return tuple(int(number) for number in match[0].split("."))


def release_order(release: str) -> tuple[tuple[int, ...], str]:
    """A key that sorts kernels by number, then by flavour.

    6.1.0-56-cloud-amd64 gives (6, 1, 0, 56), cloud-amd64.
    """
    match = re.search(r"-([a-zA-Z].*)$", release)
    version = release[: match.start()] if match else release
    return tuple(int(word) for word in re.findall(r"\d+", version)), match[1] if match else ""


@dataclass(frozen=True)
class Range:
    """The versions within all ``bounds``; without bounds, every version."""

    bounds: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Range:
        """Reads text such as ``>=6.8,<6.13``; the empty text means every version.

        Raises ValueError for anything else.
        """
        bounds = []
        for part in text.split(",") if text.strip() else ():
            match = _BOUND.fullmatch(part.strip())
            if not match:
                raise ValueError("must be a range of versions, such as >=6.8,<6.13")
            bounds.append((match[1], version_tuple(match[2])))
        return cls(tuple(bounds))

    def contains(self, version: str) -> bool:
        """Whether the leading numbers of ``version`` are in range; 6.8 and 6.8.0 are equal.

        Raises ValueError where ``version`` does not begin with a number.
        """
        number = _trimmed(version_tuple(version))
        return all(_COMPARE[sign](number, _trimmed(bound)) for sign, bound in self.bounds)

    def __str__(self) -> str:
        return ",".join(sign + ".".join(map(str, bound)) for sign, bound in self.bounds)


ANY = Range()
"""Every version."""


def _trimmed(numbers: tuple[int, ...]) -> tuple[int, ...]:
    end = len(numbers)
    while end and numbers[end - 1] == 0:
        end -= 1
    return numbers[:end]
