from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.kernel.log import parse_messages
from modulus.host.kernel.log import kernel_log


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("", ()),
        ("3,1,5,-;nvidia: bad\n", ("nvidia: bad",)),
        ("3,1,5,-,caller=T1;x; y\n SUBSYSTEM=pci\n DEVICE=+pci:0\n4,2,6,-;z\n", ("x; y", "z")),
        (r"3,1,5,-;NVRM: one\x0aNVRM:  two\x0aNVRM: three" + "\n", ("NVRM: one two three",)),
        (r"3,1,5,-;a\x0ab" + "\n", ("a b",)),
        (r"3,1,5,-;caf\xc3\xa9 \x5cx0a" + "\n", (r"café \x0a",)),
        (r"3,1,5,-;\xff" + "\n", ("\N{REPLACEMENT CHARACTER}",)),
        ("plain line\n  another\n\n", ("plain line", "another")),
    ],
)
def test_records_are_messages(text: str, messages: tuple[str, ...]) -> None:
    assert parse_messages(text) == messages


@given(st.text())
def test_any_text_is_lines(text: str) -> None:
    assert all(message and "\n" not in message for message in parse_messages(text))


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1))
def test_what_was_escaped_comes_back(message: str) -> None:
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte != 92 else f"\\x{byte:02x}"
        for byte in message.encode()
    )
    assert parse_messages(f"6,1,2,-;{escaped}\n") == (message,)


def test_only_what_is_new_is_told(tmp_path: Path) -> None:
    kmsg = tmp_path / "dev/kmsg"
    kmsg.parent.mkdir()
    kmsg.write_text("3,1,5,-;old\n")
    with kernel_log(tmp_path) as log:
        assert log.new_messages() == ()
        with kmsg.open("a") as file:
            file.write("3,2,5,-;new\n")
        assert log.new_messages() == ("new",)
        assert log.new_messages() == ()


def test_a_log_may_be_missing_or_come_later(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    with kernel_log(tmp_path) as log:
        assert log.new_messages() == ()
        (tmp_path / "dev/kmsg").write_text("first\n")
        assert log.new_messages() == ("first",)


def test_records_are_read_one_by_one_until_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /dev/kmsg gives them: one to a read, and EPIPE after it has dropped some."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/kmsg").write_text("")
    answers: list[bytes | OSError] = [
        b"3,1,5,-;a\n",
        BrokenPipeError(),
        b"3,9,5,-;b\n K=v\n",
        BlockingIOError(),
    ]

    def read(handle: int, size: int) -> bytes:
        assert size >= 8192
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    with kernel_log(tmp_path) as log:
        monkeypatch.setattr("modulus.host.kernel.log.os.read", read)
        assert log.new_messages() == ("a", "b")


@pytest.mark.skipif(not os.access("/dev/kmsg", os.R_OK), reason="no kernel log")
def test_the_real_log_is_followed() -> None:
    with kernel_log(Path("/")) as log:
        before = log.new_messages()
        assert isinstance(before, tuple)
        assert len(before) < 1000, "it begins at the end"
