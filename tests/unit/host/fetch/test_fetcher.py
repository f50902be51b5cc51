"""Fetching from a real server on the loopback that misbehaves in every way known."""

from __future__ import annotations

import errno
import gc
import gzip
import hashlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from modulus.core.profile.sources import Candidate
from modulus.errors import ConfigError, FetchError, IntegrityError, LockedError, ModulusError
from modulus.host.fetch import partial
from modulus.host.fetch.fetcher import Download, Fetcher
from modulus.host.fetch.http import ClientOptions, number
from modulus.host.fetch.retry import Pace
from modulus.host.files import atomic
from tests.support.mirror import Mirror, make_certificate

# The distribution's requests on a newer urllib3, which type stubs bring along, says this.
pytestmark = pytest.mark.filterwarnings("ignore:The 'strict' parameter:FutureWarning")

DATA = b"#!/bin/sh\n" + random.Random(1).randbytes(3_000_000)
SHA = hashlib.sha256(DATA).hexdigest()
RUN = "/d.run"


class Recorder:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[tuple[str, int, int, str]] = []

    def about(self, *, instance: str | None = None, key: str | None = None) -> None:
        pass

    def phase(self, phase: str, text: str) -> None:
        self.lines.append(f"{phase}: {text}")

    def progress(self, phase: str, done: int, total: int, unit: str = "") -> None:
        self.steps.append((phase, done, total, unit))

    def warn(self, text: str) -> None:
        self.lines.append(f"warning: {text}")

    def error(self, text: str) -> None:
        self.lines.append(f"error: {text}")

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class Bench:
    """A fetcher's surroundings: its folder, its reporter, and time that passes as it sleeps."""

    def __init__(self, folder: Path) -> None:
        self.downloads = folder / "downloads"
        self.reporter = Recorder()
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def fetcher(self, *, options: ClientOptions | None = None, **more: Any) -> Fetcher:
        pace = Pace(tries=3, sleep=self.sleep, clock=lambda: sum(self.slept))
        usual = ClientOptions(connect_timeout=2, read_timeout=0.3)
        more = {"pace": pace, **more}
        return Fetcher(options or usual, self.downloads, self.reporter, **more)

    def fetch(
        self,
        *places: str | Candidate,
        known: str | None = SHA,
        options: ClientOptions | None = None,
        **more: Any,
    ) -> Download:
        found = [
            place if isinstance(place, Candidate) else Candidate(place, "run", None, False)
            for place in places
        ]
        return self.fetcher(options=options, **more).fetch(found, known, "profile")

    def fails(self, *places: str | Candidate, **more: Any) -> ModulusError:
        """The error it ends in, cause and hint of one line each."""
        with pytest.raises(ModulusError) as caught:
            self.fetch(*places, **more)
        assert "\n" not in caught.value.message + caught.value.hint
        return caught.value

    def left(self) -> list[str]:
        return sorted(path.name for path in self.downloads.iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as running:
        yield running


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls") / "now")


@pytest.fixture
def secure(certificate: Path) -> Iterator[Mirror]:
    with Mirror(certificate) as running:
        yield running


def trusting(certificate: Path) -> ClientOptions:
    return ClientOptions(ca_bundle=str(certificate), connect_timeout=2, read_timeout=0.3)


def trusted(url: str) -> Candidate:
    return Candidate(url, "run", None, True)


# What works


def test_a_file_is_fetched_by_its_known_hash(bench: Bench, mirror: Mirror) -> None:
    url = mirror.serve(RUN, DATA)
    done = bench.fetch(url, known=SHA.upper())
    assert done == Download(bench.downloads / SHA, SHA, len(DATA), url, "run", "profile")
    assert done.path.read_bytes() == DATA
    assert done.path.stat().st_mode & 0o777 == 0o644
    assert bench.left() == [SHA]
    assert bench.reporter.steps[-1] == ("fetch", len(DATA), len(DATA), "B")
    assert mirror.requests[0].headers["Accept-Encoding"] == "identity"
    assert mirror.count(RUN + ".sha256sum") == 0


def test_what_is_there_needs_no_network(bench: Bench, mirror: Mirror) -> None:
    bench.fetch(mirror.serve(RUN, DATA))
    before = len(mirror.requests)
    done = bench.fetch(mirror.url + RUN, offline=True)
    assert (done.path, done.format) == (bench.downloads / SHA, "run")
    assert len(mirror.requests) == before


def test_a_damaged_download_is_fetched_anew(bench: Bench, mirror: Mirror) -> None:
    bench.downloads.mkdir()
    (bench.downloads / SHA).write_bytes(DATA[:-1])
    assert bench.fetch(mirror.serve(RUN, DATA)).path.read_bytes() == DATA
    assert "is damaged and not used" in bench.reporter.text


def test_an_extra_store_serves_if_its_file_is_good(bench: Bench, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    for store, data in ((bad, DATA[:-1]), (good, DATA)):
        (store / "downloads").mkdir(parents=True)
        (store / "downloads" / SHA).write_bytes(data)
    places = [Candidate("http://127.0.0.1:9/d", kind, None, False) for kind in ("tar", "run")]
    done = bench.fetch(*places, stores=(bad, good), offline=True)
    assert (done.path, done.format) == (good / "downloads" / SHA, "run")
    assert (bad / "downloads" / SHA).exists()


def test_404_means_the_next(bench: Bench, mirror: Mirror) -> None:
    done = bench.fetch(mirror.url + "/none", mirror.serve(RUN, DATA))
    assert done.url == mirror.url + RUN
    assert mirror.count("/none") == 1
    assert bench.slept == []


@pytest.mark.parametrize("prefix", ["", "file://", "file://localhost"])
def test_a_local_file_is_copied(bench: Bench, tmp_path: Path, prefix: str) -> None:
    source = tmp_path / "a d.run"
    source.write_bytes(DATA)
    (tmp_path / "a d.run.sha256sum").write_text(f"{SHA}  a d.run\n")
    url = prefix + (str(source).replace(" ", "%20") if prefix else str(source))
    done = bench.fetch(url, known=None, offline=True)
    assert done.path.read_bytes() == DATA
    assert done.verified_by == url + ".sha256sum"
    assert source.exists()
    assert bench.left() == [SHA]


def test_a_redirect_is_followed_with_the_password_to_the_same_host_only(
    bench: Bench, mirror: Mirror
) -> None:
    with Mirror() as other:
        other.serve(RUN, DATA)
        mirror.serve("/a", status=302, location="/b")
        mirror.serve("/b", status=307, location=other.url + RUN)
        bench.fetch(mirror.url.replace("//", "//user:secret@") + "/a")
        assert ["Authorization" in seen.headers for seen in mirror.requests] == [True, True]
        assert "Authorization" not in other.requests[0].headers


def test_a_body_is_not_decoded(bench: Bench, mirror: Mirror) -> None:
    packed = gzip.compress(DATA)
    sha = hashlib.sha256(packed).hexdigest()
    done = bench.fetch(mirror.serve(RUN, packed, encoding="gzip"), known=sha)
    assert done.path.read_bytes() == packed


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_body_of_unknown_length(bench: Bench, mirror: Mirror, framing: str) -> None:
    assert bench.fetch(mirror.serve(RUN, DATA, framing=framing)).size == len(DATA)


# Breaks


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_break_goes_on_where_it_was(
    bench: Bench, mirror: Mirror, framing: str, reset: bool
) -> None:
    url = mirror.serve(RUN, DATA, cuts=[700_000, 800_000], framing=framing, reset=reset)
    if framing == "close" and not reset:
        # Its end cannot be told from a break, but for the hash.
        assert isinstance(bench.fails(url), IntegrityError)
        return
    assert bench.fetch(url).path.read_bytes() == DATA
    assert mirror.ranges(RUN) == [None, "bytes=700000-", "bytes=1500000-"]
    guards = [seen.headers.get("If-Range") for seen in mirror.requests]
    assert guards == [None, *[mirror.resources[RUN].validator()] * 2]
    assert bench.left() == [SHA]


def test_a_small_file_loses_nothing_to_a_break(bench: Bench, mirror: Mirror) -> None:
    data = DATA[:5000]
    url = mirror.serve(RUN, data, cuts=[1234])
    bench.fetch(url, known=hashlib.sha256(data).hexdigest())
    assert mirror.ranges(RUN) == [None, "bytes=1234-"]


@pytest.mark.parametrize(
    ("faults", "guard"),
    [
        ({"etag": None, "modified": 1e9}, "Sun, 09 Sep 2001 01:46:40 GMT"),
        ({"etag": 'W/"weak"', "modified": 1e9}, "Sun, 09 Sep 2001 01:46:40 GMT"),
        ({"etag": None}, None),
    ],
)
def test_what_guards_a_resumption(
    bench: Bench, mirror: Mirror, faults: dict[str, Any], guard: str | None
) -> None:
    bench.fetch(mirror.serve(RUN, DATA, cuts=[700_000], **faults))
    assert mirror.ranges(RUN) == [None, "bytes=700000-"]
    assert mirror.requests[1].headers.get("If-Range") == guard


def test_no_range_support_starts_from_0(bench: Bench, mirror: Mirror) -> None:
    url = mirror.serve(RUN, DATA, cuts=[700_000], ranges=False)
    assert bench.fetch(url).path.read_bytes() == DATA
    assert len(mirror.requests) == 2


def test_no_range_support_and_always_cut_ends(bench: Bench, mirror: Mirror) -> None:
    url = mirror.serve(RUN, DATA, cuts=[2_000_000] * 99, ranges=False)
    error = bench.fails(url)
    assert isinstance(error, FetchError)
    # The first brings more than 1 MiB, the others no more than it.
    assert len(mirror.requests) == 3


def test_a_break_after_each_mebibyte_is_no_failure(bench: Bench, mirror: Mirror) -> None:
    data = DATA * 3
    url = mirror.serve(RUN, data, cuts=[1 << 20] * 99)
    done = bench.fetch(url, known=hashlib.sha256(data).hexdigest())
    assert done.size == len(data)
    assert len(mirror.requests) == 9


def test_a_dead_mirrors_part_is_gone_on_with_at_the_next(bench: Bench, mirror: Mirror) -> None:
    dying = mirror.serve("/dying/d.run", DATA, cuts=[700_000, 0, 0])
    done = bench.fetch(dying, mirror.serve(RUN, DATA, etag='"another"'))
    assert done.url == mirror.url + RUN
    assert mirror.ranges(RUN) == ["bytes=700000-"]
    assert mirror.requests[-1].headers.get("If-Range") is None


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changes_between_the_parts(
    bench: Bench, mirror: Mirror, if_range: bool
) -> None:
    """A server that heeds If-Range sends the new file; else the hash tells, and once more."""
    mirror.serve(RUN, DATA[::-1], cuts=[700_000], if_range=if_range)

    def change(seconds: float) -> None:
        mirror.resources[RUN].data = DATA

    pace = Pace(tries=3, sleep=change)
    assert bench.fetch(mirror.url + RUN, pace=pace).path.read_bytes() == DATA
    assert len(mirror.requests) == (2 if if_range else 3)


def test_a_file_that_became_shorter_than_the_part(bench: Bench, mirror: Mirror) -> None:
    """416 is answered; what there is of the old one is dropped."""
    mirror.serve(RUN, DATA * 2, cuts=[len(DATA) + 5], if_range=False)

    def change(seconds: float) -> None:
        mirror.resources[RUN].data = DATA

    assert bench.fetch(mirror.url + RUN, pace=Pace(sleep=change)).path.read_bytes() == DATA
    assert mirror.ranges(RUN) == [None, f"bytes={len(DATA) + 5}-", None]


@pytest.mark.parametrize("more", [{}, {"known": None, "allow_unverified": True}])
def test_a_truncated_file_is_never_taken_for_whole(
    bench: Bench, mirror: Mirror, more: dict[str, Any]
) -> None:
    url = mirror.serve(RUN, DATA[:-100], length=len(DATA))
    error = bench.fails(url, **more)
    assert isinstance(error, FetchError)
    assert SHA not in bench.left()
    assert hashlib.sha256(DATA[:-100]).hexdigest() not in bench.left()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0", 0),
        ("1048576", 1 << 20),
        ("", None),
        ("-1", None),
        ("\u00b2", None),
        ("9" * 5000, None),
    ],
)
def test_what_a_header_counts(text: str, found: int | None) -> None:
    """Servers may send any Latin-1, and Python takes more for digits than for numbers."""
    assert number(text) == found


