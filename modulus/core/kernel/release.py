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
    """What a kernel was compiled with: ``kind`` gcc or clang, its versioned ``command``.

    ``linker`` is the versioned command of LLVM's linker, "" where GNU's linked the kernel.
    ``assembler`` says whether it was clang's own, None where the kernel does not.
    """

    kind: str
    command: str
    version: str
    linker: str = ""
    assembler: bool | None = None

    @property
    def name(self) -> str:
        """What tells toolchains apart that are made for such compilers."""
        usual = not self.linker or self._llvm == self._suffix_of("clang")
        return self.command if usual else f"{self.command}+{self.linker}"

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages of Debian's names that bring compiler and linker."""
        found = [self.command]
        if self.kind == "clang":
            suffix = self._suffix_of("clang")
            found += [f"lld{suffix}", f"llvm{suffix}"]
        if self.linker:
            found.append(f"lld{self._llvm}")
        return tuple(dict.fromkeys(found))

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs of compiler, linker and their like that a build calls."""
        found = (self.command, self.linker or "ld", self.strip)
        return tuple(dict.fromkeys((*found, *(tool for _, tool in self._tools()))))

    @property
    def strip(self) -> str:
        """The program that strips what was built."""
        return dict(self._tools()).get("STRIP", "strip")

    @property
    def make_variables(self) -> Mapping[str, str]:
        """What kbuild is to be told for modules to be made as the kernel was.

        ``LLVM`` alone does, with a suffix since Linux 5.18 (Documentation/kbuild/llvm.rst);
        each tool by its name also does before, and for a driver's makefile that calls one
        itself. Since 5.15 clang's own assembler is what ``LLVM`` means.
        """
        found = {}
        if self.kind == "clang" and self.linker:
            found["LLVM"] = self._llvm
        if self.linker:
            found["LD"] = self.linker
        found |= dict(self._tools())
        if self.kind == "clang" and self.assembler is not None:
            found["LLVM_IAS"] = str(int(self.assembler))
        return found

    def _tools(self) -> tuple[tuple[str, str], ...]:
        """make's variables for LLVM's other tools, with their programs.

        With link-time optimization (``CONFIG_LTO_CLANG``) objects are no ELF files until they
        are linked, and GNU's tools cannot read them.
        """
        if self.kind != "clang" or not self.linker:
            return ()
        names = ("ar", "nm", "objcopy", "objdump", "readelf", "strip")
        return tuple((name.upper(), f"llvm-{name}{self._llvm}") for name in names)

    @property
    def _llvm(self) -> str:
        return self.linker.removeprefix("ld.lld")

    def _suffix_of(self, kind: str) -> str:
        return self.command.removeprefix(kind)


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
        """The compiler and linker the kernel names; ToolchainError where it names none.

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
            command = suffix[0].lstrip("-/")
        else:
            major, minor = [*version.split("."), "0"][:2]
            # gcc before 5 counted its releases in the second number, and so do their packages.
            number = f"{major}.{minor}" if kind == "gcc" and int(major) < 5 else major
            command = f"{kind}-{number}"
        assembler = next(
            (name for name in ("LLVM", "GNU") if self.enabled(f"AS_IS_{name}")), None
        )
        return Compiler(
            kind,
            command,
            version or (suffix[2] if suffix else ""),
            self._linker(command),
            None if assembler is None else assembler == "LLVM",
        )

    def _linker(self, compiler: str) -> str:
        """LLVM's linker, where the kernel was linked by it: of the version that it names, by
        ``CONFIG_LLD_VERSION`` (140006 for 14.0.6), or else of clang's."""
        if not self.enabled("LD_IS_LLD") and not self.enabled("LTO_CLANG"):
            return ""
        major = _number(self.get("LLD_VERSION")).partition(".")[0]
        clang = compiler.removeprefix("clang-")
        return f"ld.lld-{major or clang}" if major or clang != compiler else ""


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
