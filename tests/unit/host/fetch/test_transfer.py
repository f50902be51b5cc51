"""A download that breaks goes on where it was, and is never taken for whole."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from modulus.errors import FetchError, IntegrityError
from modulus.host.fetch.http import number
from modulus.host.fetch.retry import Pace
from tests.support.mirror import Mirror
from tests.unit.host.fetch.conftest import DATA, RUN, SHA, URLLIB3, Bench

pytestmark = URLLIB3


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