def test_too_short_a_content_length_is_a_wrong_file(bench: Bench, mirror: Mirror) -> None:
    assert isinstance(bench.fails(mirror.serve(RUN, DATA, length=1000)), IntegrityError)
    assert bench.left() == []


def test_an_unverified_file_of_unknown_length_is_refused(bench: Bench, mirror: Mirror) -> None:
    url = mirror.serve(RUN, DATA, framing="close")
    error = bench.fails(url, known=None, allow_unverified=True)
    assert "does not say how long" in error.message


def test_an_empty_file_is_no_file(bench: Bench, mirror: Mirror) -> None:
    error = bench.fails(mirror.serve(RUN, b""))
    assert isinstance(error, FetchError)
    assert "empty" in error.message


# What passes and what does not


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


def test_it_gives_up_and_names_each_place(bench: Bench, mirror: Mirror) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refused = f"http://127.0.0.1:{closed.getsockname()[1]}/d.run"
        error = bench.fails(
            mirror.serve("/a/d.run", fail=99),
            mirror.url + "/b/d.run",
            refused,
            "ftp://127.0.0.1/d.run",
        )
    assert isinstance(error, FetchError)
    assert error.message == (
        f"cannot fetch d.run: {mirror.url}/a/d.run: 500 Internal Server Error; "
        f"{mirror.url}/b/d.run: 404 Not Found; {refused}: connection refused; "
        "ftp://127.0.0.1/d.run: not an http, https or file URL"
    )
    assert mirror.count("/a/d.run") == 3


