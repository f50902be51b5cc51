"""The vendor installer's ``.manifest``: what each packaged file is and where it goes.

Format and table: the installer's ``install-from-cwd.c`` (``parse_manifest``) and ``manifest.c``
(``packageEntryFileTypeTable``), as of 590.48; the fields of the types have not changed since
418. An entry has file, mode and type, then architecture, path and symlink target as far as the
type has them, then ``MODULE:name``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from modulus.errors import IntegrityError

_FIRST_ENTRY = 9
_INHERIT = "INHERIT_PATH_DEPTH:"
_MODULE = "MODULE:"
_ARCHITECTURES = ("NATIVE", "COMPAT32")


@dataclass(frozen=True)
class ManifestEntry:
    """One packaged file or symlink.

    ``file`` is relative to the package, without a leading ``./``. ``arch`` is NATIVE, COMPAT32
    or None. ``path`` is relative to the type's own folder (absolute for some, empty for
    "directly there"); an inherited one, with ``inherit_depth`` set, is the folder of ``file``
    without that many leading parts. ``link`` is a symlink's target.
    """

    file: str
    mode: int
    type: str
    arch: str | None
    path: str
    link: str | None
    module: str | None
    inherit_depth: int | None


@dataclass(frozen=True)
class VendorManifest:
    """A whole manifest; ``modules`` are the kernel modules the package can build."""

    description: str
    version: str
    modules: tuple[str, ...]
    entries: tuple[ManifestEntry, ...]


@dataclass(frozen=True)
class TypeFields:
    """Which fields an entry of a type has besides file, mode and type."""

    arch: bool
    path: bool
    link: bool
    inherit: bool


def _fields(letters: str) -> dict[str, TypeFields]:
    """A table written as in ``manifest.c``: Arch, Path, Link, Inherit, or ``-``."""
    rows = (line.split() for line in letters.strip().splitlines())
    return {name: TypeFields(*(flag != "-" for flag in flags)) for name, flags in rows}


TYPES = _fields("""
    KERNEL_MODULE_SRC           ---I
    KERNEL_MODULE               ----
    CUDA_ICD                    ----
    OPENGL_LIB                  A---
    WINE_LIB                    A---
    CUDA_LIB                    AP--
    OPENCL_LIB                  AP--
    OPENCL_WRAPPER_LIB          AP--
    OPENCL_LIB_SYMLINK          APL-
    OPENCL_WRAPPER_SYMLINK      APL-
    TLS_LIB                     AP--
    UTILITY_LIB                 A---
    GBM_BACKEND_LIB             A---
    DOCUMENTATION               -P--
    APPLICATION_PROFILE         -P--
    MANPAGE                     -P--
    EXPLICIT_PATH               -P--
    OPENGL_SYMLINK              A-L-
    CUDA_SYMLINK                APL-
    UTILITY_LIB_SYMLINK         A-L-
    GBM_BACKEND_LIB_SYMLINK     A-L-
    INSTALLER_BINARY            ----
    UTILITY_BINARY              ----
    UTILITY_BIN_SYMLINK         --L-
    DOT_DESKTOP                 -P--
    ICON                        -P--
    XMODULE_SHARED_LIB          -P--
    GLX_MODULE_SHARED_LIB       -P--
    GLX_MODULE_SYMLINK          -PL-
    VDPAU_LIB                   AP--
    VDPAU_SYMLINK               APL-
    NVCUVID_LIB                 A---
    NVCUVID_LIB_SYMLINK         A-L-
    ENCODEAPI_LIB               A---
    ENCODEAPI_LIB_SYMLINK       A-L-
    VGX_LIB                     ----
    VGX_LIB_SYMLINK             --L-
    GRID_LIB                    -P--
    GRID_LIB_SYMLINK            -PL-
    MODULE_SIGNING_KEY          ----
    XORG_OUTPUTCLASS_CONFIG     ----
    DKMS_CONF                   ---I
    GLVND_LIB                   A---
    GLVND_SYMLINK               A-L-
    GLX_CLIENT_LIB              A---
    GLX_CLIENT_SYMLINK          A-L-
    VULKAN_ICD_JSON             -P--
    GLVND_EGL_ICD_JSON          ----
    EGL_CLIENT_LIB              A---
    EGL_CLIENT_SYMLINK          A-L-
    EGL_EXTERNAL_PLATFORM_JSON  ----
    FLEXERA_LIB                 -P--
    FLEXERA_LIB_SYMLINK         -PL-
    INTERNAL_UTILITY_BINARY     A---
    INTERNAL_UTILITY_LIB        A---
    INTERNAL_UTILITY_DATA       ----
    FIRMWARE                    ---I
    SYSTEMD_UNIT                ----
    SYSTEMD_UNIT_SYMLINK        -PL-
    SYSTEMD_SLEEP_SCRIPT        ----
    OPENGL_DATA                 -P--
    VULKANSC_ICD_JSON           -P--
    SANDBOXUTILS_FILELIST_JSON  -P--
