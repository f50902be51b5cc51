"""The host's own compiler, for builds that are to run without a container."""

from __future__ import annotations

from pathlib import Path

from modulus.core.kernel.release import Compiler
from modulus.core.store.keys import digest
from modulus.errors import ToolchainError
from modulus.host.distribution.toolchain import Toolchain
from modulus.host.process.run import find, run


def host_toolchain(compiler: Compiler) -> Toolchain:
    """The host's ``compiler`` and its tools, identified by their ``--version``.

    Raises ToolchainError naming what is not installed.
    """
    tools = (*compiler.programs, "as", "make")
    missing = [tool for tool in tools if find(tool) is None]
    if missing:
        raise ToolchainError(
            f"{', '.join(missing)} of the host are needed without a build container",
            "install them, or set build.container to auto",
        )
    versions = {tool: run((tool, "--version")).stdout.partition("\n")[0] for tool in tools}
    return Toolchain(digest({"host": versions}), Path("/"), compiler.command, versions)
