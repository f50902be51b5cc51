"""Builds that the compiler has refused: ``KEY.failed.json`` in a cache's folder of a kernel.

A key covers all that makes the bits. So what was refused once is refused again, after minutes,
and is told at once instead.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modulus.core.instance import Instance
from modulus.core.record import forms
from modulus.core.record.forms import Fields
from modulus.errors import LastingBuildError, ModulusError
from modulus.host.files import atomic
from modulus.host.files.record import read_record

_SCHEMA = 1
_END = ".failed.json"


@dataclass(frozen=True)
class Failure:
    """What the compiler said of a flavour of ``instance``, and when."""

    instance: Instance
    flavour: str
    message: str
    hint: str
    at: str


def remember(
    folder: Path, key: str, instance: Instance, flavour: str, error: LastingBuildError
) -> None:
    """Records in ``folder`` that the build ``key`` was refused; where that cannot be, it is
    tried again."""
    record = {
        "schema": _SCHEMA,
        "instance": str(instance),
        "flavour": flavour,
        "message": error.message,
        "hint": error.hint,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    with contextlib.suppress(OSError, ModulusError):
        atomic.write_json(folder / f"{key}{_END}", record)


def check(folder: Path, key: str) -> None:
    """Raises LastingBuildError where the build ``key`` was refused before."""
    failure = read_record(folder / f"{key}{_END}", _parse)
    if failure:
        raise LastingBuildError(
            f"{failure.message} (on {failure.at}; it is made of the same things as then)",
            f"{failure.hint}; --retry builds it all the same",
        )


def failures(cache: Path) -> Iterator[tuple[str, Failure]]:
    """Every refused build in ``cache``, with the release of its kernel."""
    for path in sorted((cache / "builds").glob(f"*/*{_END}")):
        if failure := read_record(path, _parse):
            yield path.parent.name, failure


def forget(folder: Path, key: str) -> None:
    """Forgets that the build ``key`` was refused."""
    (folder / f"{key}{_END}").unlink(missing_ok=True)


def forget_all(cache: Path, instance: Instance) -> None:
    """Forgets all refused builds of ``instance``, for any kernel."""
    for path in (cache / "builds").glob(f"*/*{_END}"):
        failure = read_record(path, _parse)
        if failure is None or failure.instance == instance:
            path.unlink(missing_ok=True)


def _parse(value: object) -> Failure:
    of = Fields(value, "the record of a refused build")
    of("schema", forms.exactly(_SCHEMA))
    return Failure(
        of("instance", forms.instance),
        of("flavour", forms.word),
        of("message", forms.line),
        of("hint", forms.line),
        of("at", forms.time),
    )
