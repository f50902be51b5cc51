"""What the apt of a node is told: its sources, its proxies, and what its lists know.

Nothing of it is changed, and nothing is downloaded.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from modulus.core.distribution.apt_options import AptOption, any_date, parse_options, proxies
from modulus.core.distribution.apt_sources import (
    AptEntry,
    AptSource,
    parse_list,
    parse_sources,
    parse_targets,
    rebased,
    with_options,
)
from modulus.errors import ToolchainError
from modulus.host.distribution.apt.tool import SOURCES, AptTool, quoted
from modulus.host.files import atomic
from modulus.host.files.paths import inside
from modulus.host.files.regular import read_text
from modulus.host.process.run import CommandError


class NodeApt:
    """The apt of the node below ``root``, asked for packages of ``arch``.

    ``config`` is a file to write the configuration to that leads apt there.
    """

    def __init__(self, config: Path, root: Path, arch: str) -> None:
        self.root = root
        self._arch = arch
        options = {
            "Dir": str(root),
            "APT::Architecture": arch,
            # Its caches would be written below the root.
            "Dir::Cache::PkgCache": "",
            "Dir::Cache::SrcPkgCache": "",
        }
        lines = "".join(f"{name} {quoted(value)};\n" for name, value in options.items())
        atomic.write_atomic(config, lines)
        self._tool = AptTool(config)

    @cached_property
    def sources(self) -> tuple[AptSource, ...]:
        """Its sources; ToolchainError where apt cannot read them either."""
        try:
            done = self._tool.run("apt-get", *SOURCES)
        except CommandError as error:
            lines = error.output.splitlines()
            said = next((line[3:] for line in lines if line.startswith("E: ")), error.message)
            raise ToolchainError(
                f"apt cannot read its sources: {said}",
                "mend them; apt-get update does not work either",
            ) from error
        return with_options(parse_targets(done.stdout, self._arch), _entries)

    def outside(self, source: AptSource) -> AptSource:
        """One of its sources as an apt outside of its root has it, with all options."""
        if self.any_date:
            options = {**source.options, "check-valid-until": "no"}
            source = replace(source, options=options)
        return rebased(source, str(self.root))

    @cached_property
    def _options(self) -> tuple[AptOption, ...]:
        return parse_options(self._tool.query("apt-config", "dump"))

    @property
    def proxies(self) -> tuple[AptOption, ...]:
        """Its options that name proxies."""
        return proxies(self._options)

    @property
    def any_date(self) -> bool:
        """Whether all its archives count past their dates."""
        return any_date(self._options)

    def name_of(self, source: AptSource) -> str:
        """The file of ``source``, as seen on the node."""
        with contextlib.suppress(ValueError):
            return inside(self.root, Path(source.file))
        return source.file

    def offers(self, suffix: str) -> tuple[tuple[str, AptSource], ...]:
        """The packages whose names end with ``suffix`` in the lists that the node has, each
        with a source that has it."""
        known = self._tool.query("apt-cache", "pkgnames").split()
        names = [name for name in known if name.endswith(suffix)]
        lines = self._tool.query("apt-cache", "madison", *names).splitlines() if names else ()
        rows = [[part.strip() for part in line.split("|")] for line in lines]
        return tuple(
            (row[0], source)
            for row in rows
            for source in self.sources
            if len(row) == 3 and source.has(row[2])
        )


def _entries(file: str) -> tuple[AptEntry, ...]:
    parse = parse_sources if file.endswith(".sources") else parse_list
    with contextlib.suppress(OSError):
        return parse(read_text(file))
    return ()
