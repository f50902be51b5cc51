"""Whether the files of a generation are those that a start of it needs."""

from __future__ import annotations

import os
from collections.abc import Iterable

from modulus.core.generation import module_path
from modulus.errors import IntegrityError
from modulus.host.hashing import Hashes
from modulus.host.install import Generation
from modulus.host.kmod import Wanted


def check_startable(
    generation: Generation,
    modules: Iterable[Wanted],
    hashes: Hashes | None = None,
) -> None:
    """Raises IntegrityError where a file is gone, or one of ``modules``, which are to be
    loaded, is not what was installed.

    To hash all of them would take seconds at every boot; ``host.install.verify_generation``
    does. ``hashes`` may be under way.
    """
    hashes = hashes or Hashes()
    tree = generation.contents.tree
    paths = [file.path for file in tree.files] + [link.path for link in tree.links]
    for path in paths:
        if not os.path.lexists(generation.path / path):
            raise IntegrityError(f"{path} is gone", "run modulus up again")
    recorded = {file.path: file.sha256 for file in tree.files}
    for module in modules:
        path = module_path(generation.contents.release, f"{module.name}.ko")
        if not hashes.holds(generation.path / path, recorded.get(path, "")):
            raise IntegrityError(f"{path} is not what was installed", "run modulus up again")
