"""Whether the files of a generation are those that were put in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modulus.core.findings import Finding
from modulus.core.wording import some

_LOADING = ("lib/modules/", "firmware/")
"""What the kernel loads; the rest is for programs."""


def check_files(
    instance: str, folder: str, problems: Sequence[tuple[str, str]]
) -> Iterator[Finding]:
    """A finding per level for ``problems``: paths in ``folder``, and what is wrong with each.

    Without its modules and firmware a driver cannot be loaded at the next boot; without the
    rest it cannot be used.
    """
    for level in ("loaded", "usable"):
        found = [
            problem
            for path, problem in problems
            if path.startswith(_LOADING) == (level == "loaded")
        ]
        if found:
            yield Finding(
                "generation-files",
                level,
                "error",
                f"not all of {folder} is what was put there",
                some(found, between="; "),
                f"modulus up {instance}",
            )
