"""scripts/bench, as far as it is quick: the numbers are printed, not judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.report import BEGIN, END

pytestmark = [pytest.mark.integration, pytest.mark.required("nspawn", "driver")]

ROOT = Path(__file__).parents[2]
QUICK = ("unpack-zstd", "unpack-xz", "warm", "help")


@pytest.fixture(autouse=True)
def as_root() -> None:
    if os.geteuid():
        # On a developer's own account; where "nspawn" is required, as in CI, this fails.
        pytest.skip("it takes root to make device nodes")


def test_the_quick_rows_are_measured_and_told_in_all_forms(tmp_path: Path) -> None:
    values, document = tmp_path / "values.json", tmp_path / "document.md"
    document.write_text(f"# Title\n{BEGIN}\n{END}\n")
    options = ["--quick", "--json", str(values), "--markdown", str(document)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", *QUICK, *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(values.read_text())
    assert [row["name"] for row in measured["rows"]] == [*QUICK]
    for row in measured["rows"]:
        (ours,), (theirs,) = row["ours"], row["theirs"]
        assert ours["wall"] > 0 and theirs["wall"] > 0
        assert ours["cpu"] > 0 and theirs["cpu"] > 0
        assert row["ratio"]["median"] == pytest.approx(ours["wall"] / theirs["wall"])
        assert row["met"] is (row["ratio"]["median"] <= row["bar"])
        assert row["what"] in done.stdout
        assert f"| {row['what']} |" in document.read_text()
    assert "command: scripts/bench unpack-zstd" in done.stdout
    assert document.read_text().startswith("# Title\n")


@pytest.mark.full
def test_builds_are_measured_against_dkms(tmp_path: Path) -> None:
    values = tmp_path / "values.json"
    rows = ("first", "make", "next", "growth")
    done = subprocess.run(
        [ROOT / "scripts/bench", *rows, "--quick", "--json", values],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    measured = {row["name"]: row for row in json.loads(values.read_text())["rows"]}
    assert [*measured] == [*rows]
    # A build is more than its objects, whoever makes it; only what was there before is not.
    (first,), (make,), (floor,) = (measured["make"][key] for key in ("ours", "theirs", "floor"))
    assert min(first["cpu"], make["cpu"]) > floor["cpu"] > 1
    (growth,) = measured["growth"]["theirs"]
    assert growth["size"] > 20e6
