"""The drop-in that makes logind wait longer."""

from __future__ import annotations

from modulus.core.agent.logind_drop_in import parse_claims, render_claims


def test_claims_are_read_as_they_were_written() -> None:
    claims = {"a-1.0": 60.0, "b_c-535.309.01": 900.0}
    assert parse_claims(render_claims(claims)) == claims


def test_a_claim_of_more_than_time_has_is_none() -> None:
    assert parse_claims(f"# driver-1.0 wants {'9' * 400} s\n# x-1 wants 9 s\n") == {"x-1": 9}
    assert "InhibitDelayMaxSec=1\n" in render_claims({"a-1.0": 0.5})
    assert render_claims({}) == ""