def test_no_place_at_all(bench: Bench) -> None:
    assert "no place to fetch from" in bench.fails().message


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


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], list[str]]:
    """Makes the name service fail with a code so often, and then answer 127.0.0.1."""

    def install(code: int, times: int) -> list[str]:
        asked: list[str] = []
        real = socket.getaddrinfo

        def fake(host: str, *rest: Any, **more: Any) -> Any:
            if not host.endswith(".example.com"):
                return real(host, *rest, **more)
            asked.append(host)
            if len(asked) <= times:
                raise socket.gaierror(code, "Temporary failure in name resolution")
            return real("127.0.0.1", *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", fake)
        return asked

    return install


Resolver = Callable[[int, int], list[str]]


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


# Wrong bytes


def test_wrong_bytes_are_refused_and_removed(bench: Bench, mirror: Mirror) -> None:
    error = bench.fails(mirror.serve(RUN, DATA[::-1]))
    assert isinstance(error, IntegrityError)
    assert f"but profile says {SHA}" in error.message
    assert bench.left() == []
    assert mirror.count(RUN) == 1


def test_wrong_bytes_at_one_place_do_not_keep_from_the_next(
    bench: Bench, mirror: Mirror
) -> None:
    wrong = mirror.serve("/wrong/d.run", DATA[::-1])
    assert bench.fetch(wrong, mirror.serve(RUN, DATA)).url == mirror.url + RUN
    assert f"warning: {wrong}: its sha256 is" in bench.reporter.text


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (DATA, "text/html; charset=utf-8"),
        (b"\n <!DOCTYPE html>\n<title>Log in</title>", "application/octet-stream"),
        (b"\xef\xbb\xbf<HTML lang=en>", "text/plain"),
    ],
)
@pytest.mark.parametrize("known", [SHA, None])
def test_a_page_is_not_a_driver(
    bench: Bench, mirror: Mirror, data: bytes, kind: str, known: str | None
) -> None:
    """A captive portal answers everything alike, the checksum too."""
    page = mirror.serve("/page.run", data, content_type=kind)
    mirror.serve("/page.run.sha256sum", data, content_type=kind)
    error = bench.fails(trusted(page), known=known)
    assert isinstance(error, FetchError)
    assert "a page of HTML" in error.message
    assert "captive portal" in error.hint
    assert bench.fetch(page, mirror.serve(RUN, DATA)).url == mirror.url + RUN


