"""Runs a command and takes what it cost by the clock and in CPU time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.bench.ratios import Cost

_SYSTEMD = Path("/run/systemd/system")
_LAST_LINES = 20


class FailedError(Exception):
    """A command that is measured did not do what it was to do."""


class Meter:
    """Measures one thing at a time; where others share the machine ``lock`` is held meanwhile.

    What the commands say goes to ``log``.
    """

    def __init__(self, log: Path, lock: Path | None = None) -> None:
        self._log = log
        self._lock = lock
        self._held = False

    def run(
        self,
        *argv: object,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        output: Path | None = None,
    ) -> Cost:
        """The cost of a command and all its children; FailedError unless it ends with 0."""

        return self.call(lambda: self.work(*argv, cwd=cwd, env=env, output=output))

    def call(self, work: Callable[[], object]) -> Cost:
        """The cost of what ``work`` has its child processes do."""
        with self.alone():
            # What was written before is written back now and not during the measurement.
            os.sync()
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            work()
            wall = time.monotonic() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        return Cost(wall, cpu)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the lock, if there is one; what is measured within shares it."""
        if self._lock is None or self._held:
            yield
            return
        with open(self._lock, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._held = True
            try:
                yield
            finally:
                self._held = False

    def work(
        self,
        *argv: object,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        output: Path | None = None,
    ) -> None:
        """Runs a command without measuring it; FailedError unless it ends with 0."""
        words = [str(word) for word in argv]
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(open(self._log, "ab"))
            log.write(f"$ {shlex.join(words)}\n".encode())
            log.flush()
            begin = log.tell()
            out = stack.enter_context(open(output, "wb")) if output else log
            done = subprocess.run(
                words,
                cwd=cwd,
                env={**os.environ, **env} if env else None,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
            )
        if done.returncode:
            with open(self._log, "rb") as written:
                written.seek(begin)
                said = written.read().decode("utf-8", "replace").splitlines()[-_LAST_LINES:]
            raise FailedError(
                f"{shlex.join(words)} ended with {done.returncode}:\n" + "\n".join(said)
            )


def as_child(argv: Sequence[str]) -> list[str]:
    """``argv`` such that all its work is done by its own children, whose time is counted.

    Where systemd runs, Modulus has it start the compiler; out of its sight it does not.
    """
    if not _SYSTEMD.is_dir():
        return list(argv)
    hide = 'mount -t tmpfs none /run/systemd && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", hide, "sh", *argv]


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of all files by the folder they are in at the top; one of several names counts
    once."""
    found: dict[str, int] = {}
    seen: set[int] = set()
    for parent, _, names in os.walk(folder):
        top = Path(parent).relative_to(folder).parts[:1]
        for name in names:
            status = os.lstat(os.path.join(parent, name))
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                key = top[0] if top else name
                found[key] = found.get(key, 0) + status.st_size
    return found


def clone(source: Path, target: Path, *, linked: bool = False) -> None:
    """Copies a folder as it is; ``linked`` gives its files a second name instead."""
    option = "-al" if linked else "-a"
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", option, "--reflink=auto", source, target], check=True)


def remove(folder: Path) -> None:
    """Deletes a folder that may not be there."""
    shutil.rmtree(folder, ignore_errors=True)
