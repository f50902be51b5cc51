"""What all tests share: a clean environment, two versions of sh, skips that count.

A test that needs something the machine may lack skips itself, and says with a mark what it
needs: ``@pytest.mark.required("nspawn")``. scripts/test says with ``--require`` what the
machine must have; where that covers the mark, a skip is a failure, so that a green run has
really run what it claims.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Generator, Iterable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from modulus.host.files import record

# No test is timed: machines are noisy.
settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")

REQUIREMENTS = {
    "driver": "the vendor's current packages, from the distribution's archive",
    "nspawn": "systemd-nspawn, as root",
    "podman": "podman with a working runtime",
    "sh": "the distribution's sh and the package index's",
    "vm": "QEMU and the tools that make an image for it, as root",
}

# scripts/setup --test installs both. The distribution's is what nodes have: 1.14 on Debian 12,
# whose calls return other things, 2.2 on Debian 13.
SH_VERSIONS = {
    "distribution": Path("/usr/lib/python3/dist-packages"),
    "index": Path(sys.prefix, "sh2"),
}


SLOW = (
    # Whole commands, one after another, on nodes made of stand-ins.
    "tests/unit/core/build/test_revoked.py",
    "tests/unit/pipeline/activate/",
    # Real compilers.
    "tests/unit/payload/",
    # All that can be damaged, at random.
    "tests/unit/test_damage.py",
    "tests/unit/test_hostile.py",
)
"""Files of unit tests, and folders of them, that take most of the time of all of them: not for
the inner loop (scripts/test --fast). ``@pytest.mark.slow`` does the same for a single test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        default="",
        metavar="NAMES",
        help=f"fail, not skip, what needs these (comma-separated): {', '.join(REQUIREMENTS)}",
    )


def pytest_configure(config: pytest.Config) -> None:
    _check_names(config.getoption("--require").split(","))
    # A shell has what it starts in the background ignore these, and so what tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    # A developer's own settings are not the tests'.
    for name in [name for name in os.environ if name.startswith("MODULUS_")]:
        del os.environ[name]


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(SLOW):
            item.add_marker("slow")
        for mark in item.iter_markers("required"):
            _check_names(mark.args)
    # What is quick first. Also, unit tests fork, which the threads do not survive that
    # libraries start in integration tests.
    items.sort(key=lambda item: item.get_closest_marker("integration") is not None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With two workers (``-n 2``) one begins with the files of the virtual machines, which keep
    a core busy; all else is the other's, in its order, until that is through."""
    if "not integration" in config.getoption("markexpr"):
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file.startswith("tests/vm/") else "all else"

    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    names = [name for mark in item.iter_markers("required") for name in mark.args]
    required = item.config.getoption("--require").split(",")
    if (
        report.skipped
        and names
        and set(names) <= set(required)
        and not hasattr(report, "wasxfail")
    ):
        report.outcome = "failed"
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.longrepr = f"{', '.join(names)} must not be missing here. {reason}"
    return report


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process tells of a damaged record once, and of so many: each test is one."""
    monkeypatch.setattr(record, "_said", set())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs unit tests that use ``host/process/run.py`` themselves with both versions of sh."""
    unit = "integration" not in metafunc.definition.path.parts
    if unit and any(_is_runner(value) for value in vars(metafunc.module).values()):
        metafunc.fixturenames.append("sh_version")
        marks = pytest.mark.required("sh")
        versions = [pytest.param(name, marks=marks) for name in SH_VERSIONS]
        metafunc.parametrize("sh_version", versions, indirect=True, scope="module")


@pytest.fixture(scope="module")
def sh_version(request: pytest.FixtureRequest) -> Iterator[str]:
    """Has ``import sh`` give one of the supported versions."""
    name: str = request.param
    spec = find_sh(name)
    if spec is None or spec.loader is None:
        # A machine on which only scripts/setup ran; where "sh" is required this fails.
        pytest.skip(f"no sh in {SH_VERSIONS[name]}; scripts/setup --test installs it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "sh", importlib.util.module_from_spec(spec))
        with patch.context() as path:
            # sh 2 asks the metadata for its version: that of the first sh on the path.
            path.setattr(sys, "path", [str(SH_VERSIONS[name]), *sys.path])
            spec.loader.exec_module(sys.modules["sh"])
        yield name


def find_sh(name: str) -> ModuleSpec | None:
    """Where one of SH_VERSIONS would be loaded from, if it is installed."""
    return PathFinder.find_spec("sh", [str(SH_VERSIONS[name])])


def _is_runner(value: object) -> bool:
    return "modulus.host.process.run" in (
        getattr(value, "__module__", None),
        value.__name__ if isinstance(value, ModuleType) else None,
    )


def _check_names(names: Iterable[str]) -> None:
    unknown = {name for name in names if name} - REQUIREMENTS.keys()
    if unknown:
        known = ", ".join(REQUIREMENTS)
        raise pytest.UsageError(
            f"not known to be required: {unknown}; tests/conftest.py has {known}"
        )
