"""cloud-init's user-data: what makes a bare cloud image a node with a driver.

Source for its form: cloud-init's documentation of cloud-config, modules ``write_files``,
``package_update_upgrade_install`` and ``runcmd``; the last two run in its final stage, in
this order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from modulus.core.config.layers import place
from modulus.core.config.settings import GENERAL, Settings
from modulus.core.instance import Instance
from modulus.core.render import render
from modulus.errors import UsageError
from modulus.redact import redact_text


@dataclass(frozen=True)
class Package:
    """The file from which a node installs Modulus itself."""

    url: str
    sha256: str


def parse_package(url: str | None, sha256: str | None) -> Package | None:
    """The package of a URL and a sha256; None for neither: then a repository has it.

    Raises UsageError for one without the other: nodes verify what they install as root.
    """
    if url is None and sha256 is None:
        return None
    if url is None:
        raise UsageError(
            "--package-sha256 is of no use without --package", "add --package URL, or leave it"
        )
    if not re.fullmatch(r"https?://[!-~]+", url):
        raise UsageError(
            f"--package must be an http or https URL, not {redact_text(url)!r}",
            "put the .deb where the nodes can download it, and give that URL",
        )
    if sha256 is None:
        raise UsageError(
            "--package needs its sha256, which the nodes check before they install it",
            "add --package-sha256 HEX, as sha256sum prints it",
        )
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", sha256):
        raise UsageError(
            f"--package-sha256 must be 64 hexadecimal digits, not {sha256!r}",
            "give it as sha256sum prints it",
        )
    return Package(url, sha256.lower())


def user_data(instance: Instance, settings: Settings, package: Package | None) -> str:
    """The cloud-config text that brings a node to ``instance`` with ``settings``."""
    changed = _changed(settings)
    return render(
        "user-data.j2",
        instance=instance,
        unit=f"modulus@{instance}.service",
        settings=_dumped(changed) if changed else "",
        secret=any(redact_text(text) != text for text in _texts(changed)),
        proxy=settings.proxy,
        package=package,
    )


def _changed(settings: Settings) -> dict[str, Any]:
    """The settings that are not defaults, nested as in a settings file."""
    found: dict[str, Any] = {}
    for key, value, origin in settings.with_origins():
        if origin != "default":
            _merge(found, place(GENERAL, key.split("."), value, "."))
    return found


def _merge(found: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(found.get(name), dict):
            _merge(found[name], value)
        else:
            found[name] = value


def _texts(value: object) -> Iterator[str]:
    """Every text within ``value`` that is a URL."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str) and "://" in value:
        yield value


def _dumped(value: dict[str, Any]) -> str:
    """YAML in ASCII without folded lines, so that it may stand in a block of other YAML."""
    import yaml

    return yaml.safe_dump(value, sort_keys=False, width=2**31).rstrip("\n")
