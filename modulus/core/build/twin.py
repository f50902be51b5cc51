"""When nothing has to be compiled: two header trees that differ only in what tells releases.

A kernel's *twin* has headers that are its own but for the texts in which they tell the
release. What was compiled for the one is what the other would get, apart from objects that
name such a text. Their modules are made again from the kept objects by kbuild itself.

That holds where each of these does:

- every file, mode and link of the two trees is the same; texts of the release are left out
  of the comparison only in the files and the lines below, and of ``Module.symvers`` the CRCs
  and the order, which only modpost reads;
- an object is kept only if no file that the compiler read for it (kbuild's ``.cmd`` files)
  so much as contains one of the names that stand for those texts;
- what no ``.cmd`` file tells of, the driver's own makefiles and tests of the kernel, contains
  such a name only in lines that the driver's profile vouches for;
- nothing else that is kept contains the release, but in a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from modulus.core.store.keys import digest
from modulus.core.wording import some

NAMES = (b"UTS_RELEASE", b"UTS_VERSION", b"LINUX_PACKAGE_ID", b"BUILD_SALT", b"KERNELRELEASE")
"""What stands for a text of the release, in C, make and shell."""

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
    """A header tree but for its release: ``files`` are short digests by path.

    ``named`` are the files in which one of the ``NAMES`` stands.
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
    """What twins have in common besides their headers: the inputs of the build's key, and the
    ``rule``, a digest, by which objects were kept."""
    others = {
        name: value
        for name, value in inputs.items()
        if name not in ("kernel", "headers", "symvers")
    }
    return digest({"rule": rule, **others})


def names_release(data: bytes) -> bool:
    """Whether one of the names stands anywhere in ``data``."""
    return any(name in data for name in NAMES)


def odd_headers(survey: Survey) -> tuple[str, ...]:
    """The headers that use a name, though no compile but that of ``NAME.mod.c`` should."""
    return tuple(
        path
        for path in survey.named
        if "/include/" in f"/{path}" and not is_telling(path) and not path.endswith(_READERS)
    )


def odd_lines(data: bytes, harmless: Sequence[re.Pattern[str]]) -> tuple[str, ...]:
    """The lines of one of the driver's files that use a name and are not vouched for."""
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
    """Whether ``release`` stands in lines of ``data`` that are a comment of C, and no other."""
    wanted = release.encode()
    return b"\0" not in data and all(
        line.lstrip().startswith(b"//") and not line.rstrip().endswith(b"\\")
        for line in data.splitlines()
        if wanted in line
    )


def files_read(command: str) -> tuple[str, ...] | None:
    """The files that the compiler read, by an object's ``.cmd`` file; None for a linked one.

    ``scripts/basic/fixdep.c`` writes them: ``source_X := FILE``, then ``deps_X := \\`` and a
    line for each. It leaves out ``autoconf.h``, whose options it finds by name as we do.
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
    """In which files two trees differ, as people are told."""
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
    """Of trees, each beside what it is of, the one with the fewest differences, and these."""

    def count(files: Mapping[str, str]) -> int:
        return sum(files.get(path) != new.get(path) for path in files.keys() | new.keys())

    found = min(others, key=lambda other: count(other[1]), default=None)
    return (found[0], difference(found[1], new)) if found else None


def is_remade(name: str) -> bool:
    """Whether the file ``name`` comes of the last stage of kbuild, which is done again."""
    target = name.removeprefix(".").removesuffix(".cmd") if name.endswith(".cmd") else name
    return target.endswith((".ko", ".mod.c", ".mod.o")) or target == "Module.symvers"
