"""apt sources: which are the distribution's own, and how they are written anew."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.distribution.apt_sources import (
    AptEntry,
    own,
    parse_list,
    parse_sources,
    rebased,
    render,
)
from modulus.core.distribution.deb822 import Relation, relations, stanzas, upstream_version
from modulus.core.distribution.families import DEBIAN, UBUNTU, Distribution

BOOKWORM = Distribution(DEBIAN, "bookworm", "amd64")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

DEBIAN_SOURCES = f"""\
Types: deb deb-src
# a comment
URIs: http://mirror.example.com/debian
Suites: bookworm bookworm-updates
 bookworm-backports
Components: main contrib non-free-firmware
Signed-By: {KEYRING}

Types: deb
URIs: mirror+file:///etc/apt/mirrors/security.list
Suites: bookworm-security
Components: main
"""

UBUNTU_SOURCES = """\
Types: deb
URIs: http://archive.example.com/ubuntu
Suites: jammy jammy-updates jammy-backports
Components: main universe restricted multiverse
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://archive.example.com/ubuntu
Suites: jammy-proposed
Components: main

Types: deb
URIs: http://ports.example.com/ubuntu
Suites: jammy
Components: main
Architectures: arm64
"""


def test_debian_sources_are_narrowed() -> None:
    kept, refused = own(parse_sources(DEBIAN_SOURCES), BOOKWORM)
    assert refused == ()
    assert render([rebased(entry, "/mnt/root") for entry in kept], "amd64", KEYRING) == (
        "Types: deb\n"
        "URIs: http://mirror.example.com/debian\n"
        "Suites: bookworm bookworm-updates\n"
        "Components: main\n"
        "Architectures: amd64\n"
        f"Signed-By: {KEYRING}\n"
        "\n"
        "Types: deb\n"
        "URIs: mirror+file:/mnt/root/etc/apt/mirrors/security.list\n"
        "Suites: bookworm-security\n"
        "Components: main\n"
        "Architectures: amd64\n"
        f"Signed-By: {KEYRING}\n"
    )


def test_backports_for_a_backported_kernel() -> None:
    kept, _ = own(parse_sources(DEBIAN_SOURCES), BOOKWORM, "6.12.9+bpo-amd64")
    assert kept[0].suites == ("bookworm", "bookworm-updates", "bookworm-backports")


@pytest.mark.parametrize(
    ("arch", "uri"),
    [
        ("amd64", "http://archive.example.com/ubuntu"),
        ("arm64", "http://ports.example.com/ubuntu"),
    ],
)
def test_ubuntu_sources(arch: str, uri: str) -> None:
    kept, _ = own(parse_sources(UBUNTU_SOURCES), Distribution(UBUNTU, "jammy", arch))
    assert kept[-1].uris == (uri,)
    assert {suite for entry in kept for suite in entry.suites} == {"jammy", "jammy-updates"}
    assert kept[0].components == ("main", "universe", "restricted")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("deb [trusted=yes] http://a.example.com/debian bookworm main", "trusted"),
        (
            "deb [ Allow-Insecure=1 ] http://a.example.com/debian bookworm main",
            "allow-insecure",
        ),
        ("deb [allow-weak=yes] http://a.example.com/debian bookworm main", "allow-weak"),
        (
            "deb [arch=amd64 signed-by=/etc/apt/keyrings/x.gpg] http://127.0.0.1 bookworm main",
            "not the distribution's",
        ),
        ("deb [arch=arm64,armhf] http://a.example.com/debian bookworm main", "amd64"),
        ("deb http://a.example.com/debian trixie main", "no suite"),
        ("deb http://a.example.com/debian stable main", "no suite"),
        ("deb http://a.example.com/debian bookworm stable", "no component"),
        ("deb http://a.example.com/debian ./", "no suite"),
        ("deb cdrom:[Debian 12 _Bookworm_]/ bookworm main", "no kind of address"),
        ("deb s3://a.example.com/debian bookworm main", "no kind of address"),
    ],
)
def test_refused(line: str, reason: str) -> None:
    kept, refused = own(parse_list(line), BOOKWORM)
    assert kept == ()
    assert len(refused) == 1
    assert reason in refused[0]


@pytest.mark.parametrize(
    "line",
    [
        "deb http://a.example.com/debian bookworm main contrib # why",
        f"deb [arch=amd64,i386 signed-by={KEYRING}] http://a.example.com/debian bookworm main",
        "deb [trusted=no check-valid-until=no] http://a.example.com/debian bookworm main",
        "  deb\thttps://a.example.com/debian\tbookworm\tmain",
        "deb file:/srv/debian bookworm main",
    ],
)
def test_kept_without_its_options(line: str) -> None:
    kept, _ = own(parse_list(line), BOOKWORM)
    assert [(entry.suites, entry.components, entry.options) for entry in kept] == [
        (("bookworm",), ("main",), {})
    ]


@pytest.mark.parametrize(
    "line",
    ["", "# deb http://a b c", "deb-src http://a.example.com bookworm main", "deb x", "?"],
)
def test_not_for_binaries(line: str) -> None:
    assert own(parse_list(line), BOOKWORM) == ((), ())


@pytest.mark.parametrize("enabled", ["no", "false", "No"])
def test_disabled(enabled: str) -> None:
    assert parse_sources(f"Enabled: {enabled}\n{DEBIAN_SOURCES.split('#')[0]}") == ()


WORD = st.from_regex(r"[a-z0-9][a-z0-9./:+-]{0,12}", fullmatch=True)
WORDS = st.lists(WORD, min_size=1, max_size=3).map(tuple)


@given(st.lists(st.builds(AptEntry, st.just(("deb",)), WORDS, WORDS, WORDS), max_size=3))
def test_what_is_rendered_is_read_back(entries: list[AptEntry]) -> None:
    again = parse_sources(render(entries, "amd64", KEYRING))
    assert [(e.types, e.uris, e.suites, e.components) for e in again] == [
        (e.types, e.uris, e.suites, e.components) for e in entries
    ]


@given(st.text())
def test_any_text_parses_and_renders_one_key(text: str) -> None:
    kept, _ = own((*parse_list(text), *parse_sources(text)), BOOKWORM)
    assert render(kept, "amd64", KEYRING).count("Signed-By: ") == len(kept)


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
