"""Whether the files of a generation are those that a start of it needs."""

from __future__ import annotations

from collections.abc import Iterable

from modulus.core.generation.generation import module_path
from modulus.errors import IntegrityError
from modulus.host.files.digest import hash_file
from modulus.host.files.tree import problems
from modulus.host.generation.install import Generation
from modulus.host.modules.load import WantedModule


def check_startable(generation: Generation, modules: Iterable[WantedModule]) -> None:
    """Raises IntegrityError where a file is gone or has another size or mode, or where one of
    ``modules``, which are to be loaded, has another hash.

    To hash all files would take seconds at every boot;
    ``host.generation.install.verify_generation`` does that.
    """
    tree = generation.contents.tree
    for _, problem in problems(generation.path, tree, deep=False):
        raise IntegrityError(problem, "run modulus up again")
    recorded = {file.path: file.sha256 for file in tree.files}
    for module in modules:
        path = module_path(generation.contents.release, f"{module.name}.ko")
        if hash_file(generation.path / path) != recorded.get(path):
            raise IntegrityError(f"{path} is not what was installed", "run modulus up again")
