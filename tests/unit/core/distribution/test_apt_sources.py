"""apt sources: what the node's own are, and which can be the distribution's."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.distribution.apt_options import any_date, parse_options, proxies
from modulus.core.distribution.apt_sources import (
    AptSource,
    parse_list,
    parse_sources,
    parse_targets,
    rebased,
    render,
    with_options,
)
from modulus.core.distribution.families import DEBIAN, UBUNTU, Distribution
from modulus.core.distribution.own_sources import own

BOOKWORM = Distribution(DEBIAN, "bookworm", "amd64")
JAMMY = Distribution(UBUNTU, "jammy", "amd64")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SOURCE = AptSource("http://a.example.com/debian/", "bookworm", ("main",), "/etc/a.list")

TARGET = """\
MetaKey: {component}/binary-{arch}/Packages
Filename: /lists/a.example.com_dists_stable_{component}_binary-{arch}_Packages
Architecture: {arch}
Component: {component}
Created-By: {kind}
Release: stable
Repo-URI: http://a.example.com/
Sourcesentry: /etc/apt/sources.list.d/a.sources:1

"""
FLAT = """\
MetaKey: Packages
Filename: /lists/b.example.com_._Packages
Created-By: Packages
Release: ./
Repo-URI: http://b.example.com/
Sourcesentry: /etc/apt/sources.list:3
"""


def test_what_apt_tells() -> None:
    parts = (
        ("main", "amd64", "Packages"),
        ("main", "all", "Packages"),
        ("main", "amd64", "Translations"),
        ("contrib", "amd64", "Packages"),
        ("extra", "arm64", "Packages"),
    )
    text = "".join(TARGET.format(component=c, arch=a, kind=k) for c, a, k in parts) + FLAT
    assert parse_targets(text, "amd64") == (
        AptSource(
            "http://a.example.com/",
            "stable",
            ("main", "contrib"),
            "/etc/apt/sources.list.d/a.sources",
            "a.example.com_dists_stable_",
        ),
        AptSource(
            "http://b.example.com/",
            "./",
            (),
            "/etc/apt/sources.list",
            "b.example.com_._",
        ),
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (f'[signed-by="{KEYRING}"] ', {"signed-by": KEYRING}),
        (
            f'[ arch=amd64,i386 signed-by="{KEYRING}" check-valid-until=no ] ',
            {"arch": "amd64,i386", "signed-by": KEYRING, "check-valid-until": "no"},
        ),
        ('[signed-by="/a b.gpg" Trusted=yes]', {"signed-by": "/a b.gpg", "trusted": "yes"}),
        ('[signed-by=/usr/"share"/k.gpg]', {"signed-by": "/usr/share/k.gpg"}),
        ("", {}),
    ],
)
def test_options_of_a_line(options: str, expected: dict[str, str]) -> None:
    (entry,) = parse_list(f"deb {options}http://a.example.com/debian bookworm main\n")
    assert entry.options == expected
    assert (entry.uris, entry.suites) == (("http://a.example.com/debian",), ("bookworm",))


@pytest.mark.parametrize(
    "line",
    ["", "# deb http://a b c", "deb-src http://a.example.com bookworm main", "deb x", "?"],
)
def test_lines_that_are_no_source(line: str) -> None:
    assert parse_list(line) == ()


STANZA = """\
Types: deb deb-src
# a comment
URIs: http://a.example.com/debian http://b.example.com
Suites: bookworm
 bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 AAAA
 -----END PGP PUBLIC KEY BLOCK-----
