"""The vendor's tests of the kernel and objects, compiled together, beside the vendor's way."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Whole, build_vendors, build_whole
from tests.support.kernels import Kernels

pytestmark = [pytest.mark.integration, pytest.mark.required("nspawn", "driver")]


def answers(built: Whole) -> list[str]:
    """What the tests found; make prints the files that it makes of it, in no order."""
    return sorted(re.findall(r"^#(?:define|undef) .*", built.log, re.MULTILINE))


def all_of(log: str, what: str) -> bool:
    """Whether a line of the log says that all of many were compiled together."""
    said = re.search(rf"^{what}", log, re.MULTILINE)
    return said is not None and said[1] == said[2] and int(said[1]) > 150


def compare(together: Whole, folder: Path, driver: str, **settings: Any) -> None:
    alone = build_vendors(folder / "vendors", driver, together.release, **settings)

    assert all_of(together.log, r"conftest: (\d+) of (\d+) compiles in one$")
    assert all_of(together.log, r"batch: (\d+) of (\d+) objects compiled together$")
    assert not re.search("^(conftest|batch): ", alone.log, re.MULTILINE)
    assert len(answers(alone)) > 200
    assert answers(together) == answers(alone)
    assert together.digests == alone.digests


def test_answers_and_modules_are_the_vendors(
    whole: Whole, driver: str, mirrors: list[Any], tmp_path: Path
) -> None:
    compare(whole, tmp_path, driver, mirrors=mirrors)


@pytest.mark.full
def test_they_are_on_other_kernels(
    driver: str, kernels: Kernels, mirrors: list[Any], tmp_path: Path
) -> None:
    for release in (kernels.newest("cloud-amd64"), *kernels.others()):
        folder = tmp_path / release
        together = build_whole(folder / "together", driver, release, mirrors=mirrors)
        compare(together, folder, driver, mirrors=mirrors)


@pytest.mark.full
def test_they_are_for_the_open_flavour(
    open_driver: str, kernels: Kernels, mirrors: list[Any], tmp_path: Path
) -> None:
    release = kernels.of()[-1]
    settings: dict[str, Any] = {"mirrors": mirrors, "flavour": "open"}
    together = build_whole(tmp_path / "together", open_driver, release, **settings)
    compare(together, tmp_path, open_driver, **settings)
