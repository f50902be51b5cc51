"""The vendor's real libraries, asked as on a node; most machines have no GPU to find."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modulus.core.profile.libraries import Library
from modulus.host.config.load import load_profile
from modulus.host.health.library_probe import ask
from tests.support import packages

pytestmark = [pytest.mark.integration, pytest.mark.required("driver")]

PACKAGES = {"libnvidia-ml.so.1": "libnvidia-ml1", "libcuda.so.1": "libcuda1"}
LIBRARIES = load_profile(Path("/nonexistent"), "nvidia").libraries


@pytest.fixture(params=LIBRARIES, ids=lambda library: library.name)
def library(request: pytest.FixtureRequest) -> Library:
    found: Library = request.param
    return found


@pytest.fixture
def path(library: Library, tmp_path: Path) -> Path:
    try:
        packages.unpack(packages.download(PACKAGES[library.name]), tmp_path)
    except packages.UnavailableError as error:
        pytest.skip(str(error))
    return next(tmp_path.rglob(library.name))


def test_it_answers_with_a_status_that_the_profile_knows(library: Library, path: Path) -> None:
    answer = ask(library, path, ["0000:00:1f.7"])
    assert answer.problem is None
    first = answer.replies[0]
    assert first.function == library.init
    assert first.status == 0 or library.meaning(first.status)
    assert bool(first.text) == bool(first.status and library.text)


def test_it_has_the_functions_that_the_profile_names(library: Library, path: Path) -> None:
    names = [name for name in (library.init, library.device, library.text) if name]
    # Not in this process, which would have it until its end.
    code = f"import ctypes; l = ctypes.CDLL({str(path)!r}); "
    code += "; ".join(f"l.{name}" for name in names)
    subprocess.run([sys.executable, "-c", code], check=True)


def test_its_file_names_its_version(library: Library, path: Path) -> None:
    version = packages.candidate(PACKAGES[library.name]).partition("-")[0]
    assert library.file_version(path.resolve().name) == version
