"""A finished build of a small driver, and header trees that tell their release."""

from __future__ import annotations

import re
from pathlib import Path

from modulus.host.reuse.header_digest import survey
from modulus.host.reuse.object_cache import KeptObjects
from tests.support.headertrees import write

OLD, NEW = "6.1.0-55-amd64", "6.1.0-56-amd64"
FAMILY = "f" * 64
GENERATED = "build/include/generated"


def headers(root: Path, release: str) -> Path:
    """A header tree in the normal form, with all that tells the release."""
    texts = {
        "build/.config": f'CONFIG_SMP=y\nCONFIG_BUILD_SALT="{release}"\n',
        "build/.kernelvariables": f"override ARCH = x86\noverride KERNELRELEASE = {release}\n",
        "build/Module.symvers": f"0x{len(root.name):08x}\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n",
        "build/include/config/auto.conf": f"CONFIG_SMP=y\nCONFIG_BUILD_SALT={release}\n",
        "build/include/config/kernel.release": f"{release}\n",
        f"{GENERATED}/autoconf.h": f'#define CONFIG_BUILD_SALT "{release}"\n',
        f"{GENERATED}/compile.h": '#define LINUX_COMPILER "gcc"\n',
        f"{GENERATED}/package.h": f'#define LINUX_PACKAGE_ID " Debian {release}"\n',
        f"{GENERATED}/utsrelease.h": f'#define UTS_RELEASE "{release}"\n',
        f"{GENERATED}/utsversion.h": f'#define UTS_VERSION "#1 {release}"\n',
        f"{GENERATED}/uapi/linux/version.h": "#define LINUX_VERSION_CODE 393664\n",
        "source/include/linux/build-salt.h": "CONFIG_BUILD_SALT\n",
        "source/include/linux/module.h": "int module;\n",
        "source/include/linux/vermagic.h": "UTS_RELEASE\n",
    }
    for name, text in texts.items():
        write(root / name, text)
    return root


def command(target: str, source: str, *read: str) -> str:
    lines = "".join(f"  {path} \\\n" for path in read)
    return (
        f"cmd_/build/{target} := gcc -c\n\nsource_/build/{target} := /build/{source}\n\n"
        f"deps_/build/{target} := \\\n    $(wildcard include/config/SMP) \\\n{lines}\n"
        f"/build/{target}: $(deps_/build/{target})\n"
    )


class Build:
    """A finished build of a small driver: sources, build folder and headers."""

    def __init__(self, folder: Path) -> None:
        self.headers = headers(folder / "headers", OLD)
        self.sources, self.work = folder / "src", folder / "work"
        for place in (self.sources, self.work):
            write(place / "a.c", "int a;\n")
            write(place / "b.c", "char b[] = UTS_RELEASE;\n")
            write(place / "test.sh", "echo UTS_RELEASE > note\n")
            write(place / "blob.o_binary", "vendor" * (1 << 18))
        write(self.work / "a.o", "object a\n")
        write(self.work / "b.o", f"object b {OLD}\n")
        module = "/usr/src/linux/source/include/linux/module.h"
        told = "include/generated/utsrelease.h"
        write(self.work / ".a.o.cmd", command("a.o", "a.c", module, told, "/build/note.h"))
        write(self.work / ".b.o.cmd", command("b.o", "b.c", module, told))
        write(self.work / "m.o", "linked\n")
        write(self.work / ".m.o.cmd", "cmd_/build/m.o := ld -r -o /build/m.o @/build/m.mod\n")
        write(self.work / "m.mod", "/build/a.o\n/build/b.o\n")
        for name in ("m.ko", "m.mod.c", "m.mod.o", ".m.ko.cmd", "Module.symvers"):
            write(self.work / name, OLD)
        write(self.work / "note.h", f"// for {OLD}\n#define HAS_X\n")
        write(self.work / "summary.txt", f"built for {OLD}\n")
        (self.work / "blob.o").symlink_to("/build/blob.o_binary")

    def keep(self, cache: Path, harmless: str = r"^echo UTS_RELEASE > note$") -> Path:
        return KeptObjects(cache).keep(
            FAMILY,
            survey(self.headers, OLD),
            OLD,
            recipe="a" * 64,
            work=self.work,
            sources=self.sources,
            headers=self.headers,
            harmless=[re.compile(harmless)],
        )
