"""A node for tests: a root of its own, and Modulus run on it as a user would."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from modulus.host.store.objects import Objects
from modulus.host.store.store import Entry, Store
from tests.support.packages import cache_folder

_SHARED = ("headers", "toolchains")
_KINDS = ("downloads", "objects", "userspace")


@dataclass(frozen=True)
class Done:
    """How a run ended; ``peak`` is the most memory the Python process had, in KiB."""

    status: int
    stdout: str
    stderr: str
    peak: int

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


class Node:
    """A root at ``path`` with a kernel, settings, and headers and toolchains shared by all.

    What is dear to download lies in the tests' cache; downloads and builds are its own.
    """

    def __init__(self, path: Path, kernel: str = "", **settings: Any) -> None:
        self.path = path
        self.cache = path / "var/cache/modulus"
        self.cache.mkdir(parents=True)
        for kind in _SHARED:
            (self.cache / kind).mkdir()
            for entry in (cache_folder() / kind).glob("[!.]*"):
                (self.cache / kind / entry.name).symlink_to(entry)
        conf = path / "etc/ld.so.conf"
        conf.parent.mkdir()
        conf.write_text("include /etc/ld.so.conf.d/*.conf\n")
        if kernel:
            self.boot(kernel)
        self.configure(**settings)

    def boot(self, kernel: str) -> None:
        """Has this kernel run."""
        file = self.path / "proc/sys/kernel/osrelease"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{kernel}\n")

    def configure(self, **settings: Any) -> None:
        """Replaces the settings."""
        file = self.path / "etc/modulus/modulus.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(settings))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Starts ``modulus WORDS --root PATH``."""
        return subprocess.Popen(
            [sys.executable, "-m", "modulus", *words, "--root", str(self.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> Done:
        """Runs it to its end."""
        process, peak = self.start(*words), 0
        with process:
            out: list[str] = []
            while not out:
                peak = max(peak, _peak(process.pid))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    out = list(process.communicate(timeout=0.05))
        self.share()
        return Done(process.returncode, out[0], out[1], peak)

    def share(self) -> None:
        """Has the next node find what was downloaded for this one."""
        for kind in _SHARED:
            shared = cache_folder() / kind
            shared.mkdir(exist_ok=True)
            for entry in (self.cache / kind).glob("[!.]*"):
                # Another test may have been quicker.
                if not entry.is_symlink() and not (shared / entry.name).exists():
                    with contextlib.suppress(OSError):
                        entry.rename(shared / entry.name)
                        entry.symlink_to(shared / entry.name)

    def modules(self, release: str) -> dict[str, Path]:
        """The modules in the store, by file name, as copies beside the node."""
        copies = self.path.with_name(f"{self.path.name}-modules") / release
        copies.mkdir(parents=True, exist_ok=True)
        found = {}
        for entry in stored(self.cache):
            for name, module in entry.modules.items() if entry.release == release else ():
                found[name] = copies / name
                found[name].unlink(missing_ok=True)
                module.write(found[name], 0o644)
        return found

    def digests(self, release: str) -> dict[str, str]:
        """The sha256 of the modules in the store, by file name."""
        return {
            name: hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in self.modules(release).items()
        }

    def leftovers(self) -> list[Path]:
        """Hidden scratch folders that no finished run may leave."""
        patterns = ("builds/*/.*.????????", *(f"{kind}/.*.????????" for kind in _KINDS))
        found = [path for pattern in patterns for path in self.cache.glob(pattern)]
        return found + list(self.path.glob("opt/drivers/.*/.*"))


def stored(cache: Path) -> list[Entry]:
    """The builds in a cache."""
    return list(Store(cache, ()).entries())


def parts_of(entry: Entry) -> list[Path]:
    """The folder of a build, and the objects that it needs."""
    objects = Objects(entry.path.parents[2])
    return [entry.path, *map(objects.path, sorted(entry.needs))]


def processes(word: str) -> list[int]:
    """The pids of processes that have ``word`` in their command line or their root."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            text = (folder / "cmdline").read_bytes().decode("utf-8", "replace")
            if int(folder.name) != os.getpid() and word in text:
                found.append(int(folder.name))
    return found


def wait_gone(word: str, seconds: float = 10) -> list[int]:
    """The pids of ``processes(word)`` that are still there after ``seconds``."""
    deadline = time.monotonic() + seconds
    while (left := processes(word)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def wait_there(word: str, seconds: float = 10) -> list[int]:
    """The pids of ``processes(word)``, once there are any; none after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (found := processes(word)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _peak(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0
