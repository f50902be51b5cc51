"""Finds and reads settings and profiles: below the root, in the environment, as KEY=VALUE."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from modulus.core.config.layers import SettingsSource, merge, place, with_new_names
from modulus.core.config.schema_types import Problems, close
from modulus.core.config.settings import SCHEMA, Settings
from modulus.core.profile.profile import BuildFile, Patch, Profile
from modulus.core.profile.schema import parse_profile
from modulus.errors import ConfigError
from modulus.host.config.yaml import parse_yaml, read_yaml
from modulus.host.files.digest import hash_file
from modulus.host.files.paths import resolve

VENDOR = "/usr/share/modulus"
LOCAL = "/etc/modulus"
_PREFIX = "MODULUS_"

Beside = TypeVar("Beside", Patch, BuildFile)
"""A file beside a profile, which the profile names."""


def load_settings(
    root: Path,
    *,
    config: Path | None,
    environ: Mapping[str, str],
    assignments: Sequence[str],
    driver: str | None,
) -> Settings:
    """The settings in force below ``root`` for ``driver``; for None, the general ones.

    ``config`` is read instead of what is under ``/etc``, ``assignments`` are KEY=VALUE. Raises
    ConfigError with every problem of every source.
    """
    problems = Problems()
    local = _files(root, LOCAL) if config is None else iter([(str(config), config)])
    layers = (
        tuple(_sources(_files(root, VENDOR), problems)),
        tuple(_sources(local, problems)),
        tuple(_environment(environ, problems)),
        tuple(_assigned(assignments, problems)),
    )
    if problems:
        problems.fail("correct these settings; docs/reference.md has them all")
    return merge(layers, driver)


def load_profile(root: Path, name: str) -> Profile:
    """The profile ``name``; one in ``/etc`` replaces one that came with Modulus.

    Raises ConfigError where there is none, or with all that is wrong with it.
    """
    for base, folder in _profile_folders(root):
        path = _seen(base, f"{folder}/{name}.yaml")
        if name in _stems(base, folder):
            return _read_profile(base, folder, path, name)
    known = profile_names(root)
    near = close(name, known)
    raise ConfigError(
        f"there is no profile {name}" + (f", did you mean {near}?" if near else ""),
        f"known are {', '.join(known) or 'none'}; others go to {LOCAL}/profiles/NAME.yaml",
    )


def profile_names(root: Path) -> tuple[str, ...]:
    """The names of all profiles that can be found."""
    folders = _profile_folders(root)
    return tuple(sorted({name for base, folder in folders for name in _stems(base, folder)}))


def _files(root: Path, folder: str) -> Iterator[tuple[str, Path]]:
    """The main file, then the drop-ins by name, each with the name to show."""
    names = [f"{folder}/modulus.yaml"] if "modulus" in _stems(root, folder) else []
    names += [f"{folder}/modulus.d/{stem}.yaml" for stem in _stems(root, f"{folder}/modulus.d")]
    for name in names:
        yield str(root / name.lstrip("/")), _seen(root, name)


def _stems(root: Path, folder: str) -> list[str]:
    """The YAML files in ``folder`` without their ending, sorted; an editor's hidden ones
    do not count. ConfigError where they cannot be seen."""
    path = _seen(root, folder)
    try:
        names = os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", "run as root, or correct its mode"
        ) from None
    return sorted(
        name.removesuffix(".yaml")
        for name in names
        if name.endswith(".yaml") and not name.startswith(".")
    )


def _seen(root: Path, path: str) -> Path:
    """``path`` as seen from inside ``root``; the reader reports links in a circle."""
    try:
        return resolve(root, path)
    except OSError:
        return root / path.lstrip("/")


def _sources(files: Iterator[tuple[str, Path]], problems: Problems) -> Iterator[SettingsSource]:
    for origin, path in files:
        found = problems.within(origin)
        value = read_yaml(path, found)
        if value is not None:
            yield _source(origin, value, found)


def _source(origin: str, value: Mapping[str, Any], problems: Problems) -> SettingsSource:
    value, old = with_new_names(value, problems)
    SCHEMA.check(value, "", problems)
    return SettingsSource(origin, value, tuple(sorted(old)))


def _environment(environ: Mapping[str, str], problems: Problems) -> Iterator[SettingsSource]:
    for name in sorted(environ):
        if name.startswith(_PREFIX):
            found = problems.within(name)
            parts = name.removeprefix(_PREFIX).split("__")
            yield from _one(name, parts, "__", environ[name], found, found)


def _assigned(assignments: Sequence[str], problems: Problems) -> Iterator[SettingsSource]:
    for assignment in assignments:
        key, sign, text = assignment.partition("=")
        if not sign:
            problems.within("--set").add(assignment, "must be KEY=VALUE, such as build.jobs=4")
            continue
        # Text that is not YAML is told with its key; problems with a value name it themselves.
        told = problems.within(f"--set: {key}"), problems.within("--set")
        yield from _one("--set", key.strip().split("."), ".", text, *told)


def _one(
    origin: str,
    parts: Sequence[str],
    separator: str,
    text: str,
    unreadable: Problems,
    problems: Problems,
) -> Iterator[SettingsSource]:
    """One value, as YAML, under one key."""
    before = len(problems)
    value = parse_yaml(text, unreadable)
    if len(problems) == before:
        placed: dict[str, Any] = place(SCHEMA, parts, value, separator)
        yield _source(origin, placed, problems)


def _profile_folders(root: Path) -> tuple[tuple[Path, str], ...]:
    """The folders of profiles, the first to search first, each with the root it is below."""
    checkout = Path(__file__).resolve().parents[3]
    folders = ((root, f"{LOCAL}/profiles"), (root, f"{VENDOR}/profiles"))
    if (checkout / "pyproject.toml").is_file():
        return (*folders, (Path("/"), str(checkout / "profiles")))
    return folders


def _read_profile(base: Path, folder: str, path: Path, name: str) -> Profile:
    problems = Problems()
    found = problems.within(str(path))
    value = read_yaml(path, found)
    profile = None if value is None else parse_profile(value, name, found)
    if profile is None:
        problems.fail(f"correct the profile {name}; docs/reference.md says what it may hold")

    def with_files(key: str, beside: Sequence[Beside]) -> tuple[Beside, ...]:
        return tuple(
            _with_file(
                each, f"{key}[{index}].file", _seen(base, f"{folder}/{each.file}"), found
            )
            for index, each in enumerate(beside)
        )

    patches = with_files("patches", profile.patches)
    files = with_files("files", profile.files)
    if problems:
        problems.fail(f"put the missing files beside the profile {name}")
    return replace(profile, patches=patches, files=files)


def _with_file(beside: Beside, key: str, path: Path, problems: Problems) -> Beside:
    try:
        return replace(beside, path=str(path), sha256=hash_file(path))
    except OSError as error:
        problems.add(key, f"{path} cannot be read: {error.strerror}")
        return beside
