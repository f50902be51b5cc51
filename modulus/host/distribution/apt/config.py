"""A private apt configuration: sources that are trusted by name, and state of our own."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from modulus.core.distribution.apt_options import AptOption
from modulus.core.distribution.apt_sources import AptSource, render
from modulus.host.distribution.apt.tool import quoted
from modulus.host.files import atomic
from modulus.host.files.paths import resolve


@dataclass(frozen=True)
class Trusted:
    """A source and the only ``keys`` that it may be signed by: files, or one armoured key.

    One that is trusted ``by_name`` is used whatever release it is of.
    """

    source: AptSource
    keys: tuple[Path, ...] | str
    by_name: bool = False

    @property
    def signed_by(self) -> str:
        """The keys as a source has them."""
        return self.keys if isinstance(self.keys, str) else " ".join(map(str, self.keys))


def write_config(
    folder: Path,
    root: Path,
    arch: str,
    trusted: Iterable[Trusted],
    options: Iterable[AptOption],
    ca_bundle: Path | None,
) -> Path:
    """Lays out apt's state in ``folder`` and returns the file for APT_CONFIG.

    Of the node below ``root`` it has the credentials for mirrors, and the ``options``; its
    sources can be any of those ``trusted``.
    """
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    atomic.write_atomic(folder / "status", b"")
    every = [*_options(folder, root, arch, ca_bundle), *options]
    keys = [key for one in trusted if not isinstance(one.keys, str) for key in one.keys]
    if not all(map(_reachable, (folder, *keys))):
        # apt's unprivileged downloader could not read its own configuration.
        every.append(("APT::Sandbox::User", "root"))
    lines = "".join(f"{name} {quoted(value)};\n" for name, value in every)
    # A proxy's address may hold a password.
    atomic.write_atomic(folder / "apt.conf", lines, 0o600)
    return folder / "apt.conf"


def write_sources(folder: Path, trusted: Iterable[Trusted], arch: str) -> None:
    """Makes ``folder`` one for Dir::Etc::SourceParts with the ``trusted`` sources alone."""
    text = "\n".join(render(one.source, arch, one.signed_by) for one in trusted)
    # A source's address may hold a password.
    atomic.write_atomic(folder / "own.sources", text, 0o600)


def _options(folder: Path, root: Path, arch: str, ca_bundle: Path | None) -> list[AptOption]:
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
        ("APT::Architecture", arch),
        ("APT::Architectures::", arch),
        ("APT::Install-Recommends", "false"),
        ("APT::Install-Suggests", "false"),
        # A source that is not used for once keeps its lists.
        ("APT::Get::List-Cleanup", "false"),
        # A suite may be called as the next release is one day: its Codename counts.
        ("Acquire::AllowReleaseInfoChange", "true"),
        ("Acquire::Languages", "none"),
        ("Acquire::GzipIndexes", "true"),
        ("Acquire::Retries", "3"),
    ]
    if ca_bundle:
        options.append(("Acquire::https::CAInfo", str(ca_bundle)))
    return options


def _reachable(path: Path) -> bool:
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.absolute().parents)
