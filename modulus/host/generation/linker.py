"""Tells the dynamic linker where a driver's libraries are: ld.so.conf.d and ldconfig(8)."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path, PurePosixPath

from modulus.core.generation.ldcache import CacheEntry, parse_ldcache
from modulus.errors import ModulusError
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.place import below, writing
from modulus.host.files.regular import read_bytes, read_text
from modulus.host.generation.install import Generation
from modulus.host.generation.rendered import render_file
from modulus.host.generation.soname import read_soname
from modulus.host.process.run import run
from modulus.host.report.reporter import Reporter


def configure_linker(driver: DriverPaths) -> bool:
    """Writes the driver's file in ld.so.conf.d; False if it is there already.

    Raises ConfigError where ``/etc`` cannot be written; call it before the driver is
    activated, so that the error comes while nothing has changed.
    """
    name, folder = driver.name, driver.inside.libraries
    return render_file(driver.linker_config, "ld.so.conf.j2", name=name, folder=folder)


def update_linker(driver: DriverPaths, generation: Generation, reporter: Reporter) -> bool:
    """Brings the linker's cache up to date with the active ``generation``; False if it was.

    The cache's content is read first, so that a run does what a killed one left undone. A
    failure is a warning: the driver is in place, and its programs still work with
    LD_LIBRARY_PATH.
    """
    if _is_current(driver, generation):
        return False
    inside = driver.inside
    folders: tuple[str, ...] = ()
    if not _is_included(driver):
        # Without an include in ld.so.conf, ldconfig needs the folder by name. ld.so.conf
        # belongs to the system, or is missing on purpose, so it stays as it is.
        folders = (inside.libraries,)
        reporter.warn(
            f"/etc/ld.so.conf does not include ld.so.conf.d/{inside.config}: the libraries in "
            f"{inside.libraries} are found until ldconfig is run by others"
        )
    _run_ldconfig(
        driver.root,
        folders,
        reporter,
        f"until it has run, programs need LD_LIBRARY_PATH={inside.libraries}",
    )
    return True


def unconfigure_linker(driver: DriverPaths, reporter: Reporter) -> bool:
    """Removes the driver's file in ld.so.conf.d, and its libraries from the linker's cache;
    False without that file. Call it once the libraries are gone."""
    root, path = driver.root, driver.linker_config
    prefix = f"{driver.inside.libraries}/"
    there = path.is_file()
    if there:
        with writing(path):
            path.unlink()
    if there or any(entry.path.startswith(prefix) for entry in linker_cache(root)):
        _run_ldconfig(root, (), reporter, "it still names libraries that are gone")
    return there


def _run_ldconfig(
    root: Path, folders: tuple[str, ...], reporter: Reporter, otherwise: str
) -> None:
    # Links of other packages are none of our business (-X); ours are all there.
    argv = ["ldconfig", "-X", *(["-r", str(root)] if root.resolve() != Path("/") else [])]
    try:
        run([*argv, *folders])
    except ModulusError as error:
        reporter.warn(f"the linker's cache is not up to date: {error.message}; {otherwise}")


def _is_current(driver: DriverPaths, generation: Generation) -> bool:
    """Whether the cache has all the driver's libraries, and none that is gone."""
    wanted = _sonames(generation)
    folder = generation.path / "lib"
    cached = {
        path.name
        for path in map(PurePosixPath, (entry.path for entry in linker_cache(driver.root)))
        if path.parent == PurePosixPath(driver.inside.libraries)
    }
    return wanted <= cached and all(os.path.lexists(folder / library) for library in cached)


def linker_cache(root: Path) -> tuple[CacheEntry, ...]:
    """What the linker's cache holds; nothing where it is missing or damaged."""
    try:
        return parse_ldcache(read_bytes(below(root, "/etc/ld.so.cache")))
    except (OSError, ValueError):
        return ()


def _sonames(generation: Generation) -> set[str]:
    found: set[str | None] = set()
    for file in generation.contents.tree.files:
        path = PurePosixPath(file.path)
        if path.parent == PurePosixPath("lib"):
            with contextlib.suppress(ValueError):
                found.add(read_soname(generation.path / path))
    return {name for name in found if name}


def _is_included(driver: DriverPaths) -> bool:
    """Whether ld.so.conf(5) itself includes our file; its patterns are relative to /etc."""
    try:
        text = read_text(below(driver.root, "/etc/ld.so.conf"))
    except OSError:
        return False
    ours = PurePosixPath(driver.inside.linker_config)
    patterns = re.findall(r"^\s*include\s+(.+?)\s*$", text, re.MULTILINE)
    return any(
        ours.match(str(PurePosixPath("/etc", pattern)))
        for words in patterns
        for pattern in words.split()
    )
