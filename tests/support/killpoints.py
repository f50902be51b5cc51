"""Kills a program at a system call of its choice, as strace(1) can, or after some time.

A call that changes files is a point: the program is killed just before it does it. What is
between two such calls looks the same from outside.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import packages
from tests.support.packages import UnavailableError

CALLS = (
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"),
    *("symlink", "symlinkat", "link", "linkat", "mknod", "mknodat", "chmod", "fchmod"),
    *("fchmodat", "chown", "fchown", "lchown", "fchownat", "utimensat", "write", "pwrite64"),
    *("ftruncate", "copy_file_range", "sendfile", "fsync", "fdatasync", "syncfs", "flock"),
)
"""What changes files, makes changes last, and locks. That a file was opened to be written is
seen at the first call upon it."""

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, linux/prctl.h
_LONGEST = 120  # seconds


@dataclass(frozen=True)
class Point:
    """The ``number``th call of ``call``; ``text`` is what strace says of it."""

    call: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.call} {self.number}: {self.text}"


@dataclass(frozen=True)
class Killer:
    """Runs one command with an environment, from ``folder``, and kills it.

    What the command says goes to ``log`` there.
    """

    command: Sequence[str]
    env: Mapping[str, str]
    folder: Path

    @property
    def log(self) -> Path:
        """What the last run said."""
        return self.folder / "said"

    def run(self) -> int:
        """Runs it to its end; its exit status."""
        return self._run(self.command)

    def points(self, below: Path, code: int = 0) -> list[Point]:
        """The points of one whole run that ends with ``code``, in order, at which something
        ``below`` is concerned."""
        trace = self.folder / "trace"
        status = self._run([*self._strace(CALLS, trace), "-y", *self.command])
        assert status == code, self.log.read_text()
        found, counts = [], Counter[str]()
        for line in trace.read_text("utf-8", "replace").splitlines():
            call = line.partition("(")[0]
            if re.fullmatch(r"\w+", call):
                counts[call] += 1
                if str(below) in line:
                    found.append(Point(call, counts[call], line.replace(str(below), "")))
        return found

    def kill(self, point: Point) -> bool:
        """Runs it until it is killed at ``point``; False if it came to its end before."""
        inject = f"inject={point.call}:signal=KILL:when={point.number}"
        traced = self._strace([point.call], Path(os.devnull))
        return self._run([*traced, "-e", inject, *self.command]) == -signal.SIGKILL

    def kill_after(self, seconds: float) -> bool:
        """Runs it until it is killed after ``seconds``; False if it came to its end before."""
        timeout = ["timeout", "--foreground", "--signal=KILL", f"{seconds:f}"]
        return self._run([*timeout, *self.command]) in (-signal.SIGKILL, 128 + signal.SIGKILL)

    def _strace(self, calls: Sequence[str], output: Path) -> list[str]:
        # A "?" before a name: not every architecture has all.
        named = ",".join(f"?{call}" for call in calls)
        return [
            *strace(),
            "-qq",
            "-o",
            str(output),
            "-e",
            "signal=none",
            "-e",
            f"trace={named}",
        ]

    def _run(self, argv: Sequence[str]) -> int:
        """How it ended, once all the processes that it started have ended too.

        Those of a killed program that go on would do so in the middle of the next run.
        """
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = self._reap(argv)
            finally:
                os._exit(status & 0xFF)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code >= 0, f"{argv} does not end"
        # Signals come as the end of a byte.
        return code - 256 if code > 192 else code

    def _reap(self, argv: Sequence[str]) -> int:
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_LONGEST)
        with open(self.log, "w") as log:
            process = subprocess.Popen(
                argv,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        status = process.wait()
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()
        return status


@functools.cache
def strace() -> tuple[str, ...]:
    """The command line that strace begins with: the system's, or the distribution's current
    one, which is only unpacked. Raises UnavailableError where nothing may be traced."""
    found = shutil.which("strace")
    argv: tuple[str, ...] = (found,) if found else _downloaded()
    done = subprocess.run(
        [*argv, "-qq", "-o", os.devnull, "true"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UnavailableError(f"nothing can be traced here: {done.stderr.strip()}")
    return argv


def _downloaded() -> tuple[str, ...]:
    folder = packages.cache_folder() / "strace"
    with packages.locked("strace"):
        for name in ("strace", "libunwind8"):
            packages.unpack(packages.download(name), folder)
    libraries = {str(path.parent) for path in folder.rglob("*.so.*")}
    paths = ":".join(sorted(libraries))
    # For strace alone: what it runs has none of it.
    return (
        *("env", f"LD_LIBRARY_PATH={paths}"),
        *(str(folder / "usr/bin/strace"), "-E", "LD_LIBRARY_PATH"),
    )


def spread(points: Sequence[Point], count: int) -> list[Point]:
    """``count`` of the points, evenly, from the first to the last."""
    if len(points) <= count:
        return list(points)
    return [points[round(n * (len(points) - 1) / (count - 1))] for n in range(count)]
