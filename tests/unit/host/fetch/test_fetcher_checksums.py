"""A checksum beside the file: what it proves, and what there is without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from modulus.core.profile.sources import Candidate
from modulus.errors import FetchError, IntegrityError
from tests.support.mirror import Mirror
from tests.unit.host.fetch.conftest import DATA, RUN, SHA, URLLIB3, Bench, trusted, trusting

pytestmark = URLLIB3


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
