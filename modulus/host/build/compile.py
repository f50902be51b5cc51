"""Compiles kernel modules in a build container and takes nothing the kernel would refuse."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable, Sequence
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from modulus.core.build.recipe import RESULTS_AT, Recipe
from modulus.core.build.script import (
    FOLDER,
    NAME,
    build_script,
    patch_names,
    payload_names,
    recipe_digest,
)
from modulus.core.kernel.symvers import Export, parse_symvers
from modulus.core.profile.build_causes import DISK_FULL, OUT_OF_MEMORY, Diagnosis
from modulus.core.profile.progress import KBUILD, Progress, globs, predict
from modulus.errors import BuildError, LastingBuildError, ToolchainError
from modulus.host.build.module_check import Module, check_modules
from modulus.host.files.atomic import remove_tree
from modulus.host.files.digest import hash_file
from modulus.host.files.regular import read_text

if TYPE_CHECKING:
    from modulus.host.distribution.headers import Headers
    from modulus.host.report.reporter import Reporter

_TIME_LIMIT = 2 * 3600.0
"""Seconds; the slowest build known, under emulation, takes half an hour."""

_PAYLOAD = Path(__file__).parents[2] / "payload"
_KILLED = 128 + 9

_TELL_SECONDS = 1.0

_HARDLY_ANY = 1 << 20
"""Bytes; with less room left a disk counts as full, whatever the tools made of it."""

_LEFT_BYTES = 256 << 20
_LEFT_SHARE = 0.02
"""What a build has to leave of a disk, for all else that is on it."""


class Container(Protocol):
    """What a build needs of a build container."""

    @property
    def oom(self) -> bool:
        """Whether the last command was killed for want of memory."""

    def path(self, target: str) -> str:
        """Where the payload sees what is mounted at ``target``."""

    def run(
        self,
        argv: Sequence[str],
        *,
        on_line: Callable[[str], None],
        timeout: float,
        check: Callable[[], None],
    ) -> int:
        """Runs ``argv`` to its end and returns its exit status. Its output goes to ``on_line``;
        ``check`` is called now and then."""


def compile_modules(
    container: Container,
    recipe: Recipe,
    *,
    sources: Path,
    headers: Headers,
    out: Path,
    log: Path,
    reporter: Reporter,
    again: bool = False,
) -> tuple[Module, ...]:
    """Compiles the recipe's modules into ``out``, stripped, and checks them.

    ``sources``, ``headers.path`` and ``out`` are what the container has at ``/src``,
    ``/usr/src/linux`` and ``/out``; its ``/build`` is empty, or with ``again`` has the sources
    and the objects that make need not make. All output goes to ``log`` as it comes.
    ToolchainError for headers of another kernel, BuildError for anything that keeps the modules
    from being built or used; the script then stays in ``out`` for inspection.
    """
    kernel = _kernel_exports(headers, recipe.release)
    script = _write_script(container, recipe, out, again)
    progress = Progress(
        (work, predict(work, _texts(sources, globs(work, recipe.modules)), recipe.modules))
        for work in (*recipe.work, *KBUILD)
    )
    diagnosis = Diagnosis(recipe.causes, recipe.release)
    with open(log, "wb", buffering=0) as file, _Teller(progress, reporter) as teller:
        written = _Log(file)
        teller.tell()

        def on_line(line: str) -> None:
            written.line(line)
            diagnosis.line(line)
            if progress.line(line):
                teller.tell()

        status = container.run(
            ("/bin/sh", script),
            on_line=on_line,
            timeout=_TIME_LIMIT,
            check=lambda: _check_disk(out),
        )
    # make may go on after a test was killed, with a wrong answer from that test.
    if status or container.oom:
        for line in diagnosis.shown:
            reporter.error(line)
        raise _failure(status, container.oom, diagnosis, out)
    if written.error:
        raise BuildError(f"cannot write {log}: {written.error.strerror}", DISK_FULL.remedy)
    modules = check_modules(
        recipe,
        kernel,
        out,
        srcversion=headers.config.enabled("CONFIG_MODULE_SRCVERSION_ALL"),
    )
    reporter.progress("build", progress.total, progress.total)
    remove_tree(out / FOLDER)
    return modules


def digest_of(recipe: Recipe, *, contained: bool) -> str:
    """The digest of ``recipe`` for the key of a build, ``contained`` in a container or not."""
    payload = {name: hash_file(_PAYLOAD / name) for name in payload_names(recipe)}
    return recipe_digest(recipe, payload, contained=contained)


class _Teller:
    """Reports progress as it comes and by the clock: one object may take a minute."""

    def __init__(self, progress: Progress, reporter: Reporter) -> None:
        self._progress = progress
        self._reporter = reporter
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Teller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def tell(self) -> None:
        with self._lock:
            self._reporter.progress("build", self._progress.done, self._progress.total)

    def _run(self) -> None:
        while not self._ended.wait(_TELL_SECONDS):
            self.tell()


class _Log:
    """The log file, a line at a time; remembers a full disk rather than ending the build."""

    def __init__(self, file: RawIOBase) -> None:
        self._file = file
        self.error: OSError | None = None

    def line(self, line: str) -> None:
        try:
            self._file.write(line.encode("utf-8", "replace") + b"\n")
        except OSError as error:
            self.error = self.error or error


def _kernel_exports(headers: Headers, release: str) -> dict[str, Export]:
    """The kernel's exports; ToolchainError for headers that are not those of ``release``."""
    build = headers.path / "build"
    try:
        utsrelease = read_text(build / "include/generated/utsrelease.h")
        exports = parse_symvers(read_text(build / "Module.symvers").splitlines())
    except OSError as error:
        lacking = Path(error.filename).relative_to(headers.path)
        raise ToolchainError(
            f"the headers of {release} lack {lacking} ({error.strerror})",
            "install or provision the complete headers of this kernel",
        ) from None
    found = re.search(r'UTS_RELEASE "([^"]*)"', utsrelease)
    if not found or found[1] != release:
        raise ToolchainError(
            f"the headers for {release} are those of {found[1] if found else 'no kernel'}",
            "install or provision the headers of this very kernel",
        )
    return exports


