"""What an initramfs holds of other drivers' modules, and what is to be done about it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from modulus.core.findings import Finding
from modulus.core.kernel.moddep import module_name
from modulus.core.record import forms
from modulus.core.record.forms import Fields

FORCED_LIST = "/etc/initramfs-tools/modules"
"""Modules that initramfs-tools loads by name, which no blacklist keeps out
(initramfs-tools, scripts/functions, load_modules)."""

_MODULE = re.compile(r"(?:^|/)lib/modules/([^/]+)/(?:.+/)?([^/]+)\.ko(?:\.(?:gz|xz|zst))?$")


@dataclass(frozen=True)
class Image:
    """An initramfs as it was: its path in the root, its size in bytes, when it was written.

    The time is in nanoseconds since the epoch. Another one of the same size and time is
    taken for the same.
    """

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class InitramfsRecord:
    """What is known of an image: which of ``rivals`` it holds without our ``config``.

    ``problem`` is why a rebuild did not help, or that one was begun; None where none was.
    """

    image: Image
    rivals: tuple[str, ...]
    config: str
    held: tuple[str, ...]
    problem: str | None = None

    def value(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def is_of(self, image: Image, rivals: Sequence[str], config: str) -> bool:
        return (self.image, self.rivals, self.config) == (image, tuple(rivals), config)


def parse_record(value: object) -> InitramfsRecord:
    """The record in JSON ``value``; ValueError for what is none."""
    of = Fields(value, "the record of an initramfs")
    names = forms.list_of(forms.module_name)
    return InitramfsRecord(
        of("image", _image),
        of("rivals", names),
        of("config", forms.name),
        of("held", names),
        of("problem", forms.optional(forms.text)),
    )


def _image(value: object) -> Image:
    of = Fields(value, "the image")
    return Image(
        of("path", forms.absolute), of("size", forms.count), of("mtime_ns", forms.any_number)
    )


def unprotected(
    listing: Iterable[str], release: str, rivals: Sequence[str], config: str
) -> tuple[str, ...]:
    """The ``rivals`` that an image holds for kernel ``release`` without the file ``config``.

    ``listing`` is what lsinitramfs or lsinitrd says, a path at the end of each line;
    ``config`` the name of our file in modprobe.d, with which they are not loaded.
    """
    paths = {line.partition(" -> ")[0].split(" ")[-1] for line in listing}
    if any(_is_config(path, config) for path in paths):
        return ()
    found = {module_name(match[2]) for path in paths if (match := _MODULE.search(path))
             and match[1] == release}  # fmt: skip
    return tuple(rival for rival in rivals if module_name(rival) in found)


def _is_config(path: str, config: str) -> bool:
    folder, name = posixpath.split(path)
    return name == config and posixpath.basename(folder) == "modprobe.d"


def forced_modules(text: str, rivals: Sequence[str]) -> tuple[str, ...]:
    """Those of ``rivals`` that FORCED_LIST, with this ``text``, names; options may follow."""
    lines = [line.split() for line in text.splitlines()]
    named = {module_name(words[0]) for words in lines if words and words[0][0] != "#"}
    return tuple(rival for rival in rivals if module_name(rival) in named)


def candidates(release: str) -> tuple[str, ...]:
    """Where the initramfs of kernel ``release`` may be: Debian's, dracut's, systemd's way."""
    return (
        f"/boot/initrd.img-{release}",
        f"/boot/initramfs-{release}.img",
        f"/boot/{release}/initrd",
    )


def scratch_path(image: str) -> str:
    """Where an ``image`` is made by a tool that writes in place; boot loaders pass it by."""
    folder, name = posixpath.split(image)
    return f"{folder}/.{name}.modulus"


def rebuild_commands(image: str, release: str, config: str) -> Mapping[str, tuple[str, ...]]:
    """By the tool they need, the commands that rebuild ``image``; the first there is used.

    Both tell what they take up, so that progress can be seen. dracut takes ``/etc/modprobe.d``
    up only for this very machine (hostonly), so our file there, ``config``, is named.
    """
    return {
        "update-initramfs": ("update-initramfs", "-u", "-v", "-k", release),
        "dracut": (
            *("dracut", "--force", "--kver", release),
            *("--install", f"/etc/modprobe.d/{config}", image),
        ),
    }


def held_finding(image: str, held: Sequence[str], why: str, fix: str) -> Finding:
    """The next boot would load a rival before anything of ours can keep it out."""
    return Finding(
        "rival-in-initramfs",
        "loaded",
        "warning",
        f"{image} holds {', '.join(held)}, which may take the GPU at the next boot",
        why,
        fix,
    )


def forced_finding(forced: Sequence[str]) -> Finding:
    """The administrator has rivals loaded at boot, whatever the image holds of ours."""
    return Finding(
        "rival-forced",
        "loaded",
        "warning",
        f"{', '.join(forced)} is loaded at every boot, before this driver",
        f"{FORCED_LIST} names it, and what is loaded by name is not kept out by a blacklist",
        f"take it out of {FORCED_LIST} and run update-initramfs -u",
    )


def unknown_finding(image: str, why: str) -> Finding:
    """Nothing can be said of the image."""
    return Finding(
        "initramfs-unknown",
        "loaded",
        "info",
        f"what {image} holds is not known",
        why,
        "install the initramfs tools of the distribution, whose lsinitramfs or lsinitrd tells",
    )
