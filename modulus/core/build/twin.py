"""When nothing has to be compiled: two header trees that differ only in texts of the release.

A kernel's *twin* has the same headers, apart from the texts that tell the release. Objects
compiled for the one kernel are those that the other would get, apart from objects that name
such a text. kbuild itself makes the modules again from the kept objects.

This holds where all of the following do:

- every file, mode and link of the two trees is the same. The comparison leaves out texts of
  the release, only in the files and the lines below, and the CRCs and the order of
  ``Module.symvers``, which only modpost reads;
- an object is kept only if no file that the compiler read for it (kbuild's ``.cmd`` files)
  contains a name that stands for such a text;
- the driver's own makefiles and tests of the kernel, which no ``.cmd`` file lists, contain
  such a name only in lines that the driver's profile vouches for;
- no other kept file contains the release, except in a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from modulus.core.store.keys import digest
from modulus.core.wording import some

NAMES = (b"UTS_RELEASE", b"UTS_VERSION", b"LINUX_PACKAGE_ID", b"BUILD_SALT", b"KERNELRELEASE")
"""The names of the release's texts, in C, make and shell."""

_READERS = ("include/linux/vermagic.h", "include/linux/build-salt.h")
"""The kernel's headers that use these names: ``NAME.mod.c`` includes them."""

_MARKS = (*NAMES, *(path.rpartition("/")[2].encode() for path in _READERS))

_TEXT = re.compile(
    rb"^(#define (?:UTS_RELEASE|UTS_VERSION|LINUX_PACKAGE_ID|CONFIG_BUILD_SALT) "
    rb'(?="[^"\n]*"$)|(?:--cfg=)?CONFIG_BUILD_SALT=)(?:"[^"\n]*"|[^"\s]*)$',
    re.MULTILINE,
)
_TELLING = frozenset(
    {
        "build/.config",
        "build/include/config/auto.conf",
        *(
            f"build/include/generated/{name}"
            for name in (
                "autoconf.h",
                "compile.h",
                "package.h",
                "rustc_cfg",
                "utsrelease.h",
                "utsversion.h",
            )
        ),
    }
)
_EXPORTS = "build/Module.symvers"
_DEPENDENCY = re.compile(r" +(?!\$)(\S+)(?: \\)?$")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Survey:
    """A header tree without its release: ``files`` are short digests by path.

    ``named`` are the files that contain one of ``NAMES``.
    """

    digest: str
    files: Mapping[str, str]
    named: tuple[str, ...]


def neutral(path: str, data: bytes, release: str) -> bytes:
    """``data`` of the tree's file ``path`` without what tells the kernel's release."""
    if path == _EXPORTS:
        return b"\n".join(sorted(line.partition(b"\t")[2] for line in data.splitlines()))
    if path in _TELLING:
        return _TEXT.sub(rb"\1", data)
    if path == "build/.kernelvariables":
        line = b"override KERNELRELEASE = %b\n" % release.encode()
        return data.replace(line, b"override KERNELRELEASE =\n")
    if path == "build/include/config/kernel.release" and data.strip() == release.encode():
        return b""
    return data


def is_telling(path: str) -> bool:
    """Whether the tree's file ``path`` may say the release, rather than use it."""
    return path in _TELLING


def family(inputs: Mapping[str, object], rule: str) -> str:
    """A digest of what twins share besides their headers: the other inputs of the build's key,
    and ``rule``, the digest of the rule by which objects were kept."""
    others = {
        name: value
        for name, value in inputs.items()
        if name not in ("kernel", "headers", "symvers")
    }
    return digest({"rule": rule, **others})


def names_release(data: bytes) -> bool:
    """Whether ``data`` contains one of ``NAMES``."""
    return any(name in data for name in NAMES)


def odd_headers(survey: Survey) -> tuple[str, ...]:
    """The headers that use one of ``NAMES``, though only those for ``NAME.mod.c`` should."""
    return tuple(
        path
        for path in survey.named
        if "/include/" in f"/{path}" and not is_telling(path) and not path.endswith(_READERS)
    )


def odd_lines(data: bytes, harmless: Sequence[re.Pattern[str]]) -> tuple[str, ...]:
    """The lines of a driver's file that use a name or its header and are not ``harmless``."""
    if not any(mark in data for mark in _MARKS):
        return ()
    lines = (
        raw.decode("utf-8", "replace").strip()
        for raw in data.splitlines()
        if any(mark in raw for mark in _MARKS)
    )
    return tuple(
        line for line in lines if not any(pattern.search(line) for pattern in harmless)
    )


def only_in_comments(data: bytes, release: str) -> bool:
    """Whether all lines of ``data`` that contain ``release`` are comments of C."""
    wanted = release.encode()
    return b"\0" not in data and all(
        line.lstrip().startswith(b"//") and not line.rstrip().endswith(b"\\")
        for line in data.splitlines()
        if wanted in line
    )


def files_read(command: str) -> tuple[str, ...] | None:
    """The files that the compiler read, from an object's ``.cmd``; None for a linked object.

    ``scripts/basic/fixdep.c`` lists them: ``source_X := FILE``, then ``deps_X := \\`` and a
    line for each. It leaves out ``autoconf.h``: it finds those options by name, as we do.
    """
    lines = command.splitlines()
    source = next((line for line in lines if line.startswith("source_")), None)
    if source is None:
        return None
    found = [source.partition(":=")[2].strip()]
    inside = False
    for line in lines:
        if line.startswith("deps_"):
            inside = True
        elif inside and (match := _DEPENDENCY.match(line)):
            found.append(match[1])
        elif inside and "$(wildcard" not in line:
            inside = False
    return tuple(found)


def difference(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """The files in which two trees differ, as text for people."""
    paths = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
    count = (
        "1 file of the headers differs"
        if len(paths) == 1
        else (f"{len(paths)} files of the headers differ")
    )
    return f"{count} ({some(paths)})"


def nearest(
    new: Mapping[str, str], others: Iterable[tuple[_T, Mapping[str, str]]]
) -> tuple[_T, str] | None:
    """The owner of the tree in ``others`` with the fewest differences, and these as text."""

    def count(files: Mapping[str, str]) -> int:
        return sum(files.get(path) != new.get(path) for path in files.keys() | new.keys())

    found = min(others, key=lambda other: count(other[1]), default=None)
    return (found[0], difference(found[1], new)) if found else None


def is_remade(name: str) -> bool:
    """Whether the last stage of kbuild, which is done again, makes the file ``name``."""
    target = name.removeprefix(".").removesuffix(".cmd") if name.endswith(".cmd") else name
    return target.endswith((".ko", ".mod.c", ".mod.o")) or target == "Module.symvers"
