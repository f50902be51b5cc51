"""A store entry's manifest: what a build is, held to be so before any of it is used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modulus.core.dataclass import dataclass
from modulus.core.keys import build_key

SCHEMA = 2
WHOLE, TOGETHER, TWIN = HOW = ("whole", "together", "twin")
"""How objects are made: each by itself and the vendor's way, many in one run of the compiler,
or out of those of a kernel with the same headers. Only the first takes no shortcut."""

_PLAIN = 1
"""The schema of older entries, which hold their modules as they are."""
_SHA256 = re.compile("[0-9a-f]{64}")
_MODULE_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*\.ko")


@dataclass(frozen=True)
class StoredFile:
    """One module of an entry; ``size`` in bytes.

    ``object`` is the sha256 of the store's object that is the module, or that its patch is
    against; None where the entry holds it as it is.
    """

    path: str
    sha256: str
    size: int
    object: str | None = None

    @property
    def patch(self) -> str | None:
        """The name of its patch, where it is stored as one."""
        return None if self.object in (None, self.sha256) else f"{self.path}.patch"


@dataclass(frozen=True)
class Manifest:
    """A build: its key and all that the key is made of, and its modules. Times in RFC 3339.

    ``made`` is how its objects were: one of ``HOW``, None where that was not recorded.
    """

    key: str
    instance: str
    kernel: str
    flavour: str
    inputs: Mapping[str, Any]
    files: tuple[StoredFile, ...]
    finished: str
    made: str | None = None


def parse_manifest(value: object, key: str, kernel: str) -> Manifest:
    """The manifest of the entry ``key`` for ``kernel``; ValueError says what is wrong.

    Key, inputs and files have to agree: an entry is nothing but what its key stands for.
    """
    if not isinstance(value, Mapping) or value.get("schema") not in (SCHEMA, _PLAIN):
        raise ValueError("its manifest is not of this schema")
    texts = {
        name: value.get(name) for name in ("key", "instance", "kernel", "flavour", "finished")
    }
    for name, text in texts.items():
        if not isinstance(text, str) or not text.isprintable():
            raise ValueError(f"its manifest has no sound {name}")
    inputs = value.get("inputs")
    if not isinstance(inputs, Mapping) or build_key(inputs) != key or texts["key"] != key:
        raise ValueError("its manifest is not that of its key")
    if texts["kernel"] != kernel:
        raise ValueError("its manifest is for another kernel")
    files = value.get("files")
    plain = value["schema"] == _PLAIN
    found = tuple(_file(file, plain) for file in (files if isinstance(files, list) else ()))
    profile = inputs.get("profile")
    modules = profile.get("modules") if isinstance(profile, Mapping) else None
    names = modules if isinstance(modules, list) else []
    if sorted(file.path for file in found) != sorted(f"{name}.ko" for name in names):
        raise ValueError("its manifest does not list the modules of its key")
    made = value.get("made")
    how = made if made in HOW else None
    return Manifest(
        inputs=inputs, files=found, made=how, **{k: str(v) for k, v in texts.items()}
    )


def _file(value: object, plain: bool) -> StoredFile:
    if isinstance(value, Mapping):
        path, sha256, size = (value.get(name) for name in ("path", "sha256", "size"))
        held = None if plain else str(value.get("object"))
        if (
            isinstance(path, str)
            and isinstance(sha256, str)
            and isinstance(size, int)
            # Both become parts of paths.
            and _MODULE_FILE.fullmatch(path)
            and (held is None or _SHA256.fullmatch(held))
        ):
            return StoredFile(path, sha256, size, held)
    raise ValueError("its manifest has a file without path, sha256, size or object")
