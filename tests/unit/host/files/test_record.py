"""Reads records: what is one, and what others or a bad disk made of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modulus.core.record import forms
from modulus.core.record.forms import Fields
from modulus.core.record.json_text import MOST, parse_json
from modulus.host.files.record import RecordError, load_record, read_record
from modulus.host.files.regular import open_regular, read_bytes, read_text


def plain(value: object) -> Any:
    return value


def count(value: object) -> int:
    return Fields(value, "it")("count", forms.count)


@pytest.mark.parametrize("value", [{"a": [None, "ü", 1.5, True, -(1 << 62)]}, [], "x", 0])
def test_what_is_json_is_read(tmp_path: Path, value: object) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(value))
    assert load_record(path, plain) == value


BAD = {
    "nothing": b"",
    "half": b'{"a": 1',
    "not UTF-8": b'"\xff"',
    "a half of a character": b'"\\ud800"',
    "one in a key": b'{"\\udc00": 1}',
    "one as bytes": b'"\xed\xa0\x80"',
    "NUL": b'["a\\u0000b"]',
    "Infinity": b"[Infinity]",
    "NaN": b"[NaN]",
    "a float beyond all": b"1e400",
    "a float of many digits": b"0." + b"1" * 100_000,
    "an int beyond all": b"9223372036854775808",
    "an int of many digits": b"9" * 1_000_000,
    "deep lists": b"[" * 50 + b"]" * 50,
    "very deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep mappings": b'{"a":' * 50 + b"1" + b"}" * 50,
    "very deep mappings": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "many values": b"[" + b"0," * (MOST // 4) + b"0]",
    "many empty lists": b"[" + b"[]," * (MOST // 4) + b"[]]",
    "a large file": b" " * (MOST + 1),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_what_is_none_is_an_error_of_ours(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(data)
    with pytest.raises(RecordError) as caught:
        load_record(path, plain)
    assert not caught.value.absent


def test_memory_stays_small() -> None:
    """Whatever is in a file of the largest size."""
    script = "import resource, sys; from modulus.core.record.json_text import parse_json\n"
    script += "limit = 400 << 20; resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
    script += "for data in (b'[' + b'[],' * 1398000 + b'0]', b'[' + b'{},' * 262000 + b'0]',\n"
    script += "    b'[' + b'\"a\",' * 262000 + b'0]', b'[' * 4194304, b'9' * 4194304):\n"
    script += "    try: parse_json(data)\n"
    script += "    except ValueError: pass\n"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.with_name("real").write_text("{}")
    path.symlink_to("real")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _folder(path: Path) -> None:
    path.mkdir()


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [_pipe, _link, _loop, _folder, _device])
def test_only_a_regular_file_is_a_record(
    tmp_path: Path, make: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "record.json"
    make(path)
    before = os.listdir("/proc/self/fd")
    assert read_record(path, plain) is None
    assert os.listdir("/proc/self/fd") == before
    assert f"{path} is damaged and not used: " in capsys.readouterr().err


@pytest.mark.parametrize("flags", [os.O_RDONLY | os.O_NONBLOCK, os.O_RDWR])
def test_a_pipe_is_not_waited_for(tmp_path: Path, flags: int) -> None:
    """With a reader, and with a writer that says nothing."""
    path = tmp_path / "manifest.json"
    os.mkfifo(path)
    script = "import pathlib, sys; from modulus.host.files.record import read_record\n"
    script += "assert read_record(pathlib.Path(sys.argv[1]), dict) is None"
    other = os.open(path, flags)
    try:
        subprocess.run([sys.executable, "-c", script, path], check=True, timeout=30)
    finally:
        os.close(other)


def test_a_bad_record_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "record.json"
    assert read_record(path, count) is None
    assert read_record(path / "below a file", count) is None
    assert capsys.readouterr().err == ""
    path.write_text('{"count": "many"}')
    for _ in range(3):
        assert read_record(path, count) is None
    assert capsys.readouterr().err == (
        f"modulus: warning: {path} is damaged and not used: count of it must be a whole number "
        f"from 0 to {1 << 53}\n"
    )
    path.write_text('{"count": 3, "later": []}')
    assert read_record(path, count) == 3
    assert capsys.readouterr().err == ""
    path.write_text("{")
    assert read_record(path, count) is None
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_text_that_is_not_utf8_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"a\xff\r\n")
    assert read_text(path) == "a\ufffd\r\n"


def test_a_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert read_bytes(path, 3) == b"abc"
    with pytest.raises(OSError, match="more than 2 bytes"):
        read_bytes(path, 2)
    # procfs says a size of nothing.
    assert read_bytes(Path("/proc/self/stat")).startswith(b"%d " % os.getpid())
    link = tmp_path / "link"
    link.symlink_to("file")
    assert read_bytes(link) == b"abc"
    with pytest.raises(OSError):
        open_regular(link, follow=False)


SHA = "ab" * 32
GOOD: list[tuple[forms.Form[Any], list[object]]] = [
    (forms.sha256, [SHA]),
    (forms.release, ["6.1.0-9-amd64", "6.8.0-rc1+", "5.15.0~a_b"]),
    (forms.name, ["a", "..a", "ü.json", "1.0-6.1-abc.2"]),
    (forms.relative, ["a", "a/b.c", ".a/..b"]),
    (forms.absolute, ["/a", "/a/.b"]),
    (forms.path, ["../a", "/b"]),
    (forms.word, ["gcc-12", "4:12.2.0-3", "libstdc++6", "535.309.01-1~deb12u1"]),
    (forms.time, ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5+01:00"]),
    (forms.module_name, ["nvidia-uvm", "i2c_core"]),
    (forms.flag, [True, False]),
    (forms.count, [0, 1 << 53]),
    (forms.seconds, [0, 1.5, 1e9]),
    (forms.hexadecimal, ["0a"]),
    (forms.list_of(forms.count, 2), [[], [1, 2]]),
    (forms.map_of(forms.name, forms.count, 1), [{}, {"a": 1}]),
    (forms.optional(forms.count), [None, 1]),
    (forms.one_of("a", "b"), ["a"]),
    (forms.exactly(1), [1]),
]
WRONG: list[tuple[forms.Form[Any], list[object]]] = [
    (forms.sha256, [SHA + "\n", SHA[1:], SHA.upper(), "../" * 21 + "x", "\u0660" * 64]),
    (forms.release, ["", "amd64", "6.1/..", "6.1 ", "6" * 65, "6.1\n"]),
    (forms.name, ["", ".", "..", "a/b", "a\0", "a\n", "a" * 256, "ü" * 128, "\ud800"]),
    (
        forms.relative,
        ["", "/a", "../a", "a/../b", "a//b", "a/", "./a", "a\0", "a/" * 4000],
    ),
    (forms.absolute, ["", "a", "/", "/../a", "//a", "/a\0"]),
    (forms.path, ["", "a\0", "a" * 5000, "\udc80"]),
    (forms.word, ["", "a b", "-a", "../a", "a/b", "ü"]),
    (forms.time, ["now", "2026-01-01", "2026-01-01T00:00:00Z\n"]),
    (forms.instance, ["a", "../a-1", "a-1..2", "a-1\n", "A-1"]),
    (forms.module_name, ["../a", "-r", "a b"]),
    (forms.flag, [0, 1, "true"]),
    (forms.count, [-1, (1 << 53) + 1, 1.0, True, "1"]),
    (forms.seconds, [-1, 1e400, float("nan"), "1", True, 1 << 70]),
    (forms.hexadecimal, ["", "0x1", "a" * 129]),
    (forms.text, ["a" * 20_000, "\0", "\udfff"]),
    (forms.line, ["a\nb", "\x1b[2J", "\u202e"]),
    (forms.list_of(forms.count, 2), [[1, 2, 3], {}, "12", ["1"]]),
    (forms.map_of(forms.name, forms.count, 1), [{"a": 1, "b": 2}, {"..": 1}, {"a": "b"}]),
    (forms.one_of("a", "b"), ["c", ["a"], {"a": 1}]),
    (forms.exactly(1), [True, 1.0, "1"]),
]


@pytest.mark.parametrize(("form", "values"), GOOD)
def test_what_has_its_form(form: forms.Form[Any], values: list[object]) -> None:
    for value in values:
        found = form(value)
        assert (list(found) if isinstance(value, list) else found) == value


@pytest.mark.parametrize(("form", "values"), WRONG)
def test_what_has_not(form: forms.Form[Any], values: list[object]) -> None:
    for value in (*values, b"", object(), *([] if form is forms.text else [[[]]])):
        with pytest.raises(ValueError, match="must be"):
            form(value)


def test_a_form_is_of_any_value_that_json_has() -> None:
    """What no form takes for another type."""
    values: list[object] = [None, True, 1, 1.5, "", [], {}]
    for value in values:
        for form in (forms.sha256, forms.relative, forms.time, forms.instance, forms.release):
            with pytest.raises(ValueError):
                form(value)


def test_fields_say_which_is_wrong_and_keep_what_is_not_asked_for() -> None:
    of = Fields({"a": 1, "b": [2]}, "the thing")
    assert of("a", forms.count) == 1
    assert of.rest == {"b": [2]}
    with pytest.raises(ValueError, match="b of the thing must be a sha256"):
        of("b", forms.sha256)
    with pytest.raises(ValueError, match="c of the thing must be a sha256"):
        of("c", forms.sha256)
    with pytest.raises(ValueError, match="the thing is not a mapping"):
        Fields([], "the thing")


def test_a_document_has_all_that_json_has() -> None:
    assert parse_json(b'{"a": [null, true, 1, 1.5, "\\u00fc \\ud83d\\ude00"]}') == {
        "a": [None, True, 1, 1.5, "ü \U0001f600"]
    }