def _texts(sources: Path, patterns: Sequence[str]) -> list[str]:
    found = (file for pattern in patterns for file in sources.glob(pattern))
    return [read_text(file) for file in found if file.is_file()]


def _write_script(container: Container, recipe: Recipe, out: Path, again: bool) -> str:
    """Writes the build script and its files where the container sees them; returns its path.

    All users may read them: the payload is another user.
    """
    folder = out / FOLDER
    remove_tree(folder)
    folder.mkdir()
    folder.chmod(0o755)
    placed = {
        **{name: _PAYLOAD / name for name in payload_names(recipe)},
        **dict(zip(patch_names(recipe), recipe.patches, strict=True)),
        **{Path(file.path).name: Path(file.path) for file in recipe.files},
    }
    for name, file in placed.items():
        shutil.copyfile(file, folder / name)
        (folder / name).chmod(0o644)
    script = folder / NAME
    script.write_text(build_script(recipe, container.path, again=again))
    script.chmod(0o644)
    return f"{container.path(RESULTS_AT)}/{FOLDER}/{NAME}"


def _check_disk(folder: Path) -> None:
    """BuildError where too little is left of the disk for all else that is on it."""
    disk = os.statvfs(folder)
    least = max(disk.f_blocks * disk.f_frsize * _LEFT_SHARE, _LEFT_BYTES)
    if disk.f_bavail * disk.f_frsize < least:
        what = "2 % or 256 MiB of the disk"
    elif disk.f_files and disk.f_favail < disk.f_files * _LEFT_SHARE:
        what = "2 % of the disk's inodes"
    else:
        return
    raise BuildError(f"the build was stopped: it left less than {what} free", DISK_FULL.remedy)


def _failure(status: int, oom: bool, diagnosis: Diagnosis, out: Path) -> BuildError:
    if oom or status == _KILLED:
        return BuildError(OUT_OF_MEMORY.cause, OUT_OF_MEMORY.remedy)
    disk = os.statvfs(out)
    if disk.f_bavail * disk.f_frsize < _HARDLY_ANY:
        return BuildError(DISK_FULL.cause, DISK_FULL.remedy)
    kind = LastingBuildError if diagnosis.is_lasting else BuildError
    return kind(
        *diagnosis.verdict(
            f"the build script ended with status {status}", "read the whole log of the build"
        )
    )
