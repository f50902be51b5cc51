"""Headers of a kernel as if clang had compiled it, with link-time optimization.

No distribution that is tested has such a kernel. What kbuild does for an external module is
decided by the configuration alone, so that of a kernel by GCC is changed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

_VERSION = "140006"
_SET = {
    "CC_VERSION_TEXT": '"Debian clang version 14.0.6"',
    "GCC_VERSION": "0",
    "CLANG_VERSION": _VERSION,
    "LD_VERSION": "0",
    "LLD_VERSION": _VERSION,
    "AS_VERSION": _VERSION,
    **dict.fromkeys(("CC_IS_CLANG", "AS_IS_LLVM", "LD_IS_LLD"), "y"),
    **dict.fromkeys(("LTO", "LTO_CLANG", "LTO_CLANG_THIN", "HAS_LTO_CLANG"), "y"),
    "CC_IMPLICIT_FALLTHROUGH": '"-Wimplicit-fallthrough"',
    "INIT_STACK_NONE": "y",
    "FTRACE_MCOUNT_USE_OBJTOOL": "y",
}
_UNSET = (
    *("CC_IS_GCC", "AS_IS_GNU", "LD_IS_BFD", "LTO_NONE", "GCC_ASM_GOTO_OUTPUT_WORKAROUND"),
    *("GCC10_NO_ARRAY_BOUNDS", "CC_NO_ARRAY_BOUNDS", "GCC_PLUGINS"),
    # What clang 14 has no flags for.
    *("CC_HAS_SLS", "SLS", "MITIGATION_SLS", "CC_HAS_RETURN_THUNK", "RETHUNK"),
    *("CPU_UNRET_ENTRY", "FTRACE_MCOUNT_USE_CC", "INIT_STACK_ALL_ZERO"),
)


def install(headers: Path, root: Path, release: str) -> None:
    """Puts a changed copy of the header tree ``headers`` where ``root`` has that of
    ``release``."""
    tree = root / "usr/src/clang"
    shutil.copytree(headers, tree)  # Follows links: one folder has all.
    build = tree / "build"
    for name in (".config", "include/config/auto.conf"):
        _change(build / name, r"(?:# )?CONFIG_(\w+)[= ]", "CONFIG_{}={}\n", yes="y")
    defined = r"#define CONFIG_(\w+)"
    _change(build / "include/generated/autoconf.h", defined, "#define CONFIG_{} {}\n", yes="1")
    kernel = root / "lib/modules" / release
    kernel.mkdir(parents=True)
    for name in ("build", "source"):
        (kernel / name).symlink_to(f"/usr/src/clang/{name}")
    (kernel / "modules.builtin").touch()


def _change(file: Path, named: str, form: str, *, yes: str) -> None:
    def lines() -> Iterator[str]:
        for line in file.read_text().splitlines(keepends=True):
            found = re.match(named, line)
            if not (found and found[1] in (*_SET, *_UNSET)):
                yield line
        for name, value in _SET.items():
            yield form.format(name, yes if value == "y" else value)

    file.write_text("".join([*lines()]))
