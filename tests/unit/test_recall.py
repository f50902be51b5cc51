"""What spares a warm start its parsing and rendering."""

from __future__ import annotations

from pathlib import Path

import pytest

from modulus.core.schema import Problems
from modulus.host import recall, yamlfile
from modulus.host.recall import Recall
from modulus.host.rendered import render_file
from modulus.host.yamlfile import parse_yaml

NAMES = {"name": "gpu", "folder": "/opt/drivers/gpu/lib"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state/gpu/recall.json"


def test_what_was_noted_is_found_by_the_next_process(path: Path) -> None:
    first = Recall(path)
    assert first.find("yaml", "a: 1") is None
    first.note({"a": 1}, "yaml", "a: 1")
    first.keep()
    assert Recall(path).find("yaml", "a: 1") == {"a": 1}
    assert Recall(path).find("yaml", "a: 2") is None
    assert Recall(path).find("render", "a: 1") is None


def test_only_what_is_still_used_stays(path: Path) -> None:
    first = Recall(path)
    first.note(1, "old")
    first.note(2, "new")
    first.keep()
    second = Recall(path)
    assert second.find("new") == 2
    second.keep()
    assert (Recall(path).find("old"), Recall(path).find("new")) == (None, 2)


def test_it_is_written_for_news_only(path: Path) -> None:
    first = Recall(path)
    first.note(1, "x")
    first.keep()
    before = path.stat().st_mtime_ns, path.stat().st_ino
    again = Recall(path)
    assert again.find("x") == 1
    again.keep()
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_another_version_of_modulus_recalls_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Recall(path)
    first.note(1, "x")
    first.keep()
    monkeypatch.setattr(recall, "__version__", "999")
    assert Recall(path).find("x") is None


@pytest.mark.parametrize("text", ["", "{", "[1]", "\0"])
def test_a_damaged_file_recalls_nothing_and_is_replaced(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)
    found = Recall(path)
    assert found.find("x") is None
    found.note(1, "x")
    found.keep()
    assert Recall(path).find("x") == 1


def test_where_it_cannot_be_written_nothing_fails(path: Path) -> None:
    path.parent.parent.mkdir()
    path.parent.write_text("a file in the way")
    found = Recall(path)
    found.note(1, "x")
    found.keep()
    assert Recall(path).find("x") is None


@pytest.mark.parametrize("text", ["a: [1, 2.5, yes, ~]\n'no': 550.40\n", "", "# nothing\n"])
def test_yaml_is_parsed_once(path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    first = Recall(path)
    value = parse_yaml(text, Problems(), first)
    first.keep()

    def never(*_: object) -> None:
        raise AssertionError("it was parsed again")

    monkeypatch.setattr(yamlfile, "_parse", never)
    assert parse_yaml(text, Problems(), Recall(path)) == value
    with pytest.raises(AssertionError):
        parse_yaml(text + " ", Problems(), Recall(path))


def test_a_mistake_is_told_every_time(path: Path) -> None:
    for _ in range(2):
        found, problems = Recall(path), Problems()
        assert parse_yaml("a: [", problems, found) is None
        assert problems
        found.keep()


def test_a_file_is_rendered_once_and_changed_ones_are_put_right(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, first = tmp_path / "one.conf", Recall(path)
    assert render_file(file, first, "ld.so.conf.j2", **NAMES)
    first.keep()
    text = file.read_text()
    assert "/opt/drivers/gpu/lib\n" in text

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was rendered again")

    monkeypatch.setattr("modulus.core.render.render", never)
    assert not render_file(file, Recall(path), "ld.so.conf.j2", **NAMES)
    file.write_text("changed by hand")
    assert render_file(file, Recall(path), "ld.so.conf.j2", **NAMES)
    assert file.read_text() == text
    with pytest.raises(AssertionError):
        render_file(file, Recall(path), "ld.so.conf.j2", **NAMES | {"name": "other"})
