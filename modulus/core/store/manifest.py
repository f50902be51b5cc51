"""A store entry's manifest: what a build is, checked before any of it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modulus.core.record import forms
from modulus.core.record.forms import Fields, Form
from modulus.core.store.keys import build_key

SCHEMA = 2
WHOLE, TOGETHER, TWIN = HOW = ("whole", "together", "twin")
"""How objects are made: each by itself and the vendor's way, many in one run of the compiler,
or out of those of a kernel with the same headers. Only the first takes no shortcut."""

_PLAIN = 1
"""The schema of older entries, which hold their modules as they are."""
_MODULE_FILE = forms.pattern(r"[A-Za-z0-9_][A-Za-z0-9_-]*\.ko", "the file of a module")
_TEXTS: Mapping[str, Form[object]] = {
    "key": forms.sha256,
    "instance": forms.instance,
    "kernel": forms.release,
    "flavour": forms.word,
    "finished": forms.line,
}


@dataclass(frozen=True)
class StoredFile:
    """One module of an entry; ``size`` in bytes.

    ``object`` is the sha256 of the store's object that is the module, or the base of its patch;
    None where the entry holds the module as it is.
    """

    path: str
    sha256: str
    size: int
    object: str | None = None

    @property
    def patch(self) -> str | None:
        """The name of its patch; None where the module is not stored as one."""
        return None if self.object in (None, self.sha256) else f"{self.path}.patch"


@dataclass(frozen=True)
class Manifest:
    """A build: its key and all that the key is made of, and its modules. Times in RFC 3339.

    ``made`` is how its objects were made: one of ``HOW``, None where that is not recorded.
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

    Key, inputs and files have to agree: an entry holds only what its key stands for.
    """
    if not isinstance(value, Mapping) or value.get("schema") not in (SCHEMA, _PLAIN):
        raise ValueError("its manifest is not of this schema")
    of = Fields(value, "its manifest")
    texts = {name: str(of(name, form)) for name, form in _TEXTS.items()}
    inputs = value.get("inputs")
    if not isinstance(inputs, Mapping) or build_key(inputs) != key or texts["key"] != key:
        raise ValueError("its manifest is not that of its key")
    if texts["kernel"] != kernel:
        raise ValueError("its manifest is for another kernel")
    plain = value["schema"] == _PLAIN
    found = of("files", forms.list_of(lambda file: _file(file, plain)))
    profile = inputs.get("profile")
    modules = profile.get("modules") if isinstance(profile, Mapping) else None
    names = modules if isinstance(modules, list) else []
    if sorted(file.path for file in found) != sorted(f"{name}.ko" for name in names):
        raise ValueError("its manifest does not list the modules of its key")
    made = value.get("made")
    how = made if made in HOW else None
    return Manifest(inputs=inputs, files=found, made=how, **texts)


def _file(value: object, plain: bool) -> StoredFile:
    of = Fields(value, "a file of its manifest")
    return StoredFile(
        of("path", _MODULE_FILE),
        of("sha256", forms.sha256),
        of("size", forms.count),
        None if plain else of("object", forms.sha256),
    )
