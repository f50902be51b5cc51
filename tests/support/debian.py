"""Small Debian systems for tests: made once of the distribution's packages, then only read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.packages import (
    UnavailableError,
    cache_folder,
    candidate,
    distribution_sources,
    locked,
)

# Their pages and texts in other languages are half of a small system.
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")


def debian_root(packages: Sequence[str] = ()) -> Path:
    """The root folder of a minimal system of this machine's distribution with ``packages``.

    It has the machine's own apt sources, and their lists. It is shared by all tests, so
    nobody may write to it: copy it (``cp -a``), or use ``writable``. It is made anew when the
    distribution has another version of one of ``packages``, or a point release. Raises
    UnavailableError where no such system can be made.
    """
    if os.geteuid():
        raise UnavailableError("only root can make a system of Debian packages")
    names = sorted(set(packages))
    sources = distribution_sources(Path("/etc/apt"))
    # base-files changes with every point release.
    versions = [f"{name}={candidate(name)}" for name in ("base-files", *names)]
    family = _digest([sources, *names])
    final = cache_folder() / "debian" / f"{family}-{_digest(versions)}"
    with locked("debian"):
        if not final.exists():
            for old in final.parent.glob(f"{family}-*"):
                shutil.rmtree(old)
            final.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".new-", dir=final.parent) as scratch:
                _make(Path(scratch), sources, names).rename(final)
    return final


@contextlib.contextmanager
def writable(root: Path, scratch: Path) -> Iterator[Path]:
    """A view of ``root`` that may be written; what is written lies below ``scratch``."""
    upper, work, merged = (scratch / name for name in ("upper", "work", "merged"))
    for folder in (upper, work, merged):
        folder.mkdir(parents=True)
    layers = f"lowerdir={root},upperdir={upper},workdir={work}"
    mount = ["mount", "-t", "overlay", "-o", layers, "overlay", str(merged)]
    if subprocess.run(mount, capture_output=True).returncode:
        # No overlay can be mounted here, such as on top of another one.
        merged.rmdir()
        subprocess.run(["cp", "-a", "--reflink=auto", str(root), str(merged)], check=True)
        yield merged
        return
    try:
        yield merged
    finally:
        subprocess.run(["umount", str(merged)], check=True)


@dataclass(frozen=True)
class Done:
    """How a command inside of a system ended; ``text`` is all it said."""

    status: int
    text: str


def inside(root: Path, *command: str, binds: Sequence[str] = ()) -> Done:
    """Runs ``command`` in ``root``, with the machine's network and no service.

    ``binds`` are FOLDER or FOLDER:PLACE, mounted read-only.
    """
    words = [
        "systemd-nspawn",
        "--quiet",
        "--directory",
        str(root),
        "--as-pid2",
        "--register=no",
        "--keep-unit",
        "--pipe",
        "--resolv-conf=replace-host",
        "--setenv=DEBIAN_FRONTEND=noninteractive",
        "--setenv=LANG=C.UTF-8",
        *(f"--bind-ro={bind}" for bind in binds),
        *command,
    ]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    # nspawn's own word where /run is on a disk.
    noise = re.compile(r"Attempted to remove disk file system under .*\n?")
    return Done(done.returncode, noise.sub("", done.stdout + done.stderr))


def _make(scratch: Path, sources: str, names: Sequence[str]) -> Path:
    """Makes the system in ``scratch``."""
    root, listed, options = scratch / "root", scratch / "own.sources", scratch / "options"
    listed.write_text(sources)
    options.write_text(_network_options())
    cleanup = 'rm "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"'
    command = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        *(f"--include={name}" for name in names),
        f"--aptopt={options}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
        f"--customize-hook={cleanup}",
        "--skip=cleanup/apt/lists",
        platform.freedesktop_os_release()["VERSION_CODENAME"],
        str(root),
        str(listed),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"mmdebstrap made no system: {done.stderr.strip()[-2000:]}")
    return root


def _network_options() -> str:
    """How this machine's apt reaches its sources, such as by a proxy."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    wanted = re.compile(r'Acquire::(?:https?|Retries)\b.* ".+";')
    return "".join(f"{line}\n" for line in dump.stdout.splitlines() if wanted.match(line))


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
