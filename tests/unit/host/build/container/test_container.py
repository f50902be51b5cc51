"""Which container is chosen, and the command lines that start one, with fake tools on PATH."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modulus.errors import BuildError, ToolchainError
from modulus.host.build import container
from modulus.host.build.container import Limits, Mount, choose, engine, none, nspawn, service
from modulus.host.build.container.base import Container, Way
from modulus.host.build.container.payload import SCRIPT
from modulus.host.report import systemd
from modulus.host.report.reporter import PlainReporter

Fake = Callable[..., None]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Puts programs of this name and script on PATH, in front of no others than a shell's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "sleep"):
        (folder / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))

    def add(*names: str, script: str = "exit 1") -> None:
        for name in names:
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)

    return add


@pytest.fixture
def root_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def silent() -> PlainReporter:
    return PlainReporter(io.StringIO())


@pytest.fixture(autouse=True)
def no_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without systemd and docker, whatever this one is."""
    monkeypatch.setattr(systemd, "available", lambda: False)
    monkeypatch.setattr(engine, "_DOCKER_PID", tmp_path / "docker.pid")


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
    assert systemd.current_unit(tmp_path / "cgroup") == expected


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
    monkeypatch.setattr(systemd, "current_unit", lambda: unit)
    assert systemd.journal_fields(environ) == expected


