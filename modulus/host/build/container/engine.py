"""podman and docker as build containers: the same command line, different values."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import stat
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from modulus.core.ids import PIECE
from modulus.errors import ToolchainError
from modulus.host.build.container.base import TIED, UID, WORK, Mount, Way, give_writable
from modulus.host.build.container.ids import namespaces_missing
from modulus.host.build.container.limits import TASKS, Group, Limits, at_most, hold
from modulus.host.files.atomic import remove_tree
from modulus.host.process import run

_DOCKER_PID = Path("/run/docker.pid")
_RUN_PREFIX = "podman."
_OPEN_FILES = 4096
_SECONDS = 60.0
_IMPORT_SECONDS = 900.0


def podman_missing() -> str:
    """Why podman cannot be used here; empty if it can."""
    if run.find("podman") is None:
        return "podman is not installed"
    if not any(run.find(runtime) for runtime in ("crun", "runc")):
        return "podman has no runtime (crun or runc)"
    return namespaces_missing()


def docker_missing() -> str:
    """Why docker cannot be used here; empty if it can.

    Its service must already run: asking the socket would start it, and a unit ordered before
    docker that waits for docker waits for ever.
    """
    if run.find("docker") is None:
        return "docker is not installed"
    try:
        pid = int(_DOCKER_PID.read_text())
        running = Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd"
    except (OSError, ValueError):
        running = False
    return "" if running else "docker's service is not running"


def podman_ways(
    root: Path,
    mounts: Sequence[Mount],
    state: Path,
    name: str,
    group: Group | None,
    limits: Limits,
    first_id: int | None,
) -> list[Way]:
    """With podman's own choice of runtime, or with runc where that refuses.

    The payload is in a user namespace with the ids from ``first_id`` on. Without root
    ``first_id`` is None, and ``build`` is the user's own id outside. podman keeps its state in
    the folder ``state``: little but what it would write into the root (``/etc/hosts`` and the
    like).
    """
    podman = _podman(state)
    if first_id is None:
        more = [f"--userns=keep-id:uid={UID},gid={UID}"]
    else:
        give_writable(mounts, first_id + UID)
        more = [f"--{kind}map=0:{first_id}:{PIECE}" for kind in ("uid", "gid")]
        more.append(f"--pids-limit={limits.tasks or TASKS}")
    options = (
        *_options(mounts, UID),
        f"--name={name}",
        *(f"--ulimit={text}" for text in _ulimits(limits)),
        "--replace",
        "--no-hosts",
        # Otherwise the caller's proxy, password included, would be in the container.
        "--http-proxy=false",
        *more,
        *((f"--cgroup-parent={group.path}",) if group else ()),
        "--rootfs",
        f"{root}:O",
    )
    found = []
    for runtime in ((), ("--runtime=runc",)):
        # A pid namespace ends all with us; without root, the end of standard input does.
        front = (*(() if first_id is None else TIED), *podman, *runtime)
        end = partial(_quiet, (*front, "rm", "--force", name))
        found.append(
            Way(
                (*front, "run", "--interactive", *options),
                (*front, "run", "--interactive", "--tty", *options),
                flags="wo",
                join=False,
                end=end,
            )
        )
    return found


@contextlib.contextmanager
def run_folder() -> Iterator[Path]:
    """A folder for podman's state while it runs; those of dead processes are removed.

    Not in a scratch folder: podman lets all users pass through the folders above it, and takes
    names of at most 50 characters.
    """
    parent = Path("/run/modulus")
    if os.geteuid() != 0:
        parent = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
        parent /= f"modulus-{os.geteuid()}"
    parent.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700, exist_ok=True)
    state = parent.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o022:
        raise ToolchainError(
            f"{parent} is not a folder of ours alone, which podman needs", f"remove {parent}"
        )
    lock = hold(parent, wait=True)
    try:
        for stale in parent.glob(f"{_RUN_PREFIX}*"):
            with contextlib.suppress(OSError):
                held = hold(stale)
                _discard(stale)
                os.close(held)
        folder = Path(tempfile.mkdtemp(prefix=_RUN_PREFIX, dir=parent))
        held = hold(folder)
    finally:
        os.close(lock)
    try:
        yield folder
    finally:
        _discard(folder)
        os.close(held)


def _podman(folder: Path) -> tuple[str, ...]:
    """podman with folders of its own, so that the user's containers are left alone.

    conmon leaves a file ``oom`` in the folder it is started in when memory ran out.
    """
    return (
        *("env", "-C", str(folder)),
        "podman",
        f"--root={folder}/root",
        f"--runroot={folder}/run",
        f"--tmpdir={folder}/state",
        "--cgroup-manager=cgroupfs",
        "--events-backend=none",
        "--log-level=error",
    )


def _discard(folder: Path) -> None:
    """Removes a run folder; ends the process that keeps rootless podman's namespace."""
    if os.geteuid() != 0:
        # Without root, files of the payload's user are removed in podman's namespace.
        _quiet((*_podman(folder), "unshare", "rm", "-rf", folder / "run"))
    with contextlib.suppress(OSError, ValueError):
        os.kill(int((folder / "state/pause.pid").read_text()), signal.SIGKILL)
    remove_tree(folder)