def test_a_page_in_the_middle_leaves_the_part(bench: Bench, mirror: Mirror) -> None:
    url = mirror.serve(RUN, DATA, cuts=[700_000])

    def portal(seconds: float) -> None:
        mirror.resources[RUN].content_type = "text/html"

    bench.fails(url, pace=Pace(sleep=portal))
    mirror.resources[RUN].content_type = "application/octet-stream"
    bench.fetch(url)
    assert mirror.ranges(RUN)[-1] == "bytes=700000-"


# Checksums beside the file


def test_a_checksum_over_https_counts(bench: Bench, secure: Mirror, certificate: Path) -> None:
    url = secure.serve(RUN, DATA)
    secure.serve_checksum(RUN)
    done = bench.fetch(url, known=None, options=trusting(certificate))
    assert done.verified_by == url + ".sha256sum"


def test_a_checksum_from_a_trusted_mirror_counts(bench: Bench, mirror: Mirror) -> None:
    url = mirror.serve(RUN, DATA)
    beside = mirror.serve_checksum(RUN)
    assert bench.fetch(trusted(url), known=None).verified_by == beside
    mirror.serve(RUN, DATA[::-1])
    (bench.downloads / SHA).unlink()
    assert isinstance(bench.fails(trusted(url), known=None), IntegrityError)


