"""Rendered files of the system."""

from __future__ import annotations

from pathlib import Path

from modulus.host.generation.rendered import render_file


def test_a_file_is_put_right_and_else_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "one.conf"

    def render() -> bool:
        return render_file(file, "ld.so.conf.j2", name="gpu", folder="/opt/drivers/gpu/lib")

    assert render()
    text = file.read_text()
    assert "/opt/drivers/gpu/lib\n" in text
    before = file.stat().st_ino
    assert not render()
    assert file.stat().st_ino == before
    file.write_text("changed by hand")
    assert render()
    assert file.read_text() == text
