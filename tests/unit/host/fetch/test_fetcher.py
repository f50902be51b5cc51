"""What is fetched, from which place, and whether it is what it should be."""

from __future__ import annotations

import gzip
import hashlib
import socket
from pathlib import Path

import pytest

from modulus.core.profile.sources import Candidate
from modulus.errors import FetchError, IntegrityError
from modulus.host.fetch.fetcher import Download
from modulus.host.fetch.retry import Pace
from tests.support.mirror import Mirror
from tests.unit.host.fetch.conftest import DATA, RUN, SHA, URLLIB3, Bench, trusted

pytestmark = URLLIB3


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


def test_offline_asks_nobody(bench: Bench, mirror: Mirror) -> None:
    url = mirror.serve(RUN, DATA)
    for known in (SHA, None):
        error = bench.fails(url, known=known, offline=True, network_wait=3600)
        assert isinstance(error, FetchError)
        assert "`offline`" in error.hint
    assert mirror.requests == []
    assert bench.slept == []


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
        (b"<p>Log in</p>", "text/html; charset=utf-8"),
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


UNLIKE = DATA[100:]


@pytest.mark.parametrize("data", [DATA, UNLIKE])
def test_a_file_that_is_called_a_page_is_taken_where_its_hash_is_right(
    bench: Bench, mirror: Mirror, data: bytes
) -> None:
    """Servers know no type for .run."""
    digest = hashlib.sha256(data).hexdigest()
    url = mirror.serve(RUN, data, content_type="text/html")
    mirror.serve(f"{RUN}.sha256sum", f"{digest}  d.run\n".encode(), content_type="text/html")
    assert bench.fetch(trusted(url), known=None).sha256 == digest
    (bench.downloads / digest).unlink()
    assert bench.fetch(url, known=digest).sha256 == digest


@pytest.mark.parametrize(("data", "is_taken"), [(UNLIKE, False), (DATA, True)])
def test_without_a_hash_its_first_bytes_must_be_those_of_a_package(
    bench: Bench, mirror: Mirror, data: bytes, is_taken: bool
) -> None:
    url = mirror.serve(RUN, data, content_type="text/html")
    if is_taken:
        assert bench.fetch(url, known=None, allow_unverified=True).size == len(data)
    else:
        assert "a page of HTML" in bench.fails(url, known=None, allow_unverified=True).message


def test_a_forced_coding_is_refused_as_such(bench: Bench, mirror: Mirror) -> None:
    url = mirror.serve(RUN, gzip.compress(DATA), encoding="gzip")
    error = bench.fails(url, known=SHA)
    assert isinstance(error, IntegrityError)
    assert "with Content-Encoding: gzip, but" in error.message
    assert error.hint == "have the mirror send files as they are"
    for unasked in (url, trusted(url)):
        mirror.serve(f"{RUN}.sha256sum", b"x", encoding="gzip")
        error = bench.fails(unasked, known=None, allow_unverified=True)
        assert "it comes with Content-Encoding: gzip, which was not asked for" in error.message
        assert error.hint.startswith("have the mirror send files as they are")


def test_a_page_in_the_middle_leaves_the_part(bench: Bench, mirror: Mirror) -> None:
    url = mirror.serve(RUN, DATA, cuts=[700_000])

    right = mirror.resources[RUN]

    def portal(seconds: float) -> None:
        mirror.serve(RUN, b"<html>Log in</html>", content_type="text/html")

    bench.fails(url, pace=Pace(sleep=portal))
    mirror.resources[RUN] = right
    bench.fetch(url)
    assert mirror.ranges(RUN)[-1] == "bytes=700000-"