def test_a_profiles_checksum_url_is_asked(
    bench: Bench, secure: Mirror, mirror: Mirror, certificate: Path
) -> None:
    """A list over https speaks for a file over http."""
    sums = secure.serve("/SHA256SUMS", f"{'0' * 64}  x\n{SHA}  ./d.run\n".encode())
    place = Candidate(mirror.serve(RUN, DATA), "run", sums, False)
    assert bench.fetch(place, known=None, options=trusting(certificate)).verified_by == sums


def test_a_checksum_over_plain_http_proves_nothing(bench: Bench, mirror: Mirror) -> None:
    url = mirror.serve(RUN, DATA * 10, pause=0.05)
    mirror.serve_checksum(RUN)
    error = bench.fails(url, known=None)
    assert isinstance(error, IntegrityError)
    assert f"{url}.sha256sum does not count: it came over plain http" in error.message
    assert "`trusted`" in error.hint
    assert bench.reporter.steps == []
    assert not bench.downloads.exists()


@pytest.mark.parametrize("text", [None, b"nothing\n", f"{SHA}  other.run\n".encode()])
def test_no_checksum_is_refused_before_the_download(
    bench: Bench, mirror: Mirror, text: bytes | None
) -> None:
    url = mirror.serve(RUN, DATA)
    if text:
        mirror.serve(RUN + ".sha256sum", text)
    error = bench.fails(trusted(url), known=None)
    assert isinstance(error, IntegrityError)
    assert "`checksums`" in error.hint
    assert bench.reporter.steps == []


