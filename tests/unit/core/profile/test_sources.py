"""URL templates, their order, and checksum files."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.profile.sources import (
    Candidate,
    beside,
    candidates,
    counts,
    filename,
    parse_sha256sums,
    sha256_for,
)
from modulus.errors import ConfigError

A, B = "a" * 64, "b" * 64


@dataclass(frozen=True)
class Mirror:
    url: str
    trusted: bool = False


@dataclass(frozen=True)
class Source:
    url: str
    format: str = "run"
    checksum_url: str | None = None


def expand(*mirrors: Mirror, sources: tuple[Source, ...] = ()) -> tuple[Candidate, ...]:
    return candidates(mirrors, sources, name="driver", version="1.2.3", arch="x86_64")


def test_mirrors_come_before_the_profiles_sources() -> None:
    found = expand(
        Mirror("http://mirror.example.com/{name}/{version}/d-{arch}-{version}.run", True),
        Mirror("/srv/d_{version}_all.deb"),
        sources=(
            Source("https://example.com/{version}.run", "run", "https://example.com/{version}"),
            Source("https://example.com/{version}.tar.xz", "tar"),
        ),
    )
    assert found == (
        Candidate(
            "http://mirror.example.com/driver/1.2.3/d-x86_64-1.2.3.run", "run", None, True
        ),
        Candidate("/srv/d_1.2.3_all.deb", "tar", None, False),
        Candidate("https://example.com/1.2.3.run", "run", "https://example.com/1.2.3", False),
        Candidate("https://example.com/1.2.3.tar.xz", "tar", None, False),
    )


@pytest.mark.parametrize(
    ("url", "first", "kind"),
    [
        ("http://example.com/a.run", "run", "run"),
        ("http://example.com/a", "tar", "tar"),
        ("http://example.com/a.tar?b=c", "run", "tar"),
        ("http://example.com/a.tgz", "run", "tar"),
        ("http://example.com/a.tar.zst", "run", "tar"),
        ("http://example.com/a.target", "run", "run"),
    ],
)
def test_a_mirrors_format(url: str, first: str, kind: str) -> None:
    assert (
        expand(Mirror(url), sources=(Source("https://example.com/", first),))[0].format == kind
    )


def test_doubled_braces_are_braces() -> None:
    assert expand(Mirror("http://example.com/{{x}}/{version}"))[0].url.endswith("/{x}/1.2.3")


@pytest.mark.parametrize(
    "template", ["{kernel}", "{version!r}", "{version:>9}", "{}", "{0}", "{version.x}", "{arch"]
)
def test_an_unknown_field_is_refused_with_the_template(template: str) -> None:
    with pytest.raises(ConfigError) as caught:
        expand(Mirror(f"http://user:secret@example.com/{template}"))
    assert f"http://***@example.com/{template}" in caught.value.message
    assert "{arch} {name} {version}" in caught.value.hint


def test_a_broken_host_is_refused() -> None:
    with pytest.raises(ConfigError, match="IPv6"):
        expand(Mirror("http://[::1/x"))


@pytest.mark.parametrize(
    ("url", "name", "checksum"),
    [
        ("https://example.com/a/b.run", "b.run", "https://example.com/a/b.run.sha256sum"),
        (
            "https://example.com/b%2B.run?k=v",
            "b+.run",
            "https://example.com/b%2B.run.sha256sum?k=v",
        ),
        ("/srv/b%2B.run", "b%2B.run", "/srv/b%2B.run.sha256sum"),
        ("file:///srv/b.run", "b.run", "file:///srv/b.run.sha256sum"),
    ],
)
def test_names_and_what_is_beside(url: str, name: str, checksum: str) -> None:
    assert filename(url) == name
    assert beside(url) == checksum


@pytest.mark.parametrize(
    ("url", "trusted", "proves"),
    [
        ("https://example.com/a", False, True),
        ("HTTPS://example.com/a", False, True),
        ("file:///a", False, True),
        ("/a", False, True),
        ("http://example.com/a", False, False),
        ("http://example.com/a", True, True),
        ("ftp://example.com/a", False, False),
    ],
)
def test_where_a_checksum_counts(url: str, trusted: bool, proves: bool) -> None:
    assert counts(url, trusted) is proves


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{A}  d.run\n", A),
        (f"{A} *d.run\r\n", A),
        (f"{A.upper()}  ./pool/d.run", A),
        (f"SHA256 (d.run) = {A}\n", A),
        (f"{A}\n", A),
        (f"\ufeff{A}  d.run\n", A),
        (f"# sums\n{B}  other.run\n{A}  d.run\n", A),
        (f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{A}  d.run\n", A),
        (f"{A}  d.run\n{A}  old/d.run\n", A),
        (f"{A}  d.run\n{B}  old/d.run\n", None),
        (f"{B}  other.run\n", None),
        (f"{A}\n{B}  other.run\n", None),
        (f"{A[1:]}  d.run\n", None),
        (f"{A}d  d.run\n", None),
        ("<html>nothing here</html>", None),
        ("", None),
    ],
)
def test_a_checksum_file_gives_one_hash_or_none(text: str, expected: str | None) -> None:
    assert sha256_for(text, "d.run") == expected


digests = st.text("0123456789abcdefABCDEF", min_size=64, max_size=64)
# sha256sum escapes these three; a name neither begins nor ends with white space here.
names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).map(
    lambda text: f"d\n{text}\\x" if len(text) % 2 else text
)


def written(name: str, digest: str, binary: bool, tag: bool) -> str:
    """What sha256sum(1) prints."""
    plain = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if plain != name else ""
    if tag:
        return f"{mark}SHA256 ({plain}) = {digest}"
    return f"{mark}{digest} {'*' if binary else ' '}{plain}"


@given(st.lists(st.tuples(names, digests, st.booleans(), st.booleans())))
def test_what_sha256sum_writes_is_read(lines: list[tuple[str, str, bool, bool]]) -> None:
    text = "\n".join(written(*line) for line in lines)
    assert parse_sha256sums(text) == tuple((line[0], line[1].lower()) for line in lines)


@given(st.text())
def test_any_text_is_read_without_a_failure(text: str) -> None:
    for _, digest in parse_sha256sums(text):
        assert len(digest) == 64


@given(st.text(), st.text(min_size=1))
def test_a_hash_is_never_made_up(text: str, name: str) -> None:
    digest = sha256_for(text, name)
    assert digest is None or digest in text.lower()
