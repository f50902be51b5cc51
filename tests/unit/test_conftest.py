"""The rules for all tests hold: tests/conftest.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests import conftest

TESTS = """
import os
import pytest

@pytest.mark.required("nspawn")
def test_marked():
    pytest.skip("no systemd-nspawn")

@pytest.mark.required("nspawn", "podman")
def test_marked_twice():
    pytest.skip("no podman")

def test_unmarked():
    pytest.skip("just so")

@pytest.mark.required("nspawn")
@pytest.mark.xfail
def test_expected():
    assert False

@pytest.mark.required("nspawn")
def test_fine():
    assert "MODULUS_OFFLINE" not in os.environ
"""

RUNNER = """
from fnmatch import fnmatch
from pathlib import Path
from modulus.host.process.run import run
from tests.conftest import SH_VERSIONS

def test_version(sh_version):
    import sh
    assert Path(sh.__file__).is_relative_to(SH_VERSIONS[sh_version])
    assert run(["echo", "hello"]).stdout == "hello\\n"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tests of their own, under a copy of the rules."""
    shutil.copy(conftest.__file__, tmp_path)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nmarkers = required(names): as in the project\n"
    )
    return tmp_path


def pytest_run(folder: Path, code: str, *arguments: str) -> tuple[int, str]:
    """The exit status and the output of pytest on ``code``."""
    (folder / "test_it.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={
            **os.environ,
            "MODULUS_OFFLINE": "true",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_skip_is_a_skip_where_nothing_is_required(folder: Path) -> None:
    status, output = pytest_run(folder, TESTS)
    assert status == 0
    assert "1 passed, 3 skipped, 1 xfailed" in output


def test_a_skip_of_what_is_required_fails(folder: Path) -> None:
    status, output = pytest_run(folder, TESTS, "--require=nspawn,driver")
    assert status == 1
    assert "1 failed, 1 passed, 2 skipped, 1 xfailed" in output
    assert "nspawn must not be missing here. Skipped: no systemd-nspawn" in output


@pytest.mark.parametrize(
    ("code", "argument"),
    [(TESTS, "--require=nspwan"), (TESTS.replace("podman", "nspwan"), "--require=")],
)
def test_a_name_nobody_knows_is_refused(folder: Path, code: str, argument: str) -> None:
    status, output = pytest_run(folder, code, argument)
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "'nspwan'" in output


@pytest.mark.required("sh")
def test_what_runs_programs_is_tested_with_both_versions_of_sh(folder: Path) -> None:
    for name in conftest.SH_VERSIONS:
        if conftest.find_sh(name) is None:
            pytest.skip(f"no {name}; scripts/setup --test installs it")
    status, output = pytest_run(folder, RUNNER, "--require=sh")
    assert status == 0, output
    assert "PASSED test_it.py::test_version[distribution]" in output
    assert "PASSED test_it.py::test_version[index]" in output


def test_no_folder_of_tests_is_passed_over(pytestconfig: pytest.Config) -> None:
    """By its name, as pytest does with some unless it is told otherwise."""
    tests = Path(__file__).parents[1]
    folders = {path.parent.name for path in tests.rglob("test_*.py")}
    patterns = pytestconfig.getini("norecursedirs")
    assert "build" in folders
    assert [name for name in folders if any(fnmatch(name, one) for one in patterns)] == []


def test_what_is_slow_is_there() -> None:
    top = Path(__file__).parents[2]
    assert [name for name in conftest.SLOW if not (top / name).exists()] == []