def test_a_file_that_is_not_there_lacks_no_checksum(bench: Bench, mirror: Mirror) -> None:
    error = bench.fails(mirror.url + RUN, known=None)
    assert isinstance(error, FetchError)
    assert error.message.endswith("404 Not Found")


@pytest.mark.parametrize("with_checksum", [False, True])
def test_allow_unverified_takes_it_and_warns(
    bench: Bench, mirror: Mirror, with_checksum: bool
) -> None:
    url = mirror.serve(RUN, DATA, cuts=[700_000])
    if with_checksum:
        mirror.serve_checksum(RUN)
    bench.fetch(url, known=None, allow_unverified=True)
    mirror.resources[RUN].cuts = [700_000]
    done = bench.fetch(url, known=None, allow_unverified=True)
    assert (done.sha256, done.verified_by) == (SHA, "nothing (allow_unverified)")
    assert "warning: d.run is used unverified (allow_unverified)" in bench.reporter.text
    assert bench.left() == [SHA]


def test_a_failing_checksum_is_not_a_missing_one(bench: Bench, mirror: Mirror) -> None:
    mirror.serve(RUN, DATA)
    mirror.serve_checksum(RUN)
    mirror.resources[RUN + ".sha256sum"].fail = 99
    error = bench.fails(trusted(mirror.url + RUN), known=None, allow_unverified=True)
    assert isinstance(error, FetchError)
    assert mirror.count(RUN) == 0


def test_a_huge_checksum_is_not_read(bench: Bench, mirror: Mirror) -> None:
    mirror.serve(RUN, DATA)
    mirror.serve(RUN + ".sha256sum", DATA)
    assert "too big" in bench.fails(trusted(mirror.url + RUN), known=None).message


# TLS, proxies, passwords, offline


def test_a_certificate_of_nobody_is_refused(bench: Bench, secure: Mirror) -> None:
    error = bench.fails(secure.serve(RUN, DATA), network_wait=3600)
    assert isinstance(error, FetchError)
    assert "certificate: self" in error.message
    assert "`ca_bundle`" in error.hint
    assert bench.slept == []


