"""Which container is chosen, with fake tools on PATH."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from modulus.errors import ToolchainError
from modulus.host.build import container
from modulus.host.build.container import choose, engine, nspawn
from modulus.host.report.reporter import PlainReporter
from tests.unit.host.build.container.conftest import Fake


@pytest.fixture
def no_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (container, nspawn, engine):
        monkeypatch.setattr(module, "namespaces_missing", lambda: "they are forbidden")


@pytest.mark.parametrize(
    ("programs", "expected"),
    [
        (("systemd-nspawn", "unshare", "podman", "crun"), "nspawn"),
        (("podman", "crun", "docker"), "podman"),
        (("podman", "runc"), "podman"),
    ],
)
@pytest.mark.usefixtures("root_user")
def test_auto(
    fake: Fake, silent: PlainReporter, programs: tuple[str, ...], expected: str
) -> None:
    fake(*programs)
    assert choose("auto", silent) == expected


def test_auto_without_root(
    fake: Fake, silent: PlainReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    fake("systemd-nspawn", "unshare", "podman", "crun")
    assert choose("auto", silent) == "podman"


@pytest.mark.usefixtures("root_user")
def test_auto_takes_a_docker_that_runs(
    fake: Fake, silent: PlainReporter, tmp_path: Path
) -> None:
    fake("docker")
    pid = tmp_path / "docker.pid"
    pid.write_text(f"{os.getpid()}\n")
    with pytest.raises(ToolchainError, match="docker's service is not running"):
        choose("auto", silent)
    child = os.fork()
    if child == 0:
        (tmp_path / "dockerd").symlink_to("/bin/cat")
        os.execv(tmp_path / "dockerd", ["dockerd", "/dev/zero"])
    pid.write_text(f"{child}\n")
    try:
        while "dockerd" not in Path(f"/proc/{child}/comm").read_text():
            pass
        assert choose("auto", silent) == "docker"
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


@pytest.mark.usefixtures("root_user")
def test_none_is_possible(fake: Fake, silent: PlainReporter) -> None:
    fake("podman")
    with pytest.raises(ToolchainError) as caught:
        choose("auto", silent)
    assert caught.value.code == 13
    assert caught.value.message == (
        "no build container: systemd-nspawn is not installed; "
        "podman has no runtime (crun or runc); docker is not installed"
    )
    assert caught.value.hint == "install systemd-container or podman"


@pytest.mark.parametrize("kind", ["nspawn", "podman", "docker"])
def test_an_explicit_kind_that_is_missing(fake: Fake, silent: PlainReporter, kind: str) -> None:
    with pytest.raises(
        ToolchainError, match=f"build.container is {kind}, but .* not installed"
    ):
        choose(kind, silent)


def test_none_is_explicit_and_said(fake: Fake) -> None:
    said = io.StringIO()
    assert choose("none", PlainReporter(said)) == "none"
    assert "runs on the host itself" in said.getvalue()


@pytest.mark.usefixtures("root_user", "no_namespaces")
@pytest.mark.parametrize("kind", ["auto", "nspawn", "podman"])
def test_no_namespaces_no_container(fake: Fake, silent: PlainReporter, kind: str) -> None:
    fake("systemd-nspawn", "unshare", "podman", "crun")
    with pytest.raises(ToolchainError, match="they are forbidden") as caught:
        choose(kind, silent)
    assert caught.value.code == 13
    assert "user.max_user_namespaces" in caught.value.hint
