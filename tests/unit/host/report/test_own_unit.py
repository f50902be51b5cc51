"""The unit that a process is in, and what the journal is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from modulus.host.report import own_unit


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        ("0::/\n", ""),
        ("0::/init.scope\n", ""),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/a.service\n", ""),
        ("0::/user.slice/user-0.slice/session-3.scope\n", ""),
        ("0::/system.slice/cron.service\n", "cron.service"),
        (
            "0::/system.slice/system-modulus.slice/modulus@v4l2loopback\\x2d0.12.7.service\n",
            "modulus@v4l2loopback\\x2d0.12.7.service",
        ),
        ("0::/system.slice/a.service/supervisor\n", "a.service"),
        (
            "4:memory:/system.slice/no.service\n1:name=systemd:/system.slice/a.service\n",
            "a.service",
        ),
    ],
)
def test_current_unit(cgroup: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text(cgroup)
    assert own_unit.current_unit(tmp_path / "cgroup") == expected


@pytest.mark.parametrize(
    ("unit", "environ", "expected"),
    [
        ("a.service", {}, {"OBJECT_SYSTEMD_UNIT": "a.service"}),
        (
            "a.service",
            {"INVOCATION_ID": "1f"},
            {"OBJECT_SYSTEMD_UNIT": "a.service", "OBJECT_SYSTEMD_INVOCATION_ID": "1f"},
        ),
        ("", {"INVOCATION_ID": "1f"}, {}),
    ],
)
def test_entries_say_of_which_unit_they_are(
    unit: str,
    environ: dict[str, str],
    expected: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_unit, "current_unit", lambda: unit)
    assert own_unit.journal_fields(environ) == expected
