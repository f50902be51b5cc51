"""A generation: one driver for one kernel with its userspace, whole and never changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modulus.core.instance import Instance
from modulus.core.keys import SHORT, digest
from modulus.core.tree import Tree, parse_tree, tree_value

SCHEMA = 1
MANIFEST = "generation.json"
_IDENTITY = 8


@dataclass(frozen=True)
class Contents:
    """What a generation is for and what it holds.

    ``release`` is the kernel's, ``key`` the build's, ``userspace`` the id of the userspace
    or None where the driver has none.
    """

    instance: str
    flavour: str
    release: str
    key: str
    userspace: str | None
    tree: Tree


def generation_name(instance: Instance, contents: Contents) -> str:
    """``VERSION-RELEASE-KEY-CONTENT``: sorts by version and kernel, equal for equal contents.

    The last part tells apart generations of one build, such as with other components.
    """
    identity = digest(_value(contents))[:_IDENTITY]
    return f"{instance.version}-{contents.release}-{contents.key[:SHORT]}-{identity}"


def key_of(name: str) -> str | None:
    """How the key begins of the build that the generation ``name`` is made of."""
    match = re.search(rf"-([0-9a-f]{{{SHORT}}})-[0-9a-f]{{{_IDENTITY}}}(?:\.\d+)?$", name)
    return match[1] if match else None


def module_path(release: str, file: str) -> str:
    """Where a generation holds the module ``file`` for kernel ``release``."""
    return f"lib/modules/{release}/{file}"


def manifest_value(contents: Contents, created: str) -> dict[str, Any]:
    """The manifest as JSON values; ``created`` is a time in RFC 3339."""
    return {"schema": SCHEMA, **_value(contents), "created": created}


def parse_generation(value: object) -> Contents:
    """The contents a manifest tells of; ValueError where it is none, or of another schema."""
    if not isinstance(value, Mapping) or value.get("schema") != SCHEMA:
        raise ValueError("not a generation's manifest of this schema")
    words = [value.get(name) for name in ("instance", "flavour", "kernel", "key")]
    if not all(isinstance(word, str) for word in words):
        raise ValueError("the manifest lacks instance, flavour, kernel or key")
    instance, flavour, release, key = map(str, words)
    userspace = value.get("userspace")
    return Contents(
        instance,
        flavour,
        release,
        key,
        None if userspace is None else str(userspace),
        parse_tree(value),
    )


def _value(contents: Contents) -> dict[str, Any]:
    return {
        "instance": contents.instance,
        "flavour": contents.flavour,
        "kernel": contents.release,
        "key": contents.key,
        "userspace": contents.userspace,
        **tree_value(contents.tree),
    }
