"""The distribution's packages for tests: current versions, downloaded once, nothing installed.

A private apt configuration below the cache folder takes the machine's own sources for its
distribution, with every component of it, and leaves the machine's apt as it is. ``codename``
names another release of the distribution, to be had where the machine's own is.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

COMPONENTS = ("main", "contrib", "non-free", "non-free-firmware")
OWN = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
"""The codename of the machine's own release."""
_SUITES = {OWN, f"{OWN}-updates", f"{OWN}-security"}
_FRESH = 3600  # seconds for which the lists of packages are taken as current


class UnavailableError(Exception):
    """What a test needs cannot be had; the message is fit for pytest.skip."""


def cache_folder() -> Path:
    """Where tests keep what is dear to get; safe to delete."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base, "modulus-tests")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Keeps other test processes from doing the same at once."""
    with open(cache_folder() / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def update(max_age: float = _FRESH, codename: str = OWN) -> None:
    """Fetches the lists of packages unless they are younger than ``max_age`` seconds."""
    stamp = _config(codename).parent / "updated"
    with locked("apt"):
        if stamp.exists() and time.time() - stamp.stat().st_mtime < max_age:
            return
        try:
            _apt(codename, "apt-get", "-qq", "update", "-o", "APT::Update::Error-Mode=any")
        except UnavailableError:
            if not stamp.exists():
                raise
        else:
            stamp.touch()


@functools.cache
def versions(package: str, codename: str = OWN) -> tuple[str, ...]:
    """All versions apt can still get, newest first."""
    _updated(codename)
    lines = _apt(codename, "apt-cache", "madison", package).splitlines()
    found = dict.fromkeys(line.split("|")[1].strip() for line in lines)
    return tuple(found)


def candidate(package: str, codename: str = OWN) -> str:
    """The current version."""
    found = versions(package, codename)
    if not found:
        raise UnavailableError(f"apt knows no package {package}")
    return found[0]


@functools.cache
def download(package: str, codename: str = OWN) -> Path:
    """The .deb of ``NAME`` (in its current version) or ``NAME=VERSION``."""
    name, _, version = package.partition("=")
    wanted = f"{name}={version or candidate(name, codename)}"
    line = _apt(codename, "apt-get", "-qq", "--print-uris", "download", wanted)
    found = re.search(r"' (\S+) (\d+) SHA256:([0-9a-f]{64})$", line.strip(), re.MULTILINE)
    if not found:
        raise UnavailableError(f"apt cannot download {wanted}")
    final = cache_folder() / "debs" / found[1]
    with locked("debs"):
        if not (final.exists() and _sha256(final) == found[3]):
            scratch = final.parent / f".{found[1]}"
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            _apt(codename, "apt-get", "-qq", "download", wanted, cwd=scratch)
            (got,) = scratch.iterdir()
            got.rename(final)
            scratch.rmdir()
    return final


def unpack(deb: Path, folder: Path) -> Path:
    """Unpacks a package's files without its scripts; returns ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["dpkg-deb", "-x", deb, folder], check=True)
    return folder


def names(prefix: str, codename: str = OWN) -> list[str]:
    """The packages with a name like this that apt can get, in no order."""
    _updated(codename)
    known = _apt(codename, "apt-cache", "pkgnames", prefix).split()
    lines = _apt(codename, "apt-cache", "madison", *known).splitlines() if known else []
    return list({line.split("|")[0].strip() for line in lines})


def depends(package: str, codename: str = OWN) -> list[str]:
    """What the current version of a package depends on, without alternatives."""
    _updated(codename)
    lines = _apt(codename, "apt-cache", "depends", package).splitlines()
    return [line.split()[1] for line in lines if line.strip().startswith("Depends: ")]


@functools.cache
def _updated(codename: str) -> None:
    update(codename=codename)


@functools.cache
def _config(codename: str) -> Path:
    """The private configuration's apt.conf, written anew from the machine's."""
    folder = cache_folder() / f"apt-{codename}"
    with locked("apt"):
        for name in ("sources", "lists/partial", "cache/archives/partial", "parts", "empty"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        sources = distribution_sources(Path("/etc/apt"), codename)
        _replace(folder / "sources" / "own.sources", sources)
        for old in (folder / "parts").iterdir():
            old.unlink()
        machine = Path("/etc/apt/apt.conf.d")
        for part in sorted(machine.iterdir()) if machine.is_dir() else []:
            shutil.copy(part, folder / "parts" / part.name)
        # The machine's hooks after an update or an install are not for us.
        hooks = ("APT::Update", "DPkg")
        _replace(
            folder / "parts" / "zz-tests",
            'Dir::Cache::pkgcache "pkgcache.bin";\nDir::Cache::srcpkgcache "srcpkgcache.bin";\n'
            + "".join(f"#clear {hook}::{when};\n" for hook in hooks for when in _HOOKS),
        )
        _replace(
            folder / "apt.conf",
            f"""
Dir::Etc::Main "/dev/null";
Dir::Etc::Parts "{folder}/parts";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "{folder}/sources";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "{folder}/empty";
Dir::State::Lists "{folder}/lists";
Dir::State::Status "{folder}/status";
Dir::Cache "{folder}/cache";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
""",
        )
    return folder / "apt.conf"


_HOOKS = ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success", "Pre-Install-Pkgs")


def distribution_sources(etc: Path, codename: str = OWN) -> str:
    """The machine's sources that are its distribution's own, in deb822, all components, for the
    release ``codename``."""
    stanzas = []
    for file in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        if not file.is_file():
            continue
        text = "\n".join(
            line for line in file.read_text().splitlines() if not line.startswith("#")
        )
        if file.suffix == ".sources":
            stanzas += [_fields(stanza) for stanza in re.split(r"\n\s*\n", text)]
        elif file.suffix == ".list":
            stanzas += [stanza for line in text.splitlines() if (stanza := _one_line(line))]
    own = [stanza for stanza in stanzas if _is_own(stanza)]
    if not own:
        raise UnavailableError("no apt source of the distribution's own is configured")
    written = []
    for stanza in own:
        suites = " ".join(
            codename + suite.removeprefix(OWN)
            for suite in stanza["Suites"].split()
            if suite in _SUITES
        )
        key = stanza.get("Signed-By")
        written.append(
            f"Types: deb\nURIs: {stanza['URIs']}\nSuites: {suites}\n"
            f"Components: {' '.join(COMPONENTS)}\n" + (f"Signed-By: {key}\n" if key else "")
        )
    return "\n".join(dict.fromkeys(written))


def _fields(stanza: str) -> dict[str, str]:
    unfolded = re.sub(r"\n[ \t]+", " ", stanza.strip())
    pairs = (line.partition(":") for line in unfolded.splitlines())
    return {
        name.strip().title().replace("Uris", "URIs"): text.strip() for name, _, text in pairs
    }


def _one_line(line: str) -> dict[str, str] | None:
    """``deb [options] URI SUITE COMPONENT…`` as the fields of a stanza."""
    found = re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+(\S[^#]*)", line.strip())
    if not found:
        return None
    stanza = {"Types": "deb", "URIs": found[2], "Suites": found[3], "Components": found[4]}
    for option in (found[1] or "").split():
        name, _, value = option.partition("=")
        stanza[name.title()] = value
    return stanza


def _is_own(stanza: dict[str, str]) -> bool:
    """Signed by the distribution's keyring, or by none named and with its components only."""
    key = stanza.get("Signed-By", "")
    return (
        "deb" in stanza.get("Types", "").split()
        and stanza.get("Trusted", "no") == "no"
        and stanza.get("Enabled", "yes") == "yes"
        and not _SUITES.isdisjoint(stanza.get("Suites", "").split())
        and set(stanza.get("Components", "").split()) <= set(COMPONENTS)
        and (not key or Path(key).name.startswith("debian-archive-"))
    )


def _apt(codename: str, *argv: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        argv,
        env={**os.environ, "APT_CONFIG": str(_config(codename)), "LANG": "C.UTF-8"},
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise UnavailableError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def _replace(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(text)
    scratch.rename(path)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