def test_the_settings_ca_bundle_wins_over_the_environments(
    bench: Bench,
    secure: Mirror,
    certificate: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    bench.fetch(secure.serve(RUN, DATA), options=trusting(certificate))


def test_a_name_the_certificate_is_not_for(
    bench: Bench, secure: Mirror, certificate: Path, resolver: Resolver
) -> None:
    resolver(0, 0)
    url = f"https://a.example.com:{secure.port}{RUN}"
    error = bench.fails(url, options=trusting(certificate))
    assert re.search(r"certificate: (Hostname mismatch|not for this host)", error.message)


def test_a_missing_ca_bundle_is_a_wrong_setting(bench: Bench, tmp_path: Path) -> None:
    options = ClientOptions(ca_bundle=str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match="does not exist"):
        bench.fetcher(options=options)


def test_a_certificate_from_the_future_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    future = make_certificate(tmp_path / "future", "20980101000000Z")
    with Mirror(future) as server:
        url = server.serve(RUN, DATA)
        error = bench.fails(url, options=trusting(future), network_wait=60)
    assert isinstance(error, FetchError)
    assert "certificate: certificate is not yet valid" in error.message
    assert error.hint == "set the node's clock"
    assert sum(bench.slept) >= 60


def test_tls_where_there_is_none(bench: Bench, mirror: Mirror) -> None:
    mirror.serve(RUN, DATA)
    error = bench.fails(mirror.url.replace("http:", "https:") + RUN)
    assert "TLS failed" in error.message
    assert bench.slept == []


def test_a_redirect_from_https_to_http_is_refused(
    bench: Bench, secure: Mirror, mirror: Mirror, certificate: Path
) -> None:
    target = mirror.serve(RUN, DATA)
    url = secure.serve(RUN, status=302, location=target.replace("//", "//user:secret@"))
    error = bench.fails(url, options=trusting(certificate))
    assert "redirected from https to plain http" in error.message
    assert "secret" not in error.message
    assert mirror.requests == []


@pytest.mark.parametrize("target", ["/a", "ftp://127.0.0.1/x", "file:///etc/hostname", "//[x"])
def test_a_redirect_that_leads_nowhere(bench: Bench, mirror: Mirror, target: str) -> None:
    error = bench.fails(mirror.serve("/a", status=302, location=target))
    assert isinstance(error, FetchError)
    assert len(mirror.requests) <= 10


@pytest.mark.parametrize("way", ["settings", "environment"])
def test_a_proxy_is_used(
    bench: Bench, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    mirror.serve(RUN, DATA)
    proxy = mirror.url if way == "settings" else None
    if not proxy:
        monkeypatch.setenv("http_proxy", mirror.url)
    assert bench.fetch("http://a.example.com/d.run", options=ClientOptions(proxy=proxy))


def test_no_proxy_is_heeded(
    bench: Bench, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    bench.fetch(mirror.serve(RUN, DATA), options=ClientOptions(proxy="http://127.0.0.1:9"))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_proxy_that_refuses(bench: Bench, mirror: Mirror) -> None:
    """It is asked to CONNECT, which this server does not know."""
    proxy = mirror.url.replace("//", "//user:secret@")
    error = bench.fails("https://a.example.com/d.run", options=ClientOptions(proxy=proxy))
    assert isinstance(error, FetchError)
    assert "the proxy refused: 501" in error.message
    assert "secret" not in error.message + error.hint + bench.reporter.text
    # http.client of Python 3.11 leaves the proxy's connection to the garbage collector.
    del error
    gc.collect()


@pytest.mark.parametrize(
    "more", [{}, {"known": None}, {"known": None, "allow_unverified": True}]
)
def test_passwords_and_tokens_are_never_shown(
    bench: Bench, mirror: Mirror, more: dict[str, Any]
) -> None:
    mirror.serve("/a", fail=1, status=403)
    mirror.serve(RUN, DATA, cuts=[700_000], fail=1)
    host = mirror.url.replace("//", "//user:secret@")
    shown = repr(bench.fails(f"{host}/a?token=secret", known=None).args) + bench.reporter.text
    shown += bench.fails("http://user:secret@:1/x", "http://user:secret@[::1]:x/").message
    with Recorded(bench, shown) as recorded:
        recorded.shown += repr(bench.fetch(f"{host}{RUN}?token=secret", **more))
    assert mirror.requests[-1].headers["Authorization"]


class Recorded:
    """Checks all that was said while its ``with`` lasted, and in an error that ended it."""

    def __init__(self, bench: Bench, shown: str) -> None:
        self.bench = bench
        self.shown = shown

    def __enter__(self) -> Recorded:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        said = self.shown + repr(error) + self.bench.reporter.text
        for path in self.bench.downloads.glob(".part-*.json"):
            said += path.read_text()
        assert "secret" not in said
        return isinstance(error, IntegrityError)


def test_offline_asks_nobody(bench: Bench, mirror: Mirror) -> None:
    url = mirror.serve(RUN, DATA)
    for known in (SHA, None):
        error = bench.fails(url, known=known, offline=True, network_wait=3600)
        assert isinstance(error, FetchError)
        assert "`offline`" in error.hint
    assert mirror.requests == []
    assert bench.slept == []


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("file:///none/d.run", "no such file"),
        ("/", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("file://host/d.run", "must name a local file"),
    ],
)
def test_a_local_file_that_cannot_be_had(bench: Bench, url: str, cause: str) -> None:
    error = bench.fails(url)
    assert isinstance(error, FetchError)
    assert cause in error.message


# The folder


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
