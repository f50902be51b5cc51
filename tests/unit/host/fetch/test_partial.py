"""The folder of downloads: full, shared, or left by a killed run."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from modulus.errors import FetchError, LockedError
from modulus.host.fetch import partial
from modulus.host.fetch.fetcher import Download
from modulus.host.files import atomic
from tests.support.mirror import Mirror
from tests.unit.host.fetch.conftest import DATA, RUN, SHA, URLLIB3, Bench, trusted

pytestmark = URLLIB3


def test_a_full_disk(bench: Bench, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    real, room = os.write, [1_000_000]

    def write(handle: int, data: bytes) -> int:
        if room[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = real(handle, data[: room[0]])
        room[0] -= done
        return done

    monkeypatch.setattr(partial.os, "write", write)  # type: ignore[attr-defined]
    other = mirror.serve("/other/d.run", DATA)
    error = bench.fails(mirror.serve(RUN, DATA), other)
    assert isinstance(error, FetchError)
    assert f"no room for the download in {bench.downloads}" in error.message
    assert "MB are free" in error.hint
    assert bench.left() == []
    assert mirror.count("/other/d.run") == 0


def test_a_folder_that_cannot_be(bench: Bench, mirror: Mirror) -> None:
    bench.downloads.write_text("a file")
    error = bench.fails(mirror.serve(RUN, DATA))
    assert isinstance(error, FetchError)
    assert f"{bench.downloads} cannot be used" in error.message


@pytest.mark.parametrize("known", [SHA, None])
def test_two_at_once_fetch_it_once(bench: Bench, mirror: Mirror, known: str | None) -> None:
    url = mirror.serve(RUN, DATA, pause=0.005)
    mirror.serve_checksum(RUN)
    done: list[Download] = []

    def one() -> None:
        done.append(bench.fetch(trusted(url), known=known))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.path for each in done] == [bench.downloads / SHA] * 4
    assert mirror.count(RUN) == 1
    assert bench.left() == [SHA]


CHILD = """
import sys
from pathlib import Path
from modulus.core.profile.sources import Candidate
from modulus.host.fetch.fetcher import Fetcher
from modulus.host.fetch.http import ClientOptions
from modulus.host.report.reporter import PlainReporter

url, sha, downloads = sys.argv[1:]
fetcher = Fetcher(ClientOptions(), Path(downloads), PlainReporter())
fetcher.fetch([Candidate(url, "run", None, False)], sha, "profile")
"""


@pytest.fixture
def child(bench: Bench) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(url: str) -> subprocess.Popen[bytes]:
        argv: Sequence[str] = [sys.executable, "-c", CHILD, url, SHA, str(bench.downloads)]
        started.append(subprocess.Popen(argv))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def reach(bench: Bench, size: int) -> int:
    """Waits until the partial file has so many bytes, and says how many it has."""
    path = bench.downloads / f".part-{SHA}"
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if path.exists() and path.stat().st_size >= size:
            return path.stat().st_size
        time.sleep(0.005)
    raise AssertionError("the child fetched nothing")


Child = Callable[[str], subprocess.Popen[bytes]]


def test_a_killed_fetch_is_gone_on_with(bench: Bench, mirror: Mirror, child: Child) -> None:
    url = mirror.serve(RUN, DATA, pause=0.02)
    process = child(url)
    reach(bench, 500_000)
    process.send_signal(signal.SIGKILL)
    process.wait()
    size = reach(bench, 500_000)
    assert SHA not in bench.left()
    mirror.resources[RUN].pause = 0
    assert bench.fetch(url).path.read_bytes() == DATA
    assert mirror.ranges(RUN) == [None, f"bytes={size}-"]
    assert mirror.requests[1].headers["If-Range"] == mirror.resources[RUN].validator()
    assert bench.left() == [SHA]


def test_a_running_fetch_holds_its_lock(bench: Bench, mirror: Mirror, child: Child) -> None:
    url = mirror.serve(RUN, DATA, pause=0.02)
    child(url)
    reach(bench, 1)
    with pytest.raises(LockedError, match=r"the download of d\.run is held by process"):
        bench.fetch(url, lock_timeout=0)
    assert bench.fetch(url).size == len(DATA)
    assert mirror.count(RUN) == 1


def leave(bench: Bench, mirror: Mirror, data: bytes, **sidecar: Any) -> str:
    """What a killed run left behind."""
    url = mirror.serve(RUN, DATA)
    bench.downloads.mkdir()
    (bench.downloads / f".part-{SHA}").write_bytes(data)
    origin = partial.Origin(url, mirror.resources[RUN].validator(), len(DATA))
    atomic.write_json(bench.downloads / f".part-{SHA}.json", {**origin.__dict__, **sidecar})
    return url


def test_a_part_that_is_whole_is_only_committed(bench: Bench, mirror: Mirror) -> None:
    assert bench.fetch(leave(bench, mirror, DATA)).path.read_bytes() == DATA
    assert mirror.requests == []


@pytest.mark.parametrize("data", [bytes(1_000_000), bytes(len(DATA)), DATA + b"x"])
def test_a_part_spoilt_by_a_power_cut_is_fetched_anew(
    bench: Bench, mirror: Mirror, data: bytes
) -> None:
    assert bench.fetch(leave(bench, mirror, data)).path.read_bytes() == DATA
    assert mirror.ranges(RUN)[-1] is None
    assert bench.left() == [SHA]


@pytest.mark.parametrize("sidecar", [{"url": 1}, {"size": "3"}, {"etag": []}])
def test_a_part_of_nothing_known_is_fetched_anew(
    bench: Bench, mirror: Mirror, sidecar: dict[str, Any]
) -> None:
    bench.fetch(leave(bench, mirror, DATA[:1_000_000], **sidecar))
    assert mirror.ranges(RUN) == [None]


def test_a_symlink_in_its_place_is_not_followed(
    bench: Bench, mirror: Mirror, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    bench.downloads.mkdir()
    (bench.downloads / f".part-{SHA}").symlink_to(precious)
    assert isinstance(bench.fails(mirror.serve(RUN, DATA)), FetchError)
    assert precious.read_text() == "x"
