"""Real build containers: what a payload sees, what it may use, and that it ends with us."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modulus.core.ids import DEFAULT, PIECE
from modulus.errors import BuildError, ToolchainError
from modulus.host.build import container
from modulus.host.build.container import Limits, Mount, choose, nspawn, open_container, payload
from modulus.host.report.reporter import PlainReporter
from tests.support.system import processes, wait_gone, wait_there

pytestmark = pytest.mark.integration

PROGRAMS = (
    "sh",
    "cat",
    "chmod",
    "env",
    "getent",
    "head",
    "id",
    "ls",
    "pwd",
    "sleep",
    "touch",
    "true",
)
MEMORY = 200 << 20
LOCAL_USER = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")
ATTACK = """
import sys
for place in sys.argv[1:]:
    for mode in ("r", "a"):
        try:
            open(place, mode)
        except IsADirectoryError:
            print("is seen:", place)
        except OSError:
            continue
        else:
            print(mode, place)
"""
EATER = "x=xxxxxxxx; while :; do x=$x$x; done"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small root of the host's own shell and tools."""
    root = tmp_path_factory.mktemp("toolchain") / "root"
    for name in ("usr/bin", "etc", "dev", "proc", "run", "sys", "tmp", "src", "build", "out"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / "usr" / name).mkdir(exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    for program in PROGRAMS:
        source = Path(shutil.which(program) or program)
        shutil.copy(source, root / "usr/bin" / program)
        listed = subprocess.run(["ldd", source], capture_output=True, text=True).stdout
        for library in re.findall(r"(/\S+) \(0x", listed):
            copy = root / library.lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, copy)
    # As ``host.distribution.tool_root`` leaves it.
    for name in ("etc/hostname", "etc/hosts", "etc/resolv.conf", "run/.containerenv"):
        (root / name).touch()
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/:/bin/sh\nbuild:x:1000:1000:build:/build:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\nbuild:x:1000:\n")
    (root / "usr/lib/os-release").write_text("ID=small\n")
    return root


class EndError(Exception):
    """Ends a payload that has done its part."""


class Bench:
    """A kind of container with its mounts, and what it said."""

    def __init__(self, kind: str, root: Path, base: Path, limits: Limits) -> None:
        self.kind, self.root, self.base, self.limits = kind, root, base, limits
        self.said = io.StringIO()
        for name in ("src", "build", "out"):
            (base / name).mkdir(parents=True)
        (base / "src/file").write_text("source\n")
        # As scratch folders are.
        base.chmod(0o700)

    def open(self) -> contextlib.AbstractContextManager[container.Container]:
        return open_container(
            self.kind,
            self.root,
            (
                Mount(self.base / "src", "/src"),
                Mount(self.base / "build", "/build", writable=True),
                Mount(self.base / "out", "/out", writable=True),
            ),
            self.limits,
            f"test-{os.getpid()}-{secrets.token_hex(4)}",
            self.base,
            PlainReporter(self.said),
        )


KINDS = [
    pytest.param("nspawn", marks=pytest.mark.required("nspawn")),
    pytest.param("podman", marks=pytest.mark.required("podman")),
    "docker",
    "none",
]
ISOLATED = KINDS[:3]


