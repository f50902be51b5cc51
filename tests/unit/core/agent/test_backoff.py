"""When to try again what failed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus import errors
from modulus.core.agent.backoff import PERMANENT, Backoff, doubled

FETCH = errors.FetchError.code
BUILD = errors.BuildError.code


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 10), (2, 20), (3, 40), (8, 1280), (9, 2560), (10, 3600), (11, 3600), (10**6, 3600)],
)
def test_it_doubles_up_to_an_hour(failures: int, seconds: float) -> None:
    assert Backoff().delay(failures, BUILD) == seconds
    assert Backoff().delay(failures, FETCH) == min(seconds, 300)


@given(st.integers(), st.floats(0.001, 1e6), st.floats(0.001, 1e9))
def test_any_number_of_failures_is_waited_for(
    failures: int, first: float, longest: float
) -> None:
    delay = doubled(first, failures, longest)
    assert 0 < delay <= longest
    assert delay <= doubled(first, failures + 1, longest)


@pytest.mark.parametrize("failures", [1024, 1025, 10**400])
def test_more_doublings_than_a_float_holds(failures: int) -> None:
    assert doubled(1, failures, 30) == 30


@given(st.integers(1, 10**9))
def test_who_waits_for_a_lock_waits_no_longer_each_time(failures: int) -> None:
    assert Backoff().delay(failures, errors.LockedError.code) == 10


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        (errors.UsageError, True),
        (errors.ConfigError, True),
        (errors.FetchError, False),
        (errors.IntegrityError, True),
        (errors.ToolchainError, False),
        (errors.BuildError, False),
        (errors.UnsupportedError, True),
        (errors.RefusedError, True),
        (errors.BusyError, False),
        (errors.NoGpuError, True),
        (errors.VerifyError, False),
        (errors.LockedError, False),
        (errors.ModulusError, False),
    ],
)
def test_what_passes_and_what_stays(error: type[errors.ModulusError], permanent: bool) -> None:
    assert (error.code in PERMANENT) == permanent
