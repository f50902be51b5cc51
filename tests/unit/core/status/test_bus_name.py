"""Names on the bus, as systemd escapes them."""

from __future__ import annotations

import pytest

from modulus.core.status.bus_name import agent_name, agent_path, escape


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("nvidia-535.309.01", "nvidia_2d535_2e309_2e01"),
        ("modulus-build@a-1.service", "modulus_2dbuild_40a_2d1_2eservice"),
        ("3dfx-1", "_33dfx_2d1"),
        ("a_b", "a_5fb"),
        ("é²", "_c3_a9_c2_b2"),
        ("", "_"),
    ],
)
def test_all_but_letters_and_digits_is_escaped(text: str, escaped: str) -> None:
    assert escape(text) == escaped


def test_an_agent_is_found_by_its_instance() -> None:
    assert agent_name("small-0.3") == "org.modulus1.small_2d0_2e3"
    assert agent_path("small-0.3") == "/org/modulus1/small_2d0_2e3"
