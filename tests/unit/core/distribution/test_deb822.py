"""Debian control text, and what is read of an archive's Release file."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.distribution.deb822 import Relation, relations, stanzas, upstream_version
from modulus.core.distribution.release_file import ReleaseFile, parse_release


@given(st.text())
def test_any_control_text_parses(text: str) -> None:
    for fields in stanzas(text):
        assert fields
        assert all(name == name.strip().lower() for name in fields)


def test_stanzas() -> None:
    text = "\nPackage: a\nDescription: b\n c\n\n# x\nVERSION:1:2\nnot a field\n d\n"
    assert list(stanzas(text)) == [
        {"package": "a", "description": "b\nc"},
        {"version": "1:2"},
    ]


def test_relations() -> None:
    text = (
        "linux-headers-6.1.0-56-common (= 6.1.192-2), a:any (>= 1) | b [amd64] <!x>,, c(<<2~)"
    )
    assert relations(text) == (
        (Relation("linux-headers-6.1.0-56-common", "=", "6.1.192-2"),),
        (Relation("a", ">=", "1"), Relation("b")),
        (Relation("c", "<<", "2~"),),
    )


@pytest.mark.parametrize(
    ("version", "upstream"),
    [
        ("0.12.7-2", "0.12.7"),
        ("0.12.7-2ubuntu5.1", "0.12.7"),
        ("1:2.3-4-5", "2.3-4"),
        ("0.12.7+dfsg1-2", "0.12.7"),
        ("0.12.7~ds-1", "0.12.7"),
        ("535.309.01-1~deb12u1", "535.309.01"),
        ("0.12.7", "0.12.7"),
    ],
)
def test_upstream_version(version: str, upstream: str) -> None:
    assert upstream_version(version) == upstream


SIGNED = """\
-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

Origin: Debian
Suite: oldstable-security
Codename: {codename}
Valid-Until: {date}
SHA256:
 00 1 main/binary-amd64/Packages
-----BEGIN PGP SIGNATURE-----

AAAA
-----END PGP SIGNATURE-----
"""


@pytest.mark.parametrize(
    ("codename", "of"),
    [
        ("bookworm", True),
        ("bookworm-security", True),
        ("bookworm-backports-sloppy", True),
        ("bookworm/updates", True),
        ("bookwormish", False),
        ("trixie", False),
        ("", False),
    ],
)
def test_the_release_of_an_archive(codename: str, of: bool) -> None:
    text = SIGNED.format(codename=codename, date="")
    assert parse_release(text).is_of("bookworm") is of


@pytest.mark.parametrize(
    ("text", "date"),
    [
        (
            "Tue, 01 Dec 2026 08:09:10 UTC",
            datetime(2026, 12, 1, 8, 9, 10, tzinfo=timezone.utc),
        ),
        ("", None),
        ("soon", None),
    ],
)
def test_until_when_an_archive_is_valid(text: str, date: datetime | None) -> None:
    found = parse_release(SIGNED.format(codename="bookworm", date=text))
    assert found == ReleaseFile("bookworm", date)


@given(st.text())
def test_any_release_file_parses(text: str) -> None:
    parse_release(text)
