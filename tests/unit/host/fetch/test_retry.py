"""What may pass is tried again, and a network that is not there yet is waited for."""

from __future__ import annotations

import errno
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from modulus.errors import FetchError
from modulus.host.fetch.http import ClientOptions
from modulus.host.fetch.retry import Pace
from tests.support.mirror import Mirror
from tests.unit.host.fetch.conftest import DATA, RUN, URLLIB3, Bench, Resolver

pytestmark = URLLIB3


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(bench: Bench, mirror: Mirror, status: int) -> None:
    bench.fetch(mirror.serve(RUN, DATA, fail=2, fail_status=status))
    assert mirror.count(RUN) == 3
    assert [0.5 <= bench.slept[0] <= 1, 1 <= bench.slept[1] <= 2] == [True, True]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410])
def test_what_cannot_pass_is_not(bench: Bench, mirror: Mirror, status: int) -> None:
    error = bench.fails(mirror.serve(RUN, status=status))
    assert isinstance(error, FetchError)
    assert f"{mirror.url}{RUN}: {status} " in error.message
    assert mirror.count(RUN) == 1
    assert bench.slept == []


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("7", 7, 7),
        ("9999", 30, 30),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 30, 30),
        ("soon", 0.5, 1),
    ],
)
def test_retry_after_is_heeded_within_reason(
    bench: Bench, mirror: Mirror, value: str, low: float, high: float
) -> None:
    bench.fetch(mirror.serve(RUN, DATA, fail=1, fail_status=429, retry_after=value))
    assert low <= bench.slept[0] <= high


def test_a_server_that_says_nothing(bench: Bench, mirror: Mirror) -> None:
    url = mirror.serve(RUN, DATA, answer_delay=0.6)
    options = ClientOptions(read_timeout=0.05)
    error = bench.fails(url, options=options)
    assert isinstance(error, FetchError)
    assert "timed out" in error.message
    # The server's threads may hear of a request only after it was given up.
    deadline = time.monotonic() + 10
    while mirror.count(RUN) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert mirror.count(RUN) == 3


def test_a_body_that_stalls_goes_on(bench: Bench, mirror: Mirror) -> None:
    url = mirror.serve(RUN, DATA, pause=0.4, piece=1_500_000)

    def quicker(seconds: float) -> None:
        mirror.resources[RUN].pause = 0

    options = ClientOptions(read_timeout=0.2)
    bench.fetch(url, options=options, pace=Pace(sleep=quicker))
    assert "timed out" in bench.reporter.text


def test_a_trickle_counts_as_broken(bench: Bench, mirror: Mirror) -> None:
    url = mirror.serve(RUN, DATA, pause=0.02, piece=1)
    error = bench.fails(url, options=ClientOptions(slow_timeout=0.1))
    assert isinstance(error, FetchError)
    assert "only" in error.message
    assert "bytes in 0 s" in error.message


@pytest.mark.parametrize("failures", [20, 1100])
def test_no_network_is_waited_out(
    bench: Bench, mirror: Mirror, resolver: Resolver, failures: int
) -> None:
    """Also where that takes more tries than a float has doublings for."""
    asked = resolver(socket.EAI_AGAIN, failures)
    mirror.serve(RUN, DATA)
    url = f"http://a.example.com:{mirror.port}{RUN}"
    assert bench.fetch(url, network_wait=36_000).size == len(DATA)
    assert len(asked) == failures + 1
    assert max(bench.slept) <= 30


def test_no_network_is_waited_out_so_long_only(bench: Bench, resolver: Resolver) -> None:
    asked = resolver(socket.EAI_AGAIN, 999)
    error = bench.fails("http://a.example.com/d.run", network_wait=100)
    assert isinstance(error, FetchError)
    assert "name not resolved" in error.message
    assert 100 <= sum(bench.slept) <= 130
    assert len(asked) > 3


def test_time_is_asked_for_that_wait_once(
    bench: Bench, resolver: Resolver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver(socket.EAI_AGAIN, 999)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        bench.fails("http://a.example.com/d.run", network_wait=100)
        assert manager.recv(4096) == b"EXTEND_TIMEOUT_USEC=160000000"
        with pytest.raises(BlockingIOError):
            manager.recv(4096)


def test_an_answer_from_one_place_ends_the_wait_for_another(
    bench: Bench, mirror: Mirror, resolver: Resolver
) -> None:
    asked = resolver(socket.EAI_AGAIN, 999)
    error = bench.fails("http://a.example.com/d.run", mirror.url + RUN, network_wait=3600)
    assert isinstance(error, FetchError)
    assert len(asked) == 3
    assert mirror.count(RUN) == 1


def test_a_name_that_does_not_exist_is_not_waited_for(bench: Bench, resolver: Resolver) -> None:
    asked = resolver(socket.EAI_NONAME, 999)
    bench.fails("http://a.example.com/d.run", network_wait=3600)
    assert len(asked) == 3


def test_no_route_is_waited_out(
    bench: Bench, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = socket.socket.connect, []

    def connect(self: socket.socket, address: Any) -> None:
        calls.append(address)
        if len(calls) <= 10:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    bench.fetch(mirror.serve(RUN, DATA), network_wait=3600)
    assert "network is unreachable; again in" in bench.reporter.text
