"""systemd asked over D-Bus: a real one, as a user's manager on a bus of its own.

It runs in a mount namespace and a control group of its own: nothing of this machine's systemd
is touched, and none is needed.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from modulus.agent.loop import Loop
from modulus.core.status.boot_hold import UnitState, unit_name
from modulus.errors import LockedError, ModulusError, UsageError
from modulus.host.bus import calls
from modulus.host.bus.connection import SystemBus
from modulus.host.bus.endpoint import available, open_connection
from modulus.host.bus.systemd import Systemd
from modulus.host.report.reporter import PlainReporter
from modulus.pipeline.inspect.wait import wait
from modulus.pipeline.site import Site
from tests.support.privatebus import Steps, drive
from tests.support.quiet import QUIET

pytestmark = [
    pytest.mark.integration,
    pytest.mark.required("nspawn"),
    pytest.mark.filterwarnings("ignore:DynamicImporter:ImportWarning"),
]

SYSTEMD = Path("/lib/systemd/systemd")

UNITS = {
    "default.target": """\
[Unit]
Requires=dbus.service
""",
    # A user's manager looks for a bus where these say that there is one.
    "dbus.socket": """\
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=%t/bus
""",
    "dbus.service": """\
[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
Type=notify
ExecStart=/usr/bin/dbus-daemon --session --address=systemd: --nofork --nopidfile \\
    --systemd-activation
""",
    "modulus@.service": """\
[Unit]
DefaultDependencies=no
[Service]
Type=notify
NotifyAccess=all
ExecStart=/bin/sh -c 'case %i in \\
    refused-*) exit 16;; failing-*) exit 14;; \\
    slow-*) while [ ! -e %t/go ]; do sleep 0.1; done;; \\
    stubborn-*) trap "" TERM; systemd-notify --ready; while :; do sleep 1; done;; \\
    esac; systemd-notify --ready; exec sleep 1000'
Restart=on-failure
RestartSec=1000
RestartPreventExitStatus=16
[Install]
WantedBy=default.target
""",
    "modulus-build@.service": """\
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'case %i in failing-*) exit 14;; slow-*) exec sleep 1000;; esac'
""",
    "modulus@broken-1.0.service": """\
[Service]
Type=notify
""",
}

# sd_booted(3) wants the folder, for a user's manager too.
INSIDE = """\
mount -t tmpfs none /run/systemd && mkdir /run/systemd/system || exit
"$0" --user &
echo $! > "$HOME/systemd.pid"
wait
"""

DENYING = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>{address}</listen>
  <policy context="default">
    <allow user="*"/>
    <allow send_destination="org.freedesktop.DBus"/>
    <allow receive_sender="*"/>
    <deny send_destination="org.freedesktop.systemd1"/>
    <allow own="org.freedesktop.systemd1"/>
  </policy>
</busconfig>
"""


@dataclass(frozen=True)
class Manager:
    """A running systemd: its bus, and where its pid stands."""

    address: str
    env: dict[str, str]
    pid: Path

    def is_up(self) -> bool:
        ask = ["busctl", "--user", "--auto-start=no", "status", "org.freedesktop.systemd1"]
        return not subprocess.run(ask, env=self.env, capture_output=True).returncode

    def signal(self, number: int) -> None:
        os.kill(int(self.pid.read_text()), number)

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["systemctl", "--user", "--quiet", *words], env=self.env)

    def ctl(self, *words: str) -> None:
        subprocess.run(
            ["systemctl", "--user", "--quiet", *words],
            env=self.env,
            check=True,
            capture_output=True,
        )


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    if os.geteuid() or not SYSTEMD.exists() or not shutil.which("dbus-daemon"):
        # A mount namespace and a control group take root; "nspawn", required in CI, fails then.
        pytest.skip("needs root, systemd and dbus-daemon")
    home = tmp_path_factory.mktemp("bus")
    units = home / "config/systemd/user"
    units.mkdir(parents=True)
    for name, text in UNITS.items():
        (units / name).write_text(text)
    (units / "modulus@masked-1.0.service").symlink_to("/dev/null")
    runtime = home / "run"
    (runtime / "systemd").mkdir(parents=True)
    address = f"unix:path={runtime}/bus"
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_RUNTIME_DIR": str(runtime),
        "DBUS_SESSION_BUS_ADDRESS": address,
    }
    log = home / "log"
    with log.open("w") as output, _cgroups() as groups:

        def join() -> None:
            for group in groups:
                (group / "cgroup.procs").write_text(str(os.getpid()))

        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", INSIDE, SYSTEMD],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=join,
        )
        manager = Manager(address, env, home / "systemd.pid")
        try:
            _wait_for(manager.is_up, log)
            yield manager
        finally:
            # Not the shell, which reaps the others and then ends.
            _kill_in(groups, process.pid)
            process.wait()


