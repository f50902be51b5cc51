"""Looks at a driver on this node and says what is wrong with it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from modulus.core.config.settings import Settings
from modulus.core.findings import LEVELS, Finding
from modulus.core.generation.ldcache import CacheEntry, find_library
from modulus.core.gpu.census import Census
from modulus.core.health.checks.libraries import InstalledLibrary
from modulus.core.health.checks.numa import has_several_nodes
from modulus.core.health.verify import Observed, findings
from modulus.core.kernel.moddep import module_name
from modulus.core.kernel.mountinfo import Mount, mount_of, parse_mountinfo
from modulus.core.profile.libraries import Answer, Library
from modulus.core.profile.profile import Profile
from modulus.host.files import sysfs
from modulus.host.files.driver_paths import DriverNames
from modulus.host.files.paths import inside, resolve
from modulus.host.generation.install import Generation
from modulus.host.generation.linker import linker_cache
from modulus.host.health.library_probe import ask
from modulus.host.modules.load import Loaded, WantedModule


def verify(
    root: Path,
    profile: Profile,
    settings: Settings,
    generation: Generation,
    *,
    wanted: Sequence[WantedModule],
    loaded: Mapping[str, Loaded],
    census: Census,
    others: Sequence[Finding] = (),
    level: str = LEVELS[-1],
    ask_libraries: bool = True,
) -> tuple[Finding, ...]:
    """What is wrong with the active ``generation`` at ``level`` and those before it.

    ``wanted`` are the generation's modules that must be loaded, ``loaded`` those that are
    (``host.modules.load``), ``census`` the GPUs as they are now, ``others`` earlier findings.
    Only the level ``usable`` reads files and, if ``ask_libraries``, asks libraries, which takes
    seconds where nothing uses the GPUs. Without the modules no library is asked: it might
    load some itself, of any origin.
    """
    observed = Observed(
        instance=str(generation.contents.identity.instance),
        wanted={module_name(module.name): module for module in wanted},
        loaded=loaded,
        folder=DriverNames(profile.name).libraries,
        census=census,
        devices=tuple(gpu.address for gpu in census.held_by(profile.build)),
        numa_fix=settings.numa_fix,
        require_all_gpus=settings.require_all_gpus,
        ready_when=settings.ready_when,
        others=tuple(others),
    )
    if level == LEVELS[-1]:
        installed = tuple(_installed(root, profile, generation))
        asking = ask_libraries and _is_running(profile, wanted, loaded)
        observed = replace(
            observed,
            mount=_mount(root, generation),
            libraries=installed,
            asked=tuple(_asked(profile, generation, installed, observed.devices))
            if asking
            else (),
            several_numa_nodes=has_several_nodes(
                sysfs.text(root / "sys/devices/system/node/online") or ""
            ),
        )
    return findings(observed, level)


def _is_running(
    profile: Profile, wanted: Sequence[WantedModule], loaded: Mapping[str, Loaded]
) -> bool:
    """Whether the driver is in the kernel, with all its ``wanted`` modules."""
    live = {name for name, module in loaded.items() if module.state == "live"}
    return not live.isdisjoint(map(module_name, profile.build)) and live.issuperset(
        module_name(module.name) for module in wanted
    )


def _mount(root: Path, generation: Generation) -> Mount | None:
    """The mount that holds the generation, as seen from ``root``."""
    # Process 1 of another root sees its mounts by their names there.
    own = root.resolve() == Path("/")
    for process in ("self",) if own else ("1", "self"):
        with contextlib.suppress(OSError, ValueError):
            text = (root / "proc" / process / "mountinfo").read_text("utf-8", "replace")
            return mount_of(inside(root, generation.path), parse_mountinfo(text))
    return None


def _installed(
    root: Path, profile: Profile, generation: Generation
) -> Iterator[InstalledLibrary]:
    """The profile's libraries that are among the installed components."""
    cache = linker_cache(root)
    # The file exists where SELinux is on, enforcing or not.
    labelled = (root / "sys/fs/selinux/enforce").exists()
    for library in profile.libraries:
        if library.name in _held(generation):
            file: Path | None = None
            # RuntimeError: links in a circle, up to Python 3.12.
            with contextlib.suppress(OSError, RuntimeError):
                file = (generation.path / "lib" / library.name).resolve(strict=True)
            yield InstalledLibrary(
                library,
                file.name if file else None,
                _resolved(root, library.name, cache),
                _label(file) if file and labelled else None,
            )


def _held(generation: Generation) -> frozenset[str]:
    """The names in the generation's ``lib/``."""
    tree = generation.contents.tree
    paths = [file.path for file in tree.files] + [link.path for link in tree.links]
    return frozenset(path.removeprefix("lib/") for path in paths if path.startswith("lib/"))


def _resolved(root: Path, name: str, cache: tuple[CacheEntry, ...]) -> str | None:
    path = find_library(name, os.uname().machine, cache)
    # OSError: links in a circle.
    with contextlib.suppress(OSError):
        return path if path and resolve(root, path).exists() else None
    return None


def _label(path: Path) -> str | None:
    try:
        return os.getxattr(path, "security.selinux").rstrip(b"\0").decode("utf-8", "replace")
    except OSError:
        return None


def _asked(
    profile: Profile,
    generation: Generation,
    installed: Sequence[InstalledLibrary],
    devices: Sequence[str],
) -> Iterator[tuple[Library, Answer | None]]:
    """The answer of each library that can be asked; one whose file is gone is left out."""
    files = {one.library: one.file for one in installed}
    for library in profile.libraries:
        if library.init is None:
            continue
        if library not in files:
            yield library, None
        elif files[library]:
            yield library, ask(library, generation.path / "lib" / library.name, devices)