def docker_ways(
    root: Path,
    mounts: Sequence[Mount],
    scratch: Path,
    name: str,
    limits: Limits,
    first_id: int | None,
) -> list[Way]:
    """The root becomes an image once; the daemon holds the limits.

    docker has one user namespace for all containers, or none. So the payload's id is one that
    nobody has inside or outside; without root it is the user's own.
    """
    user = os.geteuid() if first_id is None else first_id + UID
    give_writable(mounts, user)
    # Not a name: a name stays taken while the daemon still makes a container whose client was
    # killed. Such a container never starts; the next build with this label removes it.
    label = f"label=modulus.build={name}"
    options = [*_options(mounts, user), "--label", label.partition("=")[2]]
    options.append(f"--env=HOME={WORK}")
    if limits.memory is not None:
        options += [f"--memory={limits.memory}", f"--memory-swap={limits.memory}"]
    if limits.cpus is not None:
        options.append(f"--cpus={limits.cpus:g}")
    if limits.tasks is not None:
        options.append(f"--pids-limit={limits.tasks}")
    options.append(_docker_image(root, scratch))
    remove = partial(_remove_labelled, label)
    return [
        Way(
            ("docker", "run", "--interactive", *options),
            ("docker", "run", "--interactive", "--tty", *options),
            flags="wo",
            join=False,
            begin=remove,
            end=remove,
        )
    ]


def _options(mounts: Sequence[Mount], user: int) -> tuple[str, ...]:
    return (
        "--rm",
        "--hostname=modulus",
        "--network=none",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        "--read-only",
        f"--user={user}:{user}",
        *(f"--mount={_bind(mount)}" for mount in mounts),
    )


def _bind(mount: Mount) -> str:
    return f"type=bind,source={mount.source},target={mount.target}" + (
        "" if mount.writable else ",readonly"
    )


def _ulimits(limits: Limits) -> list[str]:
    """Limits no higher than our own: podman would raise them, which not every root may."""
    found = []
    for name, number in (("nofile", _OPEN_FILES), ("nproc", limits.tasks or TASKS)):
        soft, hard = at_most(name, number)
        found.append(f"{name}={soft}:{hard}")
    return found


def _docker_image(root: Path, scratch: Path) -> str:
    """The image of ``root``, imported where docker does not have it yet."""
    state = root.stat()
    identity = f"{root.resolve()} {state.st_dev} {state.st_ino} {state.st_ctime_ns}"
    image = f"modulus-toolchain:{hashlib.sha256(identity.encode()).hexdigest()[:32]}"
    if run.run(("docker", "image", "inspect", image), ok=run.ANY_STATUS).status:
        archive = scratch / "root.tar"
        tar = ("tar", "--numeric-owner", "-C", root, "-cf", archive, ".")
        run.run(tar, timeout=_IMPORT_SECONDS)
        run.run(("docker", "import", archive, image), timeout=_IMPORT_SECONDS)
        archive.unlink()
    return image


def _remove_labelled(label: str) -> None:
    listed = run.run(("docker", "ps", "--all", "--quiet", "--filter", label), timeout=_SECONDS)
    if found := listed.stdout.split():
        _quiet(("docker", "rm", "--force", *found))


def _quiet(argv: Sequence[str | Path]) -> None:
    run.run(argv, timeout=_SECONDS, ok=run.ANY_STATUS)
