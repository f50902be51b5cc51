"""Begins to hash what is about to be loaded, before anything but hashlib is imported.

Imports are most of a warm start, and the hashes take as long. A process of its own makes them
meanwhile: a thread would wait for each import that goes on, and they for it. To begin at once,
only what takes no time is imported here, and hashlib where there is something to hash.
"""

from __future__ import annotations

import os
import stat
from io import FileIO

from modulus.host.files.paths import resolve_text

# As in ``typing``, which by itself takes longer to import than all that is needed here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NOT_LOADING = frozenset(("--watch", "--repair", "--no-load", "-h", "--help"))
_DRIVERS = "/opt/drivers"
"""As in ``place``."""


class Ahead:
    """A process that hashes files.

    It ends when it has hashed them, is told to, or finds that nobody listens.
    """

    def __init__(self, pid: int, read: int) -> None:
        self._pid = pid
        self._lines = FileIO(read)

    def wait(self) -> dict[str, str]:
        """The hashes, in hexadecimal, by path, once it has ended; to be called once."""
        # What comes after the last mark is of a process that was killed.
        found = os.fsdecode(self._lines.read()).split("\0")[:-1]
        self.end()
        return {path: digest for digest, _, path in (each.partition(" ") for each in found)}

    def end(self) -> None:
        """Ends the process for who waits for no hashes any more; nothing after ``wait``."""
        if self._lines.closed:
            return
        import signal

        self._lines.close()
        try:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # Who started us has the kernel forget processes that end.


def hash_ahead(argv: Sequence[str]) -> Ahead | None:
    """Begins with what ``up`` is about to load, where a glance at its words tells.

    A guess, which costs nothing but time where it is wrong: who loads modules finds out
    which they are, and takes the hash of no other file. None where there is nothing to load.
    """
    if argv[:1] != ["up"] or not _NOT_LOADING.isdisjoint(argv):
        return None
    name = argv[1].rpartition("-")[0] if argv[1:] else ""
    if not name or name.startswith("-") or "/" in name:
        return None
    try:
        paths = find_modules(os.path.realpath(_find_root(argv)), name)
    except OSError:
        return None
    return begin(paths) if paths else None


def _find_root(argv: Sequence[str]) -> str:
    """The last one that is given, as for who parses the words."""
    root = ""
    for at, word in enumerate(argv):
        option, given, value = word.partition("=")
        if option == "--root":
            root = value if given else "".join(argv[at + 1 : at + 2])
    return root or "/"


def find_modules(root: str, name: str) -> list[str]:
    """The modules of driver ``name`` for the running kernel that are not loaded.

    Whether they will do is for others to find out. Raises OSError where there is no such
    driver.
    """
    with open(f"{root}/proc/sys/kernel/osrelease", "rb", buffering=0) as file:
        release = os.fsdecode(file.read(256)).strip()
    folder = resolve_text(root, f"{_DRIVERS}/{name}/lib/modules/{release}")
    modules = sorted(
        file.removesuffix(".ko") for file in os.listdir(folder) if file.endswith(".ko")
    )
    return [
        f"{folder}/{module}.ko"
        for module in modules
        if not os.path.isdir(f"{root}/sys/module/{module.replace('-', '_')}")
    ]


def begin(paths: Iterable[str]) -> Ahead | None:
    """Starts the process, which hashes the files ``paths``; None where none can be made, so
    that who asks hashes them himself."""
    try:
        read, write = os.pipe()
    except OSError:
        return None
    try:
        pid = os.fork()
    except OSError:
        os.close(read)
        os.close(write)
        return None
    if pid == 0:
        # Nothing of ours is written twice, and no error is told: who asks finds out himself.
        try:
            os.close(read)
            _hash(paths, write)
        finally:
            os._exit(0)
    os.close(write)
    return Ahead(pid, read)


def _hash(paths: Iterable[str], write: int) -> None:
    """Writes a record for each file that can be read."""
    from modulus.host.files.digest import hash_open

    for path in paths:
        try:
            with open(path, "rb", buffering=0, opener=_open) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    continue
                digest = hash_open(file)
        except OSError:
            continue
        os.write(write, os.fsencode(f"{digest} {path}\0"))


def _open(path: str, flags: int) -> int:
    """Neither another file than the one of that name, nor a wait for what never comes."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
