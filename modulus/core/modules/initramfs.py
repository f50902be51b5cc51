"""What an initramfs holds of other drivers' modules, and what to do about it."""

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
    """An initramfs at one time: its path in the root, size in bytes and time of writing.

    The time is in nanoseconds since the epoch. An image of the same path, size and time counts
    as the same.
    """

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class InitramfsRecord:
    """What is known of an image: which of ``rivals`` it holds without our ``config``.

    ``problem`` says that a rebuild began, or why it did not help; None without a rebuild.
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
    """The record in JSON ``value``; ValueError where it is not one."""
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

    ``listing`` holds the lines of lsinitramfs or lsinitrd, each with a path at its end.
    ``config`` is the name of our file in modprobe.d, which keeps rivals out.
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
    """The ``rivals`` that ``text``, the content of FORCED_LIST, names; options may follow."""
    lines = [line.split() for line in text.splitlines()]
    named = {module_name(words[0]) for words in lines if words and words[0][0] != "#"}
    return tuple(rival for rival in rivals if module_name(rival) in named)


def candidates(release: str) -> tuple[str, ...]:
    """Where the initramfs of kernel ``release`` may be, by Debian, dracut and systemd."""
    return (
        f"/boot/initrd.img-{release}",
        f"/boot/initramfs-{release}.img",
        f"/boot/{release}/initrd",
    )


def scratch_path(image: str) -> str:
    """Where a tool that writes in place makes ``image``; boot loaders ignore this name."""
    folder, name = posixpath.split(image)
    return f"{folder}/.{name}.modulus"


def rebuild_commands(image: str, release: str, config: str) -> Mapping[str, tuple[str, ...]]:
    """The commands that rebuild ``image``, by tool; the caller uses the first tool it finds.

    Both tell what they add, so that progress can be seen. dracut adds ``/etc/modprobe.d`` only
    to an image for this machine (hostonly), so its command names our file there, ``config``.
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
    """The administrator's list loads rivals at boot, whatever the image holds of ours."""
    return Finding(
        "rival-forced",
        "loaded",
        "warning",
        f"{', '.join(forced)} is loaded at every boot, before this driver",
        f"{FORCED_LIST} names it, and what is loaded by name is not kept out by a blacklist",
        f"take it out of {FORCED_LIST} and run update-initramfs -u",
    )


def unknown_finding(image: str, why: str) -> Finding:
    """What the image holds is unknown."""
    return Finding(
        "initramfs-unknown",
        "loaded",
        "info",
        f"what {image} holds is not known",
        why,
        "install the initramfs tools of the distribution, whose lsinitramfs or lsinitrd tells",
    )
