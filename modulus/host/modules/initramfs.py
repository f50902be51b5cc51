"""Looks for other drivers' modules in a kernel's initramfs, and has it rebuilt without them.

What was found is remembered by the image's size and time, so that a warm boot reads nothing.
"""

from __future__ import annotations

import collections
import contextlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from modulus.core.findings import Finding
from modulus.core.modules.initramfs import (
    FORCED_LIST,
    Image,
    InitramfsRecord,
    candidates,
    forced_finding,
    forced_modules,
    held_finding,
    parse_record,
    rebuild_commands,
    scratch_path,
    unknown_finding,
    unprotected,
)
from modulus.errors import BuildError, ModulusError, ToolchainError
from modulus.host.files import atomic, sysfs
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.place import below
from modulus.host.files.record import read_record
from modulus.host.process.run import find, run
from modulus.host.report.reporter import Reporter

_TOOLS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
_LIST_SECONDS, _REBUILD_SECONDS = 600, 3600
"""Far more than it takes: a rebuild is seconds natively, minutes under emulation."""


def check_initramfs(
    driver: DriverPaths,
    release: str,
    rivals: Sequence[str],
    reporter: Reporter,
    *,
    rebuild: bool,
) -> tuple[Finding, ...]:
    """Sees to it that the initramfs of kernel ``release`` loads none of ``rivals``.

    Call it once the driver's file is in modprobe.d: an image that has that file is right. An
    image without it that holds a rival is rebuilt, once. It is a finding where ``rebuild`` is
    False, or a rebuild cannot be or does not help. Raises nothing.
    """
    image = _find_image(driver.root, release)
    if image is None or not rivals:
        return ()
    forced = forced_modules(sysfs.text(below(driver.root, FORCED_LIST)) or "", rivals)
    return (
        *_checked(driver, release, image, rivals, reporter, rebuild=rebuild),
        *([forced_finding(forced)] if forced else []),
    )


def _checked(
    driver: DriverPaths,
    release: str,
    image: Image,
    rivals: Sequence[str],
    reporter: Reporter,
    *,
    rebuild: bool,
) -> tuple[Finding, ...]:
    root, config = driver.root, driver.inside.config
    record = read_record(driver.initramfs, parse_record)
    if record is None or not record.is_of(image, rivals, config):
        try:
            held = _held(root, image, release, rivals, config)
        except ModulusError as error:
            return (unknown_finding(image.path, error.message),)
        record = InitramfsRecord(image, tuple(rivals), config, held)
        _remember(driver, record)
    if not record.held:
        return ()
    with contextlib.suppress(OSError):
        # A killed rebuild may have left it.
        below(root, scratch_path(image.path)).unlink()
    command = rebuild_command(root, image, release, config)
    why = record.problem or _obstacle(root, image, command, rebuild=rebuild)
    if why is None:
        # First, so that a rebuild that is killed is not begun again and again.
        tried = "rebuilding it was begun, and ended without a word"
        _remember(driver, replace(record, problem=tried))
        record = _rebuilt(root, record, release, command, reporter)
        _remember(driver, record)
        if not record.held:
            return ()
        why = record.problem or ""
    fix = " ".join(command) if command else "rebuild it with the tool of this distribution"
    return (held_finding(image.path, record.held, why, fix),)


def _find_image(root: Path, release: str) -> Image | None:
    for path in candidates(release):
        with contextlib.suppress(OSError, ModulusError):
            found = below(root, path).stat()
            if stat.S_ISREG(found.st_mode):
                return Image(path, found.st_size, found.st_mtime_ns)
    return None


def _held(
    root: Path, image: Image, release: str, rivals: Sequence[str], config: str
) -> tuple[str, ...]:
    """The rivals in the image; ModulusError where there is no tool to read it, or it fails."""
    tool = next(filter(find, ("lsinitramfs", "lsinitrd")), None)
    if tool is None:
        raise ToolchainError("neither lsinitramfs nor lsinitrd is installed", "install one")
    # The lists are long: lines that are not about modules are dropped as they come.
    listing: list[str] = []

    def keep(line: str) -> None:
        if ".ko" in line or config in line:
            listing.append(line)

    run([tool, below(root, image.path)], timeout=_LIST_SECONDS, on_line=keep)
    return unprotected(listing, release, rivals, config)


def _obstacle(root: Path, image: Image, command: Sequence[str], *, rebuild: bool) -> str | None:
    """Why the image is not rebuilt."""
    if not rebuild:
        return "initramfs: never keeps Modulus from rebuilding it"
    folder = below(root, image.path).parent
    if not os.access(folder, os.W_OK):
        return f"{folder} is read-only"
    if not command:
        return "neither update-initramfs nor dracut is installed"
    return None


def rebuild_command(root: Path, image: Image, release: str, config: str) -> tuple[str, ...]:
    """The command that rebuilds the image inside ``root``; empty where there is no tool."""
    for tool, command in rebuild_commands(image.path, release, config).items():
        if root.resolve() == Path("/"):
            if find(tool):
                return command
        elif any(below(root, f"{folder}/{tool}").is_file() for folder in _TOOLS):
            return ("chroot", str(root), *command)
    return ()


def _rebuilt(
    root: Path,
    record: InitramfsRecord,
    release: str,
    command: Sequence[str],
    reporter: Reporter,
) -> InitramfsRecord:
    """Rebuilds the image; returns the record of it then."""
    held, path = ", ".join(record.held), record.image.path
    reporter.phase("load", f"{path} holds {held}; rebuilding it ({' '.join(command)})")
    last: collections.deque[str] = collections.deque(maxlen=1)
    lines = 0

    def follow(line: str) -> None:
        nonlocal lines
        lines += 1
        last.append(line)
        reporter.progress("load", lines, 0)

    try:
        if path in command:
            _build_beside(root, path, command, follow)
        else:
            run(command, timeout=_REBUILD_SECONDS, on_line=follow)
        image = _find_image(root, release) or record.image
        left = _held(root, image, release, record.rivals, record.config)
    except ModulusError as error:
        said = f"; its last line: {last[0].strip()}" if last else ""
        image = _find_image(root, release) or record.image
        problem = f"rebuilding it failed: {error.message}{said}"
        return InitramfsRecord(image, record.rivals, record.config, record.held, problem)
    if left:
        problem = "it still does after it was rebuilt"
        return InitramfsRecord(image, record.rivals, record.config, left, problem)
    reporter.phase("load", f"{path} is rebuilt; {held} is not loaded from it any more")
    return InitramfsRecord(image, record.rivals, record.config, ())


def _build_beside(
    root: Path, path: str, command: Sequence[str], follow: Callable[[str], None]
) -> None:
    """Has ``command`` write the image beside ``path``, and puts it in its place whole."""
    scratch = scratch_path(path)
    made = below(root, scratch)
    words = [scratch if word == path else word for word in command]
    try:
        run(words, timeout=_REBUILD_SECONDS, on_line=follow)
        with open(made, "rb") as file:
            os.fsync(file.fileno())
        os.replace(made, below(root, path))
        atomic.fsync_dir(made.parent)
    except OSError as error:
        raise BuildError(
            f"{made} cannot take its place: {error.strerror}", "look at what is in /boot"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            made.unlink()


def _remember(driver: DriverPaths, record: InitramfsRecord) -> None:
    # The record saves the next boot a look; without one that boot looks again.
    with contextlib.suppress(OSError):
        atomic.write_json(driver.initramfs, record.value())
