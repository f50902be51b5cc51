"""What is secret in a URL is neither shown nor kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.errors import ConfigError
from modulus.redact import redact, redact_text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com/a@b", "https://example.com/a@b"),
        ("https://example.com:8080/a@b", "https://example.com:8080/a@b"),
        ("https://[::1]:8080/a@b", "https://[::1]:8080/a@b"),
        ("https://user:secret@example.com/a", "https://***@example.com/a"),
        ("https://user:se@cret@example.com/a", "https://***@example.com/a"),
        ("https://user:se/cret@example.com/a", "https://***@example.com/a"),
        ("https://user:se?cr#et@example.com/a", "https://***@example.com/a"),
        ("https://example.com/a?token=secret", "https://example.com/a?***"),
        ("/srv/a", "/srv/a"),
    ],
)
def test_what_is_secret_is_not_shown(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fetch: https://u:secret@h:80/a?t=secret: 404", "fetch: https://***@h:80/a?***: 404"),
        ("(https://h/c?secret), then", "(https://h/c?***), then"),
        (
            "--set mirrors=['https://u:secret@h/a','https://v:secret@h2/b']",
            "--set mirrors=['https://***@h/a','https://***@h2/b']",
        ),
        # What a setting that is not a URL, or requests and urllib, say of one.
        ("must be a URL, not 'u:secret@proxy:3128'", "must be a URL, not '***@proxy:3128'"),
        ("netloc 'u:secret@h' contains", "netloc '***@h' contains"),
        (
            "exceeded with url: /a/b?t=secret (Caused by",
            "exceeded with url: /a/b?*** (Caused by",
        ),
        *(
            (text, text)
            for text in (
                "modulus@nvidia-535.309.01.service: it is 12:30, is it not?",
                "https://h:8080/a@b: 404",
                "0000:00:05.0 10de:20b0 (me@h)",
                "what? https://h/",
            )
        ),
    ],
)
def test_a_sentence_is_told_without_what_is_secret(text: str, shown: str) -> None:
    assert redact_text(text) == shown


@given(st.text("ab:/@?=. "))
def test_what_is_redacted_stays_so(text: str) -> None:
    once = redact_text(text)
    assert redact_text(once) == once


def test_no_error_says_what_is_secret() -> None:
    error = ConfigError("bad: http://u:secret@h/", "not https://h/?t=secret")
    assert "secret" not in f"{error!r} {error} {error.message} {error.hint}"