""")
"""Every type of the vendor's table but two, whose names begin with the vendor's own."""


def type_fields(name: str, words: list[str]) -> TypeFields:
    """The fields of type ``name``; ``words`` are the rest of its entry.

    A type the table lacks (the vendor's helper program, or one of a newer or older driver) is
    read by the form of its words: all type names keep to one pattern.
    """
    if name in TYPES:
        return TYPES[name]
    arch = words[:1] != [] and words[0] in _ARCHITECTURES
    inherit = any(word.startswith(_INHERIT) for word in words)
    link = name.endswith("_SYMLINK")
    named = [word for word in words if not word.startswith((_INHERIT, _MODULE))]
    return TypeFields(arch, len(named) > arch + link, link, inherit)


def parse_manifest(text: str) -> VendorManifest:
    """Reads a manifest; raises IntegrityError with the number of the line that is wrong.

    Entries end at the first empty line, as in the vendor's parser.
    """
    lines = text.split("\n")
    if len(lines) < _FIRST_ENTRY - 1:
        raise _invalid(len(lines), "the file ends within its header")
    version = lines[1].strip()
    if not re.fullmatch(r"[0-9A-Za-z._]+", version, re.ASCII):
        raise _invalid(2, f"{version[:40]!r} is not a version")
    modules = tuple(lines[3].split())
    if not modules:
        raise _invalid(4, "no kernel modules are listed")
    entries = []
    for number, line in enumerate(lines[_FIRST_ENTRY - 1 :], _FIRST_ENTRY):
        if not line.strip():
            break
        entries.append(_entry(line.split(), number))
    return VendorManifest(lines[0].strip(), version, modules, tuple(entries))


def _entry(words: list[str], line: int) -> ManifestEntry:
    if len(words) < 3:
        raise _invalid(line, "an entry needs a file, a mode and a type")
    file, mode, kind, *rest = words
    file = file.removeprefix("./")
    if not re.fullmatch(r"[0-7]{1,5}", mode, re.ASCII):
        raise _invalid(line, f"{mode[:20]!r} is not a mode")
    if not file or ".." in file.split("/") or file.startswith("/") or "\0" in file:
        raise _invalid(line, f"{file[:80]!r} is not a file of the package")
    fields = type_fields(kind, rest)

    def take(what: str) -> str:
        if not rest or rest[0].startswith(_MODULE):
            raise _invalid(line, f"{kind[:40]} needs {what}")
        return rest.pop(0)

    arch, path, link, depth = None, "", None, None
    if fields.arch:
        arch = take("an architecture")
        if arch not in _ARCHITECTURES:
            raise _invalid(line, f"{arch[:40]!r} is not an architecture")
    if fields.path:
        path = take("a path")
    elif fields.inherit:
        depth = _depth(take("a path depth"), line)
        parts = file.split("/")[:-1]
        if depth > len(parts):
            raise _invalid(line, f"{file[:80]!r} is less than {depth} folders deep")
        path = "".join(f"{part}/" for part in parts[depth:])
    if fields.link:
        link = take("a target")
    module = next((word[len(_MODULE) :] for word in rest if word.startswith(_MODULE)), None)
    if "\0" in path or ".." in path.split("/"):
        raise _invalid(line, f"{path[:80]!r} is not a path")
    return ManifestEntry(file, int(mode, 8), kind, arch, path, link, module, depth)


def _depth(word: str, line: int) -> int:
    if not re.fullmatch(_INHERIT + r"\d{1,3}", word, re.ASCII):
        raise _invalid(line, f"{word[:40]!r} is not a path depth")
    return int(word[len(_INHERIT) :])


def _invalid(line: int, why: str) -> IntegrityError:
    return IntegrityError(
        f".manifest: line {line}: {why}",
        "download the driver again; its package is damaged or of an unknown kind",
    )