"""


def test_options_of_a_stanza() -> None:
    (entry,) = parse_sources(STANZA)
    assert entry.suites == ("bookworm", "bookworm-updates")
    assert entry.options["signed-by"].splitlines()[1:3] == [
        "-----BEGIN PGP PUBLIC KEY BLOCK-----",
        ".",
    ]
    again = parse_sources(render(SOURCE, "amd64", entry.options["signed-by"]))
    assert again[0].options["signed-by"] == entry.options["signed-by"]


@pytest.mark.parametrize("line", ["Enabled: no", "Enabled: False", "Types: deb-src"])
def test_stanzas_that_are_no_source(line: str) -> None:
    assert parse_sources(f"{STANZA}{line}\n") == ()


def test_options_come_to_their_source() -> None:
    sources = (
        SOURCE,
        replace(SOURCE, suite="trixie"),
        replace(SOURCE, file="/etc/b.list"),
    )
    text = "deb [trusted=yes] http://a.example.com/debian bookworm main\n"
    found = with_options(sources, lambda file: parse_list(text) if file == SOURCE.file else ())
    assert [source.options for source in found] == [{"trusted": "yes"}, {}, {}]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"options": {"trusted": "yes"}}, "marked trusted"),
        ({"options": {"allow-insecure": "1"}}, "marked allow-insecure"),
        ({"options": {"allow-weak": "yes"}}, "marked allow-weak"),
        ({"options": {"signed-by": "/etc/apt/keyrings/x.gpg"}}, "not the distribution's"),
        ({"options": {"signed-by": "-----BEGIN PGP PUBLIC KEY BLOCK-----"}}, "not the distr"),
        ({"components": ("stable",)}, "no component"),
        ({"suite": "./", "components": ()}, "no component"),
        ({"uri": "cdrom://Debian 12 _Bookworm_/"}, "no kind of address"),
        ({"uri": "s3://a.example.com/debian"}, "no kind of address"),
    ],
)
def test_never_the_distributions(change: dict[str, object], reason: str) -> None:
    source = replace(SOURCE, **change)  # type: ignore[arg-type]
    kept, refused = own([source], BOOKWORM)
    assert kept == ()
    assert len(refused) == 1
    assert reason in refused[0]


@pytest.mark.parametrize("suite", ["bookworm", "stable", "bookworm-backports", "x"])
@pytest.mark.parametrize(
    "options", [{}, {"trusted": "no"}, {"trusted": ""}, {"signed-by": KEYRING}]
)
def test_may_be_the_distributions(suite: str, options: dict[str, str]) -> None:
    source = replace(SOURCE, suite=suite, options=options, components=("main", "contrib"))
    kept, refused = own([source], BOOKWORM)
    assert kept == (replace(source, components=("main",)),)
    assert refused == ()


@pytest.mark.parametrize(
    ("uri", "host", "counts"),
    [
        ("https://esm.ubuntu.com/infra/ubuntu/", "esm.ubuntu.com", True),
        ("https://bearer:token@esm.ubuntu.com:443/fips/ubuntu/", "esm.ubuntu.com", True),
        ("https://esm.ubuntu.com.example.com/", "esm.ubuntu.com.example.com", False),
        ("https://esm.ubuntu.com@example.com/", "example.com", False),
        ("https://example.com/esm.ubuntu.com/", "example.com", False),
        ("file:/esm.ubuntu.com/", "", False),
    ],
)
def test_keys_that_count_for_one_host(uri: str, host: str, counts: bool) -> None:
    options = {"signed-by": "/usr/share/keyrings/ubuntu-pro-esm-infra.gpg"}
    source = replace(SOURCE, uri=uri, options=options)
    assert source.host == host
    assert bool(own([source], JAMMY)[0]) is counts


def test_a_source_written_anew() -> None:
    source = replace(SOURCE, components=("main", "contrib"), options={"trusted": "yes"})
    assert render(source, "amd64", KEYRING) == (
        "Types: deb\n"
        "URIs: http://a.example.com/debian/\n"
        "Suites: bookworm\n"
        "Components: main contrib\n"
        "Architectures: amd64\n"
        f"Signed-By: {KEYRING}\n"
    )


@pytest.mark.parametrize(
    ("value", "kept"), [("no", True), ("false", True), ("yes", False), ("", False)]
)
def test_the_only_option_that_is_kept(value: str, kept: bool) -> None:
    source = replace(SOURCE, options={"check-valid-until": value})
    assert ("Check-Valid-Until: no\n" in render(source, "amd64", KEYRING)) is kept


@pytest.mark.parametrize(
    ("uri", "root", "expected"),
    [
        ("mirror+file:/etc/m.list/", "/mnt/", "mirror+file:/mnt/etc/m.list/"),
        ("file:///srv/debian/", "/mnt", "file:/mnt/srv/debian/"),
        ("file:/srv/debian/", "/", "file:/srv/debian/"),
        ("http://a.example.com/", "/mnt", "http://a.example.com/"),
    ],
)
def test_local_addresses_below_a_root(uri: str, root: str, expected: str) -> None:
    assert rebased(replace(SOURCE, uri=uri), root).uri == expected


@pytest.mark.parametrize(
    ("index", "has"),
    [
        ("http://a.example.com/debian bookworm/main amd64 Packages", True),
        ("http://a.example.com/debian bookworm-updates/main amd64 Packages", False),
        ("http://a.example.com/debian-security bookworm/main amd64 Packages", False),
    ],
)
def test_whose_an_index_is(index: str, has: bool) -> None:
    source = replace(SOURCE, uri="http://me:secret@a.example.com/debian/")
    assert source.has(index) is has
    assert "secret" not in str(source)


DUMP = """\
Acquire "";
Acquire::http::Proxy "http://me:secret@proxy:3128";
Acquire::HTTPS::proxy::h.example.com "DIRECT";
Acquire::https::Proxy "";
Acquire::http::Proxy-Auto-Detect "/usr/bin/x";
Acquire::http::Timeout "9";
acquire::check-valid-until "{checked}";
not an option
"""


def test_proxies() -> None:
    assert proxies(parse_options(DUMP)) == (
        ("Acquire::http::Proxy", "http://me:secret@proxy:3128"),
        ("Acquire::HTTPS::proxy::h.example.com", "DIRECT"),
    )


@pytest.mark.parametrize(
    ("checked", "any_time"), [("false", True), ("0", True), ("true", False), ("", False)]
)
def test_dates_that_do_not_count(checked: str, any_time: bool) -> None:
    assert any_date(parse_options(DUMP.format(checked=checked))) is any_time


@given(st.text())
def test_any_text_parses(text: str) -> None:
    parse_list(text)
    parse_sources(text)
    parse_targets(text, "amd64")
    parse_options(text)