@pytest.mark.parametrize("niceness", [0, 19])
def test_a_build_is_in_no_more_of_a_hurry_than_who_asks(
    niceness: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getpriority", lambda *_: niceness)
    low = {"--property=Nice=19", "--property=CPUWeight=10", "--property=IOWeight=10"}
    assert low & set(service.argv("a", Limits(), {})) == (low if niceness else set())


@pytest.mark.usefixtures("root_user")
def test_a_build_is_a_service_where_systemd_runs(
    fake: Fake, silent: PlainReporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "available", lambda: True)
    monkeypatch.setattr(systemd, "current_unit", lambda: "modulus@a.service")
    monkeypatch.setattr(nspawn, "give_writable", lambda *_: None)
    monkeypatch.setattr(container, "claim", lambda _: contextlib.nullcontext(FIRST))
    log = tmp_path / "log"
    fake("systemctl", script=f'echo "systemctl $*" >>{log}')
    # Runs what the container would: all from the payload's shell on.
    fake(
        "systemd-run",
        script=f'echo "run $*" >>{log}; while [ "$1" != /bin/sh ]; do shift; done; "$@"',
    )
    mounts = (Mount(tmp_path / "a:b", "/src"), Mount(tmp_path / "w", "/build", writable=True))
    (tmp_path / "sc").mkdir()
    with container.open_container(
        "nspawn", Path("/root"), mounts, Limits(5 << 20, 1.5, 9), "a b", tmp_path / "sc", silent
    ) as opened:
        opened._paths = {"/build": tmp_path}
        lines: list[str] = []
        assert opened.run(("sh", "-c", "echo hi; exit 3"), on_line=lines.append) == 3
        assert lines == ["hi"]
        with pytest.raises(BuildError):
            opened.run(("sh", "-c", "sleep 9"), on_line=lines.append, timeout=0.2)
    said = log.read_text().splitlines()
    stop = [
        "systemctl --quiet kill --signal=KILL modulus-build-a_b.service",
        "systemctl --quiet stop modulus-build-a_b.service",
        "systemctl --quiet reset-failed modulus-build-a_b.service",
    ]
    assert said[:3] == stop, "a leftover one goes first"
    assert said[-3:] == stop, "a passed time limit ends the service"
    start = next(line for line in said if line.startswith("run "))
    assert start.startswith("run --quiet --wait --pipe --collect --service-type=exec ")
    for part in (
        "--unit=modulus-build-a_b.service",
        "--description=Kernel driver build (modulus-build-a_b)",
        "--property=OOMPolicy=continue",
        "--property=KillMode=mixed",
        "--property=MemoryMax=5242880",
        "--property=MemorySwapMax=0",
        "--property=CPUQuota=150%",
        "--property=TasksMax=9",
        "--property=BindsTo=modulus@a.service",
        "--setenv=SYSTEMD_NSPAWN_LOCK=0",
        "-- systemd-nspawn",
        "--keep-unit",
        f"--private-users={FIRST}:65536",
        f"--bind-ro={tmp_path}/a\\:b:/src",
        f"--bind={tmp_path}/w:/build",
    ):
        assert f" {part} " in start


def way(script: str, **values: object) -> Way:
    """A way whose tool is this shell script, with the payload's shell as its arguments."""
    return Way(("sh", "-c", script, "tool"), (), **values)  # type: ignore[arg-type]


def opened(*ways: Way, said: io.StringIO | None = None) -> Container:
    return Container(
        "fake", ways, PlainReporter(said or io.StringIO()), paths={"/build": Path("/")}
    )


def test_the_script_fits_a_line_of_a_unit_file() -> None:
    assert "\n" not in SCRIPT
    assert "${" not in SCRIPT  # systemd would fill it in


def test_the_tools_own_words_are_not_the_payloads() -> None:
    lines: list[str] = []
    noisy = way('echo before; "$@"; status=$?; echo after; exit $status')
    assert opened(noisy).run(("sh", "-c", "printf no-newline"), on_line=lines.append) == 0
    assert lines == ["no-newline"]


def test_the_payloads_status_counts_not_the_tools() -> None:
    assert opened(way('"$@"; exit 9')).run(("sh", "-c", "exit 4"), on_line=print) == 4


@pytest.mark.parametrize(
    ("end", "expected"), [("exit 9", 9), ("exit 0", 137), ("kill -9 $$", 137)]
)
def test_a_container_that_was_killed(end: str, expected: int) -> None:
    token_only = way(f'echo "$5"; {end}')
    assert opened(token_only).run(("true",), on_line=print) == expected


def test_oom_as_the_container_tells() -> None:
    lines: list[str] = []
    told = opened(way('echo "$5"; echo "$5 2 1"'))
    assert told.run(("true",), on_line=lines.append) == 2
    assert told.oom
    assert "memory limit" in lines[0]


def test_the_best_way_that_starts_is_kept() -> None:
    said = io.StringIO()
    ways = (
        way("echo broken; echo usage; echo more; exit 1"),
        way('exec "$@"', warning="worse"),
    )
    two = opened(*ways, said=said)
    for _ in range(2):
        assert two.run(("true",), on_line=print) == 0
    assert said.getvalue() == "modulus: warning: worse (broken; usage)\n"


def test_no_way_starts() -> None:
    with pytest.raises(ToolchainError) as caught:
        opened(way("echo first"), way("echo second; exit 5")).run(("true",), on_line=print)
    assert caught.value.message == "the fake build container does not start: second"


def test_end_is_called_for_what_is_broken_off(tmp_path: Path) -> None:
    calls: list[str] = []
    ended = opened(way('exec "$@"', end=lambda: calls.append("end")))
    ended.run(("true",), on_line=print)
    assert calls == []
    with pytest.raises(BuildError):
        ended.run(("sleep", "9"), on_line=print, timeout=0.1)
    assert calls == ["end"]

    def on_line(_: str) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        ended.run(("echo", "x"), on_line=on_line)
    assert calls == ["end", "end"]


def test_paths_of_none_are_the_hosts(tmp_path: Path) -> None:
    paths = {"/src": Path("/a/s"), "/usr/src/linux": Path("/h")}
    host = Container("none", (), PlainReporter(io.StringIO()), paths=paths)
    assert host.path("/src") == "/a/s"
    assert host.path("/usr/src/linux/build/x") == "/h/build/x"
    assert host.path("/srcs") == "/srcs"


MOUNTS = (Mount(Path("/s"), "/usr/src/x"), Mount(Path("/w"), "/build", writable=True))
FIRST = 2013265920


def test_none_has_ids_and_mounts_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    monkeypatch.setattr(none, "give_writable", lambda _, uid: given.append(uid))
    monkeypatch.setattr(none, "_AT", tmp_path / "seen")
    (only,) = none.ways(MOUNTS, Limits(tasks=7), FIRST)
    assert given == [FIRST + 1000]
    assert {"unshare", "--net", "--mount-proc", "--kill-child=KILL"} < set(only.argv)
    at = f"{tmp_path}/seen"
    assert only.argv[-6:] == (at, "/s", f"{at}/usr-src-x", "/w", f"{at}/build", "--")
    assert only.payload[:2] == ("prlimit", "--nproc=7:7")
    assert {f"--reuid={FIRST + 1000}", f"--regid={FIRST + 1000}"} < set(only.payload)
    assert none.paths(MOUNTS, root=True)["/build"] == tmp_path / "seen/build"


def test_none_without_root_is_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = none.ways(MOUNTS, Limits(), None)
    assert [way.argv[:1] for way in ways] == [("unshare",), ()]
    assert all("setpriv" not in way.payload for way in ways)
    assert none.paths(MOUNTS, root=False)["/build"] == Path("/w")


def test_nspawn_has_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(nspawn, "give_writable", lambda _, uid: given.append(uid))
    (only,) = nspawn.ways(Path("/tc/root"), MOUNTS, Limits(tasks=9), "x", FIRST)
    assert given == [FIRST + 1000]
    assert {f"--private-users={FIRST}:65536", "--private-users-ownership=off"} < set(only.argv)
    assert {"--bind=/w:/build", "--bind-ro=/s:/usr/src/x"} < set(only.argv)
    assert "--rlimit=RLIMIT_NPROC=9" in only.argv


@pytest.mark.usefixtures("root_user", "no_namespaces")
@pytest.mark.parametrize("kind", ["auto", "nspawn", "podman"])
def test_no_namespaces_no_container(fake: Fake, silent: PlainReporter, kind: str) -> None:
    fake("systemd-nspawn", "unshare", "podman", "crun")
    with pytest.raises(ToolchainError, match="they are forbidden") as caught:
        choose(kind, silent)
    assert caught.value.code == 13
    assert "user.max_user_namespaces" in caught.value.hint


@pytest.mark.parametrize("first_id", [FIRST, None])
def test_podman_command_line(first_id: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(engine, "give_writable", lambda _, uid: given.append(uid))
    mounts = (Mount(Path("/s"), "/src"), Mount(Path("/w"), "/build", writable=True))
    state, limits = Path("/running"), Limits(tasks=8)
    first, second = engine.podman_ways(
        Path("/tc/root"), mounts, state, "modulus-build-a", None, limits, first_id
    )
    assert (first.argv[0] == "unshare") == (first_id is not None)
    assert ("--userns=keep-id:uid=1000,gid=1000" in first.argv) == (first_id is None)
    maps = {f"--uidmap=0:{FIRST}:65536", f"--gidmap=0:{FIRST}:65536"}
    assert (maps < set(first.argv)) == (first_id is not None)
    assert given == ([] if first_id is None else [FIRST + 1000])
    assert "--ulimit=nproc=8:8" in first.argv
    assert first.argv[-2:] == ("--rootfs", "/tc/root:O")
    assert {"--network=none", "--cap-drop=all", "--read-only", "--user=1000:1000"} < set(
        first.argv
    )
    assert "--mount=type=bind,source=/s,target=/src,readonly" in first.argv
    assert "--mount=type=bind,source=/w,target=/build" in first.argv
    assert "--runtime=runc" not in first.argv
    assert "--runtime=runc" in second.argv


def test_docker_imports_a_root_once(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, images = tmp_path / "log", tmp_path / "images"
    fake(
        "docker",
        script=f'echo "$*" >>{log}\n'
        f"case $1 in image) [ -e {images} ];; import) : >{images};; esac",
    )
    (tmp_path / "root").mkdir()
    fake("tar", script=": >$5")
    monkeypatch.setattr(engine, "give_writable", lambda *_: None)
    for _ in range(2):
        (only,) = engine.docker_ways(
            tmp_path / "root", (), tmp_path, "modulus-build-a", Limits(1 << 20, 2, 6), FIRST
        )
    assert [line.split()[0] for line in log.read_text().splitlines()] == [
        "image",
        "import",
        "image",
    ]
    assert only.argv[-1].startswith("modulus-toolchain:")
    assert {"--memory=1048576", "--memory-swap=1048576", "--cpus=2"} < set(only.argv)
    assert {"--pids-limit=6", f"--user={FIRST + 1000}:{FIRST + 1000}"} < set(only.argv)
    assert not (tmp_path / "root.tar").exists()
