"""A kernel's release and configuration: what they say about building modules for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from modulus.core.version import release_order
from modulus.errors import ToolchainError, UnsupportedError, UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*")
_SET = re.compile(r"CONFIG_(\w+)=(.*)")
_UTSRELEASE = re.compile(r'^\s*#define\s+UTS_RELEASE\s+"([^"]*)"', re.MULTILINE)
_SUFFIXED = re.compile(r"(?:^|[-/])(gcc|clang)-(\d+(?:\.\d+)?)(?=\s|$)")


@dataclass(frozen=True)
class Compiler:
    """What a kernel was compiled with: ``kind`` gcc or clang, its versioned ``command``."""

    kind: str
    command: str
    version: str


@dataclass(frozen=True)
class KernelConfig:
    """The options of a kernel's ``.config``, named with or without ``CONFIG_``."""

    options: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> KernelConfig:
        """Reads ``.config``; an option that "is not set" is the same as an absent one."""
        options = {}
        for line in text.splitlines():
            match = _SET.fullmatch(line.strip())
            if match and match[2] != "n":
                options[match[1]] = _unquoted(match[2])
        return cls(options)

    def get(self, name: str) -> str | None:
        """The option's value, text without its quotes; None where it is not set."""
        return self.options.get(name.removeprefix("CONFIG_"))

    def enabled(self, name: str) -> bool:
        """Whether the option is built in or a module."""
        return self.get(name) in ("y", "m")

    @property
    def compiler(self) -> Compiler:
        """The compiler the kernel names; ToolchainError where it names none.

        ``CONFIG_CC_VERSION_TEXT`` reads ``gcc-12 (Debian 12.2.0-14) 12.2.0``, with or without
        a target triplet, a suffix or a vendor's name in front; ``CONFIG_GCC_VERSION`` is
        120200 for 12.2.0 (the kernel's init/Kconfig).
        """
        text = self.get("CC_VERSION_TEXT") or ""
        clang = self.enabled("CC_IS_CLANG") or ("clang" in text and "gcc" not in text)
        kind = "clang" if clang else "gcc"
        version = _number(self.get(f"{kind.upper()}_VERSION")) or _last_version(text)
        suffix = _SUFFIXED.search(text.split("(")[0].strip())
        if not version and not suffix:
            raise ToolchainError(
                "the kernel's configuration does not say what compiled it",
                "install headers whose .config has CONFIG_CC_VERSION_TEXT",
            )
        if suffix and suffix[1] == kind:
            return Compiler(kind, suffix[0].lstrip("-/"), version or suffix[2])
        major, minor = [*version.split("."), "0"][:2]
        # gcc before 5 counted its releases in the second number, and so do their packages.
        number = f"{major}.{minor}" if kind == "gcc" and int(major) < 5 else major
        return Compiler(kind, f"{kind}-{number}", version)


def check(
    config: KernelConfig,
    release: str,
    *,
    requires: Iterable[str] = (),
    refuses: Iterable[str] = (),
) -> None:
    """Raises UnsupportedError if the kernel's options rule a driver out.

    ``requires`` and ``refuses`` are a profile's ``requires_config`` and ``refuses_config``.
    """
    if not config.enabled("MODULES"):
        raise UnsupportedError(
            f"kernel {release} cannot load modules (CONFIG_MODULES is off)",
            "boot a kernel with module support",
        )
    missing = [_named(name) for name in requires if not config.enabled(name)]
    if missing:
        raise UnsupportedError(
            f"kernel {release} was built without {', '.join(missing)}, which the driver needs",
            "boot a kernel that has it; a distribution's standard flavour has most",
        )
    wrong = [_named(name) for name in refuses if config.enabled(name)]
    if wrong:
        raise UnsupportedError(
            f"kernel {release} was built with {', '.join(wrong)}, which the driver refuses",
            "boot a kernel without it, such as the distribution's standard flavour",
        )


def check_name(release: str) -> None:
    """Checks that a user's name for a kernel has the form of ``uname -r``.

    UsageError for what cannot name a file, ToolchainError for what cannot name a kernel.
    """
    if not _NAME.fullmatch(release):
        raise UsageError(
            f"{release!r} is not a kernel release", "name one as uname -r shows it"
        )
    if not release[0].isdigit():
        raise ToolchainError(
            f"no kernel is called {release}: a release begins with a number",
            "name one as uname -r shows it; /lib/modules has those that are installed",
        )


def tree_release(kernel_release: str | None, utsrelease: str | None) -> str | None:
    """The release a header tree is for, from the texts of its ``include/config/kernel.release``
    and ``include/generated/utsrelease.h``; None where neither says."""
    if utsrelease is not None and (match := _UTSRELEASE.search(utsrelease)):
        return match[1]
    return (kernel_release or "").strip() or None


def near_releases(wanted: str, available: Iterable[str], count: int = 5) -> tuple[str, ...]:
    """The ``count`` of ``available`` most like ``wanted``: in flavour, then in number."""
    numbers, flavour = release_order(wanted)

    def distance(release: str) -> tuple[bool, tuple[int, ...], str]:
        others, other = release_order(release)
        width = max(len(numbers), len(others))
        pairs = zip(_padded(numbers, width), _padded(others, width), strict=True)
        return other != flavour, tuple(abs(a - b) for a, b in pairs), release

    return tuple(sorted(set(available), key=distance)[:count])


def _padded(numbers: tuple[int, ...], width: int) -> tuple[int, ...]:
    return numbers + (0,) * (width - len(numbers))


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value


def _named(option: str) -> str:
    return f"CONFIG_{option.removeprefix('CONFIG_')}"


def _number(encoded: str | None) -> str:
    if not encoded or not encoded.isascii() or not encoded.isdigit() or not int(encoded):
        return ""
    value = int(encoded)
    return f"{value // 10000}.{value // 100 % 100}.{value % 100}"


def _last_version(text: str) -> str:
    found = re.findall(r"(?<![\w.+~-])\d+(?:\.\d+)+", text, re.ASCII)
    return str(found[-1]) if found else ""
