"""A generation: one driver for one kernel with its userspace, whole and never changed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from modulus.core.instance import Instance
from modulus.core.kernel.identity import KernelId, parse_kernel
from modulus.core.record import forms
from modulus.core.record.forms import Fields
from modulus.core.store.keys import SHORT, digest
from modulus.core.tree import Tree, parse_tree, tree_value

SCHEMA = 2
MANIFEST = "generation.json"
_DIGITS = 8


@dataclass(frozen=True)
class Identity:
    """What a generation is for.

    ``key`` is the build's, ``recipe`` the digest of how it was built; ``components`` are those
    of the userspace that were asked for. Older generations record no recipe.
    """

    instance: Instance
    flavour: str
    kernel: KernelId
    key: str
    components: tuple[str, ...] = ()
    recipe: str | None = None


@dataclass(frozen=True)
class Contents:
    """What a generation is for and what it holds; ``userspace`` is the id of the userspace
    or None where the driver has none."""

    identity: Identity
    userspace: str | None
    tree: Tree

    @property
    def release(self) -> str:
        """The kernel's release."""
        return self.identity.kernel.release


def generation_name(contents: Contents) -> str:
    """``VERSION-RELEASE-KEY-CONTENT``: sorts by version and kernel, equal for equal contents.

    The last part tells apart generations of one build, such as those of other components.
    """
    of = contents.identity
    own = digest(_value(contents))[:_DIGITS]
    return f"{of.instance.version}-{contents.release}-{of.key[:SHORT]}-{own}"


def key_of(name: str) -> str | None:
    """The start of the build's key in the generation's ``name``, or None."""
    match = re.search(rf"-([0-9a-f]{{{SHORT}}})-[0-9a-f]{{{_DIGITS}}}(?:\.\d+)?$", name)
    return match[1] if match else None


def module_path(release: str, file: str) -> str:
    """Where a generation holds the module ``file`` for kernel ``release``."""
    return f"lib/modules/{release}/{file}"


def manifest_value(contents: Contents, created: str) -> dict[str, Any]:
    """The manifest as JSON values; ``created`` is a time in RFC 3339."""
    return {"schema": SCHEMA, **_value(contents), "created": created}


def parse_generation(value: object) -> Contents:
    """The contents in a manifest; ValueError for anything else, or another schema."""
    of = Fields(value, "the manifest")
    of("schema", forms.exactly(SCHEMA))
    return Contents(
        Identity(
            of("instance", forms.instance),
            of("flavour", forms.word),
            parse_kernel(of),
            of("key", forms.sha256),
            of("components", forms.list_of(forms.word)),
            of("recipe", forms.optional(forms.word)),
        ),
        of("userspace", forms.optional(forms.word)),
        parse_tree(value),
    )


def _value(contents: Contents) -> dict[str, Any]:
    of = contents.identity
    return {
        "instance": str(of.instance),
        "flavour": of.flavour,
        "kernel": of.kernel.release,
        "kernel_version": of.kernel.version,
        "build_id": of.kernel.build_id,
        "key": of.key,
        **({"recipe": of.recipe} if of.recipe else {}),
        "components": list(of.components),
        "userspace": contents.userspace,
        **tree_value(contents.tree),
    }
