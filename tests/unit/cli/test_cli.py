"""The command line as a whole, run in this process on a root without a network."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modulus.cli import run
from modulus.cli.commands import plan
from modulus.cli.parser import make_parser
from modulus.errors import UsageError

RELEASE = "6.1.0-1-amd64"


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """``run`` handles SIGTERM for a whole process; this one goes on."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    file = tmp_path / "proc/sys/kernel/osrelease"
    file.parent.mkdir(parents=True)
    file.write_text(f"{RELEASE}\n")
    return tmp_path


def error_lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if "modulus: " in line]


@pytest.mark.parametrize(
    ("argv", "code", "cause"),
    [
        ([], 2, "COMMAND"),
        (["frobnicate"], 2, "frobnicate"),
        (["build"], 2, "INSTANCE"),
        (["build", "NVIDIA-1"], 2, "not an instance name"),
        (["up", "nvidia-1", "--watch", "--no-load"], 2, "not allowed with"),
        (["up", "nvidia-1", "--watch", "--repair"], 2, "not allowed with"),
        (["up", "nvidia-1"], 18, "no GPU for nvidia"),
        (["down", "nvidia"], 2, "not an instance name"),
        (["verify", "nvidia-1"], 2, "nvidia-1 is not active here: nothing is"),
        (["render", "user-data", "nvidia-1", "--package", "https://x/y.deb"], 2, "sha256"),
        (["build", "nvidia-1", "--kernel", "a", "--all-kernels"], 2, "not allowed"),
        (["plan", "nvidia-1", "--root", "/nowhere"], 2, "/nowhere"),
        (["plan", "nvidia-1", "--kernel", "../../x"], 2, "not a kernel release"),
        (["plan", "nvidia-1", "--kernel", "nope"], 13, "no kernel is called nope"),
        (["cache", "gc", "--max-age", "soon"], 2, "--max-age"),
        (["cache", "extract", "ffff", "out"], 2, "no builds"),
        (["plan", "nvidea-1"], 10, "did you mean nvidia?"),
        (["plan", "nvidia-535.1", "--set", "flavor=open"], 10, "flavour"),
        (
            ["plan", "nvidia-535.1", "--config", "/nowhere"],
            10,
            "/nowhere",
        ),
        (["build", "nvidia-535.1", "--all-kernels"], 13, "no kernel is installed"),
        (["build", "nvidia-535.1", "--set", "offline=true"], 13, "offline"),
    ],
)
def test_a_failure_is_one_line_of_cause_and_one_of_what_to_do(
    root: Path, capsys: pytest.CaptureFixture[str], argv: list[str], code: int, cause: str
) -> None:
    assert run(["--root", str(root), *argv]) == code
    error, hint = error_lines(capsys)
    assert error.startswith("modulus: error: ")
    assert cause in error
    assert hint.startswith("modulus: hint: ")


def test_every_problem_of_the_settings_is_a_line(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = root / "etc/modulus"
    folder.mkdir(parents=True)
    (folder / "modulus.yaml").write_text("mirors: []\nbuild: {jobs: many}\n")
    assert run(["cache", "list", "--root", str(root)]) == 10
    first, second, hint = error_lines(capsys)
    assert "modulus.yaml" in first
    assert "mirrors" in first + second
    assert "build.jobs" in first + second
    assert hint.startswith("modulus: hint: ")


def test_an_error_is_json_too(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "nope", "--json", "--root", str(root)]) == 2
    value = json.loads(capsys.readouterr().out)
    assert value["error"]["code"] == 2
    assert value["error"]["message"]
    assert value["error"]["hint"]


def test_a_plan_changes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(root.rglob("*"))
    assert run(["plan", "nvidia-535.309.01", "--root", str(root), "--json"]) == 0
    plan: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert sorted(root.rglob("*")) == before
    assert plan["kernel"] == RELEASE
    assert plan["flavour"] == "proprietary"
    assert plan["key"] is None
    assert [miss["input"] for miss in plan["miss"]] == ["store"]
    phases = [step["phase"] for step in plan["steps"]]
    made = ["provision", "provision", "fetch", "unpack", "build", "commit"]
    assert phases == [*made, "install", "load", "nodes", "verify"]
    assert plan["settings"]["offline"] == {"value": False, "from": "default"}


def test_a_plan_shows_no_password(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "nvidia-535.1", "-v", "--root", str(root)]
    assert run([*words, "--set", "proxy=http://me:secret@proxy:3128"]) == 0
    shown = capsys.readouterr().out
    assert "proxy:3128" in shown
    assert "secret" not in shown


def test_options_stand_before_or_after_the_command() -> None:
    parser = make_parser()
    early = parser.parse_args(["--root", "/x", "--set", "a=1", "plan", "d-1", "--set", "b=2"])
    assert early.root == "/x"
    assert [*early.early_settings, *early.settings] == ["a=1", "b=2"]
    assert parser.parse_args(["plan", "d-1", "--root", "/y"]).root == "/y"


@pytest.mark.parametrize("text", ["-1", "soon", "inf", "nan", "-0.5"])
@pytest.mark.parametrize("option", ["--timeout", "--lock-timeout"])
def test_what_is_no_time_is_refused_in_words(option: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_parser().parse_args(["wait", f"{option}={text}"])
    assert (
        str(caught.value) == f"argument {option}: {text!r} is not a number of seconds, from 0"
    )


def test_help_fits_a_screen() -> None:
    lines = make_parser().format_help().splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_a_bug_is_said_to_be_one(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(plan, "run", broken)
    assert run(["plan", "nvidia-1", "--root", str(root)]) == 1
    error, hint = error_lines(capsys)
    assert "ZeroDivisionError: oops" in error
    assert "bug" in hint


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from modulus.cli.parser import make_parser; make_parser().format_help();"
        "print(*{'sh', 'requests', 'jinja2', 'yaml', 'pydbus', 'zstandard'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""