@pytest.fixture(scope="module")
def cannot(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Why a kind cannot be tested on this machine."""
    reasons = {}
    for kind in ("nspawn", "podman", "docker"):
        try:
            choose(kind, PlainReporter(io.StringIO()))
            folder = tmp_path_factory.mktemp(kind)
            with Bench(kind, root, folder / "try", Limits()).open() as opened:
                opened.run(("true",), on_line=lambda _: None, timeout=60)
        except ToolchainError as error:
            reasons[kind] = error.message
    return reasons


def bench_of(kind: str, root: Path, base: Path, cannot: dict[str, str]) -> Bench:
    if kind in cannot:
        # Not every machine has every runtime; what CI must have is marked as required.
        pytest.skip(cannot[kind])
    return Bench(kind, root, base, Limits(MEMORY, 1.5))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that others may pass through, as a cache is and pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="modulus-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def bench(kind: str, root: Path, open_folder: Path, cannot: dict[str, str]) -> Bench:
    return bench_of(kind, root, open_folder / "scratch", cannot)


@pytest.fixture
def nspawned(root: Path, tmp_path: Path, cannot: dict[str, str]) -> Bench:
    return bench_of("nspawn", root, tmp_path / "scratch", cannot)


def run(opened: container.Container, script: str) -> tuple[int, list[str]]:
    lines: list[str] = []
    status = opened.run(("sh", "-c", script), on_line=lines.append, timeout=60)
    return status, lines


def listing(tree: Path) -> list[tuple[str, int, int, int]]:
    found = []
    for path in sorted(tree.rglob("*")):
        state = path.lstat()
        found.append((str(path), state.st_mode, state.st_uid, state.st_size))
    return found


@pytest.mark.parametrize("kind", ISOLATED)
def test_what_a_payload_sees(bench: Bench) -> None:
    before = listing(bench.root)
    (bench.base / "build/kept").write_text("ours\n")
    script = f"""
        pwd; id -u; id -g; cat /src/file kept; ls -A /build
        ls {bench.base} 2>/dev/null && echo sees the host
        touch /src/no /usr/no /etc/no 2>/dev/null && echo writes
        echo mine >kept && touch /tmp/yes /out/made && echo done
    """
    with bench.open() as opened:
        status, lines = run(opened, script)
        assert (status, opened.oom) == (0, False), "\n".join(lines)
        assert lines == ["/build", "1000", "1000", "source", "ours", "kept", "done"]
        _, lines = run(opened, "cat /proc/self/status")
        fields = dict(line.split(":", 1) for line in lines)
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(fields[name], 16) == 0
        assert fields["NoNewPrivs"].strip() == "1"
        _, lines = run(opened, "cat /proc/net/dev")
        assert [line.split(":")[0].strip() for line in lines[2:]] == ["lo"]
        _, lines = run(opened, "for folder in /proc/[0-9]*; do echo ${folder#/proc/}; done")
        assert all(int(pid) < 50 for pid in lines)
        assert opened.path("/out/x") == "/out/x"
    assert (bench.base / "out/made").exists()
    assert listing(bench.root) == before
    assert bench.said.getvalue() == ""


def test_none_is_the_host_less_its_rights(
    root: Path, open_folder: Path, cannot: dict[str, str]
) -> None:
    bench = bench_of("none", root, open_folder / "scratch", cannot)
    with bench.open() as opened:
        out = opened.path("/out/made")
        status, lines = run(opened, f"pwd; touch {out} && id -u; env; cat /proc/self/status")
    assert status == 0
    assert (bench.base / "out/made").exists()
    assert lines[0] == opened.path("/build")
    if os.geteuid() == 0:
        assert int(lines[1]) in range(DEFAULT.first, DEFAULT.last)
        # As the host has it, where there is no part of a build.
        assert os.listdir("/run/modulus/build") == []
        assert "CapBnd:\t0000000000000000" in lines
    assert not any(line.startswith("PYTEST") for line in lines)


@pytest.mark.parametrize("kind", KINDS)
def test_status_and_output(bench: Bench) -> None:
    with bench.open() as opened:
        assert run(opened, "exit 7") == (7, [])
        assert run(opened, "kill -TERM $$")[0] == 128 + signal.SIGTERM
        status, lines = run(opened, r"printf 'a\377\n10 %%\r20 %%\r\nerr\n' >&2; printf end")
        assert (status, lines) == (0, ["a\ufffd", "10 %", "20 %", "err", "end"])
        _, lines = run(opened, "head -c 3000000 /dev/zero")
        assert sum(map(len, lines)) == 3_000_000
        # Standard input is empty, whatever ours is.
        assert run(opened, "cat") == (0, [])


@pytest.mark.parametrize("kind", KINDS)
def test_memory_limit(bench: Bench) -> None:
    ours = f"modulus-payload-{os.getpid()}-*"  # Others may build meanwhile.
    with bench.open() as opened:
        status, lines = run(opened, f"sh -c '{EATER}' 2>/dev/null; echo $?")
        assert (status, opened.oom) == (0, True)
        assert lines[0] == "137"
        assert "memory limit" in lines[1]
        assert run(opened, "true") == (0, [])
        assert not opened.oom
        assert run(opened, EATER)[0] == 137
        assert opened.oom
    assert list(Path("/sys/fs/cgroup").rglob(ours)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_time_limit(bench: Bench) -> None:
    word = f"3600.{secrets.randbits(40)}"
    with bench.open() as opened:
        with pytest.raises(BuildError, match=r"after 0\.5 s"):
            opened.run(
                ("sh", "-c", f"sleep {word} & sleep {word}"),
                on_line=lambda _: None,
                timeout=0.5,
            )
        assert wait_gone(word) == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_ends_the_payload(bench: Bench) -> None:
    word = f"3600.{secrets.randbits(40)}"

    def on_line(line: str) -> None:
        raise KeyboardInterrupt(line)

    with bench.open() as opened:
        with pytest.raises(KeyboardInterrupt, match="up"):
            opened.run(("sh", "-c", f"echo up; sleep {word}"), on_line=on_line)
        assert wait_gone(word) == []
        assert run(opened, "echo again") == (0, ["again"])


WORKER = """
import sys
from pathlib import Path
from modulus.host.build.container import Limits, Mount, open_container
kind, root, base, word = sys.argv[1:]
base = Path(base)
mounts = [Mount(base / "build", "/build", writable=True)]
with open_container(kind, Path(root), mounts, Limits(200 << 20, 1.5), word, base) as opened:
    script = f"sleep {word} & echo up; exec sleep {word}"
    opened.run(("sh", "-c", script), on_line=lambda line: print(line, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", KINDS)
def test_no_payload_outlives_its_modulus(bench: Bench, number: signal.Signals) -> None:
    word = f"3600.{secrets.randbits(40)}"
    argv = (sys.executable, "-c", WORKER, bench.kind, str(bench.root), str(bench.base), word)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"up\n"
        assert len(processes(word)) >= 3
        worker.send_signal(number)
        worker.communicate()
    assert wait_gone(word, 5) == []
    # The next one clears away what was left of the group.
    with bench.open() as opened:
        assert run(opened, "true") == (0, [])
    left = Path("/sys/fs/cgroup").rglob(f"modulus-payload-{worker.pid}-*")
    assert list(left) == []


def test_a_payload_ends_with_standard_input(nspawned: Bench) -> None:
    """What ends it where its own tool is not our child: in a service, in docker."""
    word = f"3600.{secrets.randbits(40)}"
    mounts = (Mount(nspawned.base / "build", "/build", writable=True),)
    way = nspawn.ways(nspawned.root, mounts, Limits(), word, DEFAULT.first)[0]
    argv = way.argv[way.argv.index("systemd-nspawn") :]
    script = ("/bin/sh", "-c", payload.SCRIPT, "sh", "token", "", "/build", "w")
    sleeper = ("sh", "-c", f"sleep {word} & echo up; sleep {word}")
    with subprocess.Popen(
        (*argv, *script, *sleeper),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **way.env},
    ) as tool:
        assert tool.stdout is not None
        assert tool.stdin is not None
        assert [tool.stdout.readline() for _ in "12"] == [b"token\n", b"up\n"]
        # What is in the background is forked by now, but may not be sleep yet.
        assert wait_there(f"sleep\0{word}")
        tool.stdin.close()
        assert wait_gone(f"sleep\0{word}", 5) == []


def test_the_watcher_does_nothing_outside_of_a_container() -> None:
    script = ("sh", "-c", payload.SCRIPT, "sh", "token", "", "/", "w", "sleep", "0.3")
    done = subprocess.run(script, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.stdout == "token\ntoken 0 0\n"


def test_many_at_once_share_a_root(nspawned: Bench, tmp_path: Path) -> None:
    other = Bench("nspawn", nspawned.root, tmp_path / "other", Limits(MEMORY))
    with nspawned.open() as one, other.open() as two:
        inner: list[str] = []

        def on_line(_: str) -> None:
            two.run(("sh", "-c", "echo inner; ls /src"), on_line=inner.append)

        assert one.run(("sh", "-c", "echo outer; sleep 0.2"), on_line=on_line) == 0
    assert inner == ["inner", "file"]


@pytest.mark.parametrize("kind", [*KINDS[:2], "none"])
def test_no_local_user_reaches_a_running_build(bench: Bench) -> None:
    """Whoever is uid 1000 on the host, as whom ``build`` is known inside."""
    word = f"3600.{secrets.randbits(40)}"
    victim = bench.base / "build/victim.c"
    seen: list[str] = []

    def attack(_: str) -> None:
        assert wait_there(f"sleep\0{word}")
        pid = processes(f"sleep\0{word}")[0]
        assert os.stat(f"/proc/{pid}").st_uid >= DEFAULT.first
        places = (
            victim,
            victim.parent,
            *(f"/proc/{pid}/{way}" for way in ("root/build/victim.c", "cwd/victim.c", "root")),
            "/run/modulus/build/build/victim.c",
        )
        done = subprocess.run(
            (*LOCAL_USER, sys.executable, "-c", ATTACK, *map(str, places)),
            capture_output=True,
            text=True,
            check=True,
        )
        seen.append(done.stdout)
        raise EndError

    with bench.open() as opened:
        script = f"echo ours >victim.c; chmod 666 victim.c; chmod 777 .; sleep {word} & echo up"
        with pytest.raises(EndError):
            opened.run(("sh", "-c", f"{script}; wait"), on_line=attack, timeout=60)
    assert seen == [""]
    assert victim.read_text() == "ours\n"


@pytest.mark.parametrize("kind", KINDS)
def test_task_limit(bench: Bench) -> None:
    bench.limits = Limits(MEMORY, 1.5, 20)
    script = "n=0; while [ $n -lt 40 ]; do sleep 9 & n=$((n+1)); done; echo all of them"
    with bench.open() as opened:
        status, lines = run(opened, script)
    assert status != 0
    assert "all of them" not in lines


def test_two_builds_have_other_ids(nspawned: Bench, tmp_path: Path) -> None:
    other = Bench("nspawn", nspawned.root, tmp_path / "other", Limits(MEMORY))
    with nspawned.open() as one, other.open() as two:
        for opened in (one, two):
            assert run(opened, "touch /out/made")[0] == 0
    ids = {(bench.base / "out/made").stat().st_uid for bench in (nspawned, other)}
    assert len(ids) == 2
    assert all(uid % PIECE == 1000 for uid in ids)


@pytest.mark.parametrize("kind", ISOLATED)
def test_a_container_that_does_not_start(bench: Bench) -> None:
    broken = bench.base / "broken"
    shutil.copytree(bench.root, broken, symlinks=True)
    (broken / "usr/bin/sh").unlink()
    bench.root = broken
    with (
        bench.open() as opened,
        pytest.raises(ToolchainError, match="does not start: ") as caught,
    ):
        run(opened, "true")
    assert caught.value.hint.startswith("run it by hand: ")


@pytest.mark.parametrize("kind", KINDS)
def test_shell(bench: Bench) -> None:
    child, terminal = pty.fork()
    if child == 0:
        status = 1
        try:
            with bench.open() as opened:
                status = opened.shell()
        finally:
            os._exit(status)
    os.write(terminal, b"echo sum-$((20 + 22)); touch made; exit 5\n")
    seen = b""
    with contextlib.suppress(OSError):
        while data := os.read(terminal, 1000):
            seen += data
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5, seen
    assert b"sum-42" in seen
    assert (bench.base / "build/made").exists()


def test_memory_limit_without_control_groups(
    nspawned: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(container, "open_group", refuse)
    with nspawned.open() as opened:
        assert run(opened, "ulimit -v") == (0, [str(MEMORY >> 10)])
        assert run(opened, EATER)[0] != 0
    said = nspawned.said.getvalue().splitlines()
    assert len(said) == 1
    assert "no control group for the build" in said[0]


def test_later_ways_are_taken_once(nspawned: Bench) -> None:
    with nspawned.open() as opened:
        way = opened._ways[0]
        broken = ("sh", "-c", "echo broken >&2; exit 1", "sh")
        opened._ways[:0] = [replace(way, argv=("false",)), replace(way, argv=broken)]
        opened._ways[2] = replace(way, warning="worse")
        assert run(opened, "echo a") == (0, ["a"])
        assert run(opened, "echo b") == (0, ["b"])
    assert nspawned.said.getvalue().splitlines() == ["modulus: warning: worse (broken)"]
