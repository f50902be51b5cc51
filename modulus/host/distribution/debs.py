"""Unpacks Debian packages without running anything that is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from modulus.errors import ToolchainError
from modulus.host.distribution.apt.packages import AptArchive
from modulus.host.distribution.apt.tool import leashed
from modulus.host.files.full_disk import check_full
from modulus.host.process.run import CommandError, run
from modulus.host.report.reporter import Reporter

_SECONDS = 300


def unpack(archives: Sequence[AptArchive], into: Path, reporter: Reporter) -> None:
    """Lays the files of ``archives`` into ``into`` and removes the archives; no maintainer
    script runs. Raises ToolchainError for a bad package, OSError on a full disk."""
    into.mkdir(parents=True, exist_ok=True)
    for done, archive in enumerate(archives):
        reporter.progress("provision", done, len(archives))
        try:
            run(leashed("dpkg-deb", "-x", archive.path, into), timeout=_SECONDS)
        except CommandError as error:
            check_full(error.output)
            raise ToolchainError(
                f"{archive.path.name} cannot be unpacked: {error.output.strip()}", error.hint
            ) from error
        archive.path.unlink()


def recorded(archives: Sequence[AptArchive]) -> Mapping[str, Mapping[str, str]]:
    """The packages as a record keeps them: name to version and sha256."""
    return {
        archive.package.name: {
            "version": archive.package.version,
            "sha256": archive.package.sha256,
        }
        for archive in archives
    }
