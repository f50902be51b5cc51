"""A private apt configuration: the distribution's own sources, and state of our own.

Of the node's apt configuration only two things are used: its sources, as far as they are the
distribution's, and its credentials for mirrors.
"""

from __future__ import annotations

import contextlib
import re
import stat
from pathlib import Path

from modulus.core.distribution import apt_sources
from modulus.core.distribution.families import Distribution
from modulus.errors import ToolchainError
from modulus.host.files import atomic
from modulus.host.files.paths import resolve
from modulus.host.files.regular import read_text


def write_config(
    folder: Path,
    root: Path,
    distribution: Distribution,
    *,
    release: str,
    ca_bundle: Path | None,
) -> Path:
    """Lays out apt's state in ``folder`` and returns the file for APT_CONFIG.

    Raises ToolchainError if the node below ``root`` has no source or no key of its
    distribution; kernel ``release`` decides on backports.
    """
    for name in ("lists/partial", "cache/archives/partial", "sources"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    atomic.write_atomic(folder / "status", b"")
    entries = _entries(root, distribution, release)
    keyring = _keyring(root, distribution)
    text = apt_sources.render(entries, distribution.arch, str(keyring))
    # A source's address may hold a password.
    atomic.write_atomic(folder / "sources/own.sources", text, 0o600)
    options = _options(folder, root, distribution, keyring, ca_bundle)
    lines = "".join(f"{name} {_quoted(value)};\n" for name, value in options)
    atomic.write_atomic(folder / "apt.conf", lines)
    return folder / "apt.conf"


def _options(
    folder: Path,
    root: Path,
    distribution: Distribution,
    keyring: Path,
    ca_bundle: Path | None,
) -> list[tuple[str, str]]:
    # APT_CONFIG is read before Dir::Etc::Parts and Dir::Etc::Main: apt.conf(5).
    options = [
        ("Dir::Etc::Main", "/dev/null"),
        ("Dir::Etc::Parts", "/dev/null"),
        ("Dir::Etc::SourceList", "/dev/null"),
        ("Dir::Etc::SourceParts", f"{folder}/sources"),
        ("Dir::Etc::Preferences", "/dev/null"),
        ("Dir::Etc::PreferencesParts", "/dev/null"),
        ("Dir::Etc::Trusted", "/dev/null"),
        ("Dir::Etc::TrustedParts", "/dev/null"),
        ("Dir::Etc::Netrc", str(resolve(root, "/etc/apt/auth.conf"))),
        ("Dir::Etc::NetrcParts", str(resolve(root, "/etc/apt/auth.conf.d"))),
        ("Dir::State", str(folder)),
        ("Dir::State::Lists", f"{folder}/lists"),
        ("Dir::State::Status", f"{folder}/status"),
        ("Dir::Cache", f"{folder}/cache"),
        # A cache would take 80 MB to save 0.3 s.
        ("Dir::Cache::PkgCache", ""),
        ("Dir::Cache::SrcPkgCache", ""),
        ("APT::Architecture", distribution.arch),
        ("APT::Architectures::", distribution.arch),
        ("APT::Install-Recommends", "false"),
        ("APT::Install-Suggests", "false"),
        # Lists of backports stay when a kernel that needs none comes next.
        ("APT::Get::List-Cleanup", "false"),
        ("Acquire::Languages", "none"),
        ("Acquire::GzipIndexes", "true"),
        ("Acquire::Retries", "3"),
    ]
    if not (_reachable(folder) and _reachable(keyring)):
        # apt's unprivileged downloader could not read its own configuration.
        options.append(("APT::Sandbox::User", "root"))
    if ca_bundle:
        options.append(("Acquire::https::CAInfo", str(ca_bundle)))
    return options


def _entries(
    root: Path, distribution: Distribution, release: str
) -> list[apt_sources.AptEntry]:
    refused: list[str] = []
    for base in dict.fromkeys((root, Path("/"))):
        own, others = apt_sources.own(_configured(base), distribution, release)
        if own:
            return [apt_sources.rebased(entry, str(base)) for entry in own]
        refused += others
    because = f": {refused[0]}" if refused else ""
    raise ToolchainError(
        f"no apt source is {distribution.family.id} {distribution.codename}'s own{because}",
        f"give /etc/apt/sources.list.d an entry for {distribution.codename}, "
        "signed by the distribution",
    )


def _configured(root: Path) -> list[apt_sources.AptEntry]:
    folder = resolve(root, "/etc/apt/sources.list.d")
    paths = [resolve(root, "/etc/apt/sources.list"), *sorted(folder.glob("*"))]
    entries: list[apt_sources.AptEntry] = []
    for path in paths:
        parse = apt_sources.parse_list if path.suffix == ".list" else apt_sources.parse_sources
        if path.suffix in (".list", ".sources"):
            with contextlib.suppress(OSError):
                entries += parse(read_text(path))
    return entries


def _keyring(root: Path, distribution: Distribution) -> Path:
    keyrings = distribution.family.keyrings
    for base in (root, Path("/")):
        for name in keyrings:
            path = resolve(base, name)
            if path.is_file():
                return path
    raise ToolchainError(
        f"the archive keys of {distribution.family.id} are not there: {keyrings[0]}",
        f"install the package {Path(keyrings[0]).stem}",
    )


def _reachable(path: Path) -> bool:
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.absolute().parents)


def _quoted(value: str) -> str:
    if re.search(r'["\n\\]', value):
        raise ToolchainError(
            f"apt takes no quote, backslash or line break in {value!r}",
            "use a path or an address without them",
        )
    return f'"{value}"'
