"""Ids for a build: nobody else's, from what a system says of accounts, grants and processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from modulus.core.ids import DEFAULT, PIECE, Ids, parse_ids
from modulus.errors import ToolchainError
from modulus.host.build.container.ids import claim, namespaces_missing

BASE = DEFAULT.first
ALL = "         0          0 4294967295\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system on which nothing is taken."""
    put(tmp_path, "proc/self/uid_map", ALL)
    put(tmp_path, "proc/self/gid_map", ALL)
    put(tmp_path, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:\n")
    return tmp_path


def put(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.mark.parametrize("text", ["1000-66535", str(DEFAULT), "1-4294967294"])
def test_a_range_is_said_as_it_is_shown(text: str) -> None:
    assert str(parse_ids(text)) == text


@pytest.mark.parametrize(
    "value",
    ["", "0-65535", "1000-66534", "9-1", "5", 5, None, "1000-", "1-4294967295", " 1-99999"],
)
def test_what_is_no_range(value: object) -> None:
    with pytest.raises(ValueError, match="a range of at least 65536 ids, such as 2013265920-"):
        parse_ids(value)


def test_whole_pieces() -> None:
    assert [str(piece) for piece in Ids(7, 7 + 2 * PIECE).pieces()] == [
        "7-65542",
        "65543-131078",
    ]
    assert list(Ids(7, 5 + PIECE).pieces()) == []


def test_the_default_is_in_nobodys_range() -> None:
    for other in (Ids(0, 65535), Ids(524288, 1879048191), Ids(200000, 2000200000)):
        assert not DEFAULT.overlaps(other)
    assert DEFAULT.last < min(0x7FFE0000, 1 << 31)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("etc/passwd", f"alice:x:{BASE + 1000}:100::/:\n"),
        ("etc/passwd", f"alice:x:1000:{BASE}::/:\n"),
        ("etc/group", f"staff:x:{BASE + PIECE - 1}:alice\n"),
        ("etc/subuid", f"alice:100000:65536\nbob:{BASE - 10}:11\n"),
        ("etc/subgid", f"bob:{BASE + 5}:1000000\n"),
        ("run/systemd/nspawn-uid/" + str(BASE), ""),
        ("run/systemd/dynamic-uid/" + str(BASE + 61), ""),
        ("proc/77/status", f"Name:\tx\nUid:\t0\t0\t0\t0\nGid:\t1\t{BASE + 3}\t1\t1\n"),
        ("proc/77/status", f"Uid:\t0\t0\t{BASE + 9}\t0\n"),
        ("proc/77/status", f"Groups:\t4 24 {BASE + 7} \n"),
        ("proc/77/uid_map", f"         0       1000          1\n 1 {BASE + 100} 65536\n"),
        ("proc/77/gid_map", f" 0 {BASE} 1\n"),
    ],
)
def test_what_somebody_has_is_passed_over(root: Path, name: str, text: str) -> None:
    with claim(DEFAULT, root) as first:
        assert first == BASE
    put(root, name, text)
    with claim(DEFAULT, root) as first:
        assert first > BASE
        assert (first - BASE) % PIECE == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("etc/passwd", "+::::::\n# 2013265920\nx:x:abc:-1\n\n"),
        ("etc/subuid", f"alice:{BASE}:0\n:::\nalice:1\n"),
        ("proc/77/uid_map", ALL),
        ("proc/77/status", "Uid:\t4294967295 x\n"),
        ("run/systemd/dynamic-uid/direct:x", ""),
    ],
)
def test_what_says_nothing_takes_nothing(root: Path, name: str, text: str) -> None:
    put(root, name, text)
    with claim(DEFAULT, root) as first:
        assert first == BASE


def test_two_at_once_have_other_ids(root: Path) -> None:
    with claim(DEFAULT, root) as one, claim(DEFAULT, root) as two:
        assert (one, two) == (BASE, BASE + PIECE)
    with claim(DEFAULT, root) as again:
        assert again == BASE


def test_only_ids_that_our_own_namespace_has(root: Path) -> None:
    put(root, "proc/self/gid_map", f"0 100000 65536\n{BASE + PIECE} 500000 {PIECE}\n")
    with claim(DEFAULT, root) as first:
        assert first == BASE + PIECE


def test_none_is_free(root: Path) -> None:
    put(root, "proc/self/uid_map", "0 100000 65536\n")
    with (
        pytest.raises(
            ToolchainError, match=f"no ids are free for a build in {BASE}-"
        ) as caught,
        claim(DEFAULT, root),
    ):
        raise AssertionError
    assert "build.ids" in caught.value.hint


def test_whether_there_are_user_namespaces(root: Path) -> None:
    assert "no user namespaces" in namespaces_missing(root)
    put(root, "proc/self/ns/user", "")
    assert namespaces_missing(root) == ""
    put(root, "proc/sys/user/max_user_namespaces", "0\n")
    assert "max_user_namespaces is 0" in namespaces_missing(root)