@contextlib.contextmanager
def _cgroups() -> Iterator[list[Path]]:
    """A control group in every hierarchy that systemd uses, removed when it is empty again."""
    tops = [Path("/sys/fs/cgroup", name) for name in ("", "systemd", "unified")]
    name = f"modulus-test-bus-{os.getpid()}"
    groups = [top / name for top in tops if (top / "cgroup.procs").exists()]
    for group in groups:
        group.mkdir()
    try:
        yield groups
    finally:
        _wait_for(lambda: all(map(_removed, groups)))


def _kill_in(groups: list[Path], spared: int) -> None:
    for group in groups:
        for procs in group.rglob("cgroup.procs"):
            for pid in map(int, procs.read_text().split()):
                if pid != spared:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def _removed(group: Path) -> bool:
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    return not group.exists()


def _wait_for(happened: Callable[[], bool], log: Path | None = None) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline, log and log.read_text()
        time.sleep(0.05)


@pytest.fixture
def systemd(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    """A connection; what the tests start is stopped after each."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", manager.address)
    with Systemd() as systemd:
        yield systemd
    manager.ctl("kill", "--signal=KILL", "modulus@*.service")
    manager.ctl("stop", "modulus@*.service")
    manager.ctl("reset-failed")


def start(systemd: Systemd, manager: Manager, instance: str, active: str) -> None:
    manager.ctl("start", "--no-block", unit_name(instance))
    _wait_for(lambda: systemd.unit_state(unit_name(instance)).active == active)


def test_every_state_of_a_unit_is_told(systemd: Systemd, manager: Manager) -> None:
    manager.ctl("enable", unit_name("idle-1.0"))
    start(systemd, manager, "good-1.0", "active")
    start(systemd, manager, "refused-1.0", "failed")
    manager.ctl("start", "--no-block", unit_name("failing-1.0"))
    manager.ctl("start", "--no-block", unit_name("slow-1.0"))
    failing = unit_name("failing-1.0")
    _wait_for(lambda: systemd.unit_state(failing).sub == "auto-restart")
    states = {
        name: systemd.unit_state(unit_name(f"{name}-1.0"))
        for name in ("good", "refused", "failing", "slow", "idle", "masked", "broken")
    }
    assert {
        name: (unit.active, unit.result, unit.exit_status, unit.job, unit.enabled)
        for name, unit in states.items()
    } == {
        "good": ("active", "success", 0, False, False),
        "refused": ("failed", "exit-code", 16, False, False),
        "failing": ("activating", "exit-code", 14, False, False),
        "slow": ("activating", "success", 0, True, False),
        "idle": ("inactive", "success", 0, False, True),
        "masked": ("inactive", "success", 0, False, False),
        "broken": ("inactive", "success", 0, False, False),
    }
    assert states["masked"].load == "masked"
    assert states["broken"].load == "bad-setting"
    assert systemd.unit_state("nothing.service").load == "not-found"
    assert {"good-1.0", "refused-1.0", "failing-1.0", "slow-1.0"} <= set(
        systemd.list_instances()
    )
    manager.ctl("disable", unit_name("idle-1.0"))
    assert not systemd.unit_state(unit_name("idle-1.0")).enabled


def test_stop_waits_until_the_unit_has_ended(systemd: Systemd, manager: Manager) -> None:
    start(systemd, manager, "good-1.0", "active")
    systemd.stop_unit(unit_name("good-1.0"), 10)
    assert systemd.unit_state(unit_name("good-1.0")).at_rest


def test_what_does_not_run_can_be_stopped(systemd: Systemd) -> None:
    systemd.stop_unit(unit_name("other-1.0"), 10)
    systemd.stop_unit("nothing.service", 10)


def test_a_unit_that_does_not_stop_in_time_is_an_error(
    systemd: Systemd, manager: Manager
) -> None:
    start(systemd, manager, "stubborn-1.0", "active")
    with pytest.raises(LockedError, match="did not stop within 1 s"):
        systemd.stop_unit(unit_name("stubborn-1.0"), 1)


def test_a_systemd_that_does_not_answer_is_not_waited_for(
    systemd: Systemd, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "CALL_SECONDS", 0.2)
    manager.signal(signal.SIGSTOP)
    try:
        with pytest.raises(LockedError, match="no answer within"):
            systemd.list_instances()
    finally:
        manager.signal(signal.SIGCONT)


def test_what_is_started_after_a_target_is_told_from_what_comes_with_it(
    systemd: Systemd, manager: Manager
) -> None:
    stubborn = unit_name("stubborn-1.0")
    # Nothing has reached this one.
    assert systemd.begun_before(stubborn, "shutdown.target")
    start(systemd, manager, "stubborn-1.0", "active")
    assert not systemd.begun_before(stubborn, "default.target")
    assert systemd.begun_before("default.target", stubborn)


def test_a_job_is_seen(systemd: Systemd, manager: Manager) -> None:
    name = unit_name("slow-1.0")
    assert systemd.job_type(name) is None
    manager.ctl("start", "--no-block", name)
    _wait_for(lambda: systemd.job_type(name) == "start")
    stubborn = unit_name("stubborn-1.0")
    start(systemd, manager, "stubborn-1.0", "active")
    manager.ctl("restart", "--no-block", stubborn)
    _wait_for(lambda: systemd.job_type(stubborn) == "restart")
    manager.ctl("stop", "--no-block", stubborn)
    _wait_for(lambda: systemd.job_type(stubborn) == "stop")


class Listener:
    """A loop with a bus in it."""

    def __init__(self, address: str) -> None:
        self.loop = Loop()
        self.lost: list[bool] = []
        self.bus = SystemBus(
            open_connection(address),
            lambda callback: self.loop.after(0, callback),
            lambda: self.lost.append(True),
        )

    def run(self, steps: Steps) -> None:
        drive(self.loop, steps)
        self.bus.close()


def ended(process: subprocess.Popen[bytes]) -> Callable[[], bool]:
    return lambda: process.poll() is not None


def test_a_reload_of_the_units_is_heard(manager: Manager) -> None:
    heard: list[bool] = []
    listener = Listener(manager.address)
    listener.bus.on_reloading(heard.append)

    def reload() -> Steps:
        heard.clear()
        while heard[-2:] != [True, False]:
            # The first may come before systemd knows that it is listened to.
            yield ended(manager.begin("daemon-reload"))

    def steps() -> Steps:
        yield from reload()
        heard.clear()
        ctl = manager.begin("daemon-reexec")
        # The new one has read its units.
        yield lambda: ctl.poll() is not None and heard and not heard[-1]
        yield from reload()

    listener.run(steps())
    assert not listener.lost


@pytest.mark.parametrize(
    ("instance", "kill", "end"),
    [
        ("good-1.0", None, ("inactive", "success", 0)),
        ("failing-1.0", None, ("failed", "exit-code", 14)),
        ("slow-1.0", "stop", ("failed", "signal", signal.SIGTERM)),
        ("slow-1.0", "kill", ("failed", "signal", signal.SIGTERM)),
    ],
)
def test_a_service_is_followed_to_its_end(
    manager: Manager, instance: str, kill: str | None, end: tuple[str, str, int]
) -> None:
    name = f"modulus-build@{instance}.service"
    states: list[UnitState] = []
    errors: list[ModulusError] = []
    listener = Listener(manager.address)

    def steps() -> Steps:
        listener.bus.on_unit(name, states.append)
        yield lambda: states
        assert states[-1].at_rest
        states.clear()
        listener.bus.start_unit(name, errors.append)
        if kill:
            yield lambda: states and states[-1].active == "activating" and states[-1].job
            yield ended(manager.begin(kill, name))
        yield lambda: states and states[-1].at_rest

    listener.run(steps())
    last = states[-1]
    assert (last.active, last.result, last.exit_status) == end
    assert not errors
    manager.ctl("reset-failed")


def test_what_cannot_be_started_is_told(manager: Manager) -> None:
    errors: list[ModulusError] = []
    listener = Listener(manager.address)

    def steps() -> Steps:
        listener.bus.start_unit("nothing.service", errors.append)
        listener.bus.reload_logind(errors.append)
        yield lambda: len(errors) == 2

    listener.run(steps())
    assert errors[0].message.startswith("cannot start nothing.service: Unit nothing.service")
    assert errors[1].message.startswith("logind cannot be told of its settings: ")


def test_without_a_bus_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    with pytest.raises(ModulusError, match="cannot reach the system bus"):
        Systemd()


def test_who_may_not_is_told_to_be_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"unix:path={tmp_path}/bus"
    config = tmp_path / "bus.conf"
    config.write_text(DENYING.format(address=address))
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
    import pydbus

    command = ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as daemon:
        try:
            _wait_for((tmp_path / "bus").exists)
            with pydbus.connect(address) as other, pytest.raises(UsageError) as raised:
                other.request_name("org.freedesktop.systemd1")
                Systemd().list_instances()
            assert raised.value.hint == "run it as root"
        finally:
            daemon.kill()


def test_another_root_has_no_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/somewhere")
    assert available(Path("/"))
    assert not available(tmp_path)


@pytest.mark.parametrize(
    ("instance", "active", "code", "told"),
    [
        ("good-1.0", "active", 0, "good-1.0 is ready"),
        ("refused-1.0", "failed", 16, "modulus: error: refused-1.0: its unit failed"),
        ("failing-1.0", "activating", 20, "modulus: error: failing-1.0: waited past 1 s"),
        ("slow-1.0", "activating", 20, "modulus: error: slow-1.0: waited past 1 s"),
        (None, "", 0, "no driver is being started"),
    ],
)
def test_a_boot_is_held_as_long_as_systemd_says(
    systemd: Systemd,
    manager: Manager,
    instance: str | None,
    active: str,
    code: int,
    told: str,
) -> None:
    manager.ctl("enable", unit_name("idle-1.0"))
    if instance:
        start(systemd, manager, instance, active)
    log = io.StringIO()
    done = wait(Site(Path("/"), None, (), None), PlainReporter(log), 1)
    assert (done.code, [standing.instance for standing in done.standings]) == (
        code,
        [instance] if instance else [],
    )
    assert told in log.getvalue()


def test_a_start_that_is_under_way_is_seen_to_its_end(
    systemd: Systemd, manager: Manager
) -> None:
    start(systemd, manager, "slow-1.0", "activating")
    go = Path(manager.env["XDG_RUNTIME_DIR"], "go")
    log = io.StringIO()

    def sleep(seconds: float) -> None:
        go.touch()
        time.sleep(seconds)

    done = wait(Site(Path("/"), None, (), None), PlainReporter(log), 60, sleep=sleep)
    go.unlink()
    assert done.code == 0
    assert log.getvalue().splitlines() == [
        "wait: for slow-1.0: its unit is activating (start)",
        "wait: slow-1.0 is ready",
    ]


def test_a_start_that_is_called_off_holds_no_more(systemd: Systemd, manager: Manager) -> None:
    start(systemd, manager, "slow-1.0", "activating")

    def sleep(_: float) -> None:
        manager.ctl("stop", unit_name("slow-1.0"))

    site = Site(Path("/"), None, (), None)
    assert wait(site, QUIET, 60, sleep=sleep).standings == ()
