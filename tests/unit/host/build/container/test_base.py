"""How a payload runs in a container: its words, its status, its end."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from modulus.errors import BuildError, ToolchainError
from modulus.host.build.container.base import Container, Way
from modulus.host.build.container.payload import SCRIPT
from modulus.host.report.reporter import PlainReporter


def way(script: str, **values: object) -> Way:
    """A way whose tool is this shell script, with the payload's shell as its arguments."""
    return Way(("sh", "-c", script, "tool"), (), **values)  # type: ignore[arg-type]


def opened(*ways: Way, said: io.StringIO | None = None) -> Container:
    return Container(
        "fake", ways, PlainReporter(said or io.StringIO()), paths={"/build": Path("/")}
    )


def test_the_script_fits_a_line_of_a_unit_file() -> None:
    assert "\n" not in SCRIPT
    assert "${" not in SCRIPT  # systemd would fill it in


def test_the_tools_own_words_are_not_the_payloads() -> None:
    lines: list[str] = []
    noisy = way('echo before; "$@"; status=$?; echo after; exit $status')
    assert opened(noisy).run(("sh", "-c", "printf no-newline"), on_line=lines.append) == 0
    assert lines == ["no-newline"]


def test_the_payloads_status_counts_not_the_tools() -> None:
    assert opened(way('"$@"; exit 9')).run(("sh", "-c", "exit 4"), on_line=print) == 4


@pytest.mark.parametrize(
    ("end", "expected"), [("exit 9", 9), ("exit 0", 137), ("kill -9 $$", 137)]
)
def test_a_container_that_was_killed(end: str, expected: int) -> None:
    token_only = way(f'echo "$5"; {end}')
    assert opened(token_only).run(("true",), on_line=print) == expected


def test_oom_as_the_container_tells() -> None:
    lines: list[str] = []
    told = opened(way('echo "$5"; echo "$5 2 1"'))
    assert told.run(("true",), on_line=lines.append) == 2
    assert told.oom
    assert "memory limit" in lines[0]


def test_the_best_way_that_starts_is_kept() -> None:
    said = io.StringIO()
    ways = (
        way("echo broken; echo usage; echo more; exit 1"),
        way('exec "$@"', warning="worse"),
    )
    two = opened(*ways, said=said)
    for _ in range(2):
        assert two.run(("true",), on_line=print) == 0
    assert said.getvalue() == "modulus: warning: worse (broken; usage)\n"


def test_no_way_starts() -> None:
    with pytest.raises(ToolchainError) as caught:
        opened(way("echo first"), way("echo second; exit 5")).run(("true",), on_line=print)
    assert caught.value.message == "the fake build container does not start: second"


def test_end_is_called_for_what_is_broken_off(tmp_path: Path) -> None:
    calls: list[str] = []
    ended = opened(way('exec "$@"', end=lambda: calls.append("end")))
    ended.run(("true",), on_line=print)
    assert calls == []
    with pytest.raises(BuildError):
        ended.run(("sleep", "9"), on_line=print, timeout=0.1)
    assert calls == ["end"]

    def on_line(_: str) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        ended.run(("echo", "x"), on_line=on_line)
    assert calls == ["end", "end"]


def test_paths_of_none_are_the_hosts(tmp_path: Path) -> None:
    paths = {"/src": Path("/a/s"), "/usr/src/linux": Path("/h")}
    host = Container("none", (), PlainReporter(io.StringIO()), paths=paths)
    assert host.path("/src") == "/a/s"
    assert host.path("/usr/src/linux/build/x") == "/h/build/x"
    assert host.path("/srcs") == "/srcs"
