"""Archives of kernels that are not the distribution's, which a setting trusts by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from modulus.core.distribution.apt_sources import AptSource
from modulus.core.distribution.families import key_files
from modulus.core.distribution.own_sources import unsafe
from modulus.errors import ToolchainError
from modulus.host.distribution.apt.config import Trusted
from modulus.host.distribution.apt.node import NodeApt
from modulus.host.files.paths import resolve

_ARMOUR = "-----BEGIN PGP PUBLIC KEY BLOCK-----"


def by_name(node: NodeApt, names: Sequence[str]) -> Iterator[Trusted]:
    """The sources in the node's files of these ``names``, each signed by the key it names.

    Raises ToolchainError for a name without sources, and for a source without a key.
    """
    for name in names:
        sources = [source for source in node.sources if Path(source.file).name == name]
        if not sources:
            raise ToolchainError(
                f"kernel_sources names {name}, which none of the node's apt sources is in",
                "name a file of /etc/apt/sources.list.d with an entry that is enabled",
            )
        for source in sources:
            reason = unsafe(source)
            if reason:
                raise ToolchainError(
                    f"{name} of kernel_sources has an entry that cannot be trusted: {source}: "
                    f"{reason}",
                    "take that entry out of the file, or the file out of kernel_sources",
                )
            yield Trusted(node.outside(source), _keys(node, source, name), by_name=True)


def _keys(node: NodeApt, source: AptSource, name: str) -> tuple[Path, ...] | str:
    if _ARMOUR in source.signed_by:
        return source.signed_by
    paths = [resolve(node.root, path) for path in key_files(source.signed_by)]
    if not source.signed_by.startswith("/") or not all(path.is_file() for path in paths):
        said = source.signed_by or "no key at all"
        raise ToolchainError(
            f"{name} of kernel_sources has to name the file of its key, and names {said}",
            f"give each entry of {name} its key: Signed-By: /etc/apt/keyrings/NAME.gpg",
        )
    return tuple(paths)
