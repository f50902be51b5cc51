"""Small kernel header trees in the shapes that distributions ship."""

from __future__ import annotations

from pathlib import Path

RELEASE = "6.1.0-99-amd64"
CONFIG = """\
CONFIG_CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-14) 12.2.0"
CONFIG_CC_IS_GCC=y
CONFIG_GCC_VERSION=120200
CONFIG_MODULES=y
CONFIG_OBJTOOL=y
"""


def write(path: Path, text: str = "text\n", mode: int = 0o644) -> Path:
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def link(path: Path, target: str) -> None:
    """A symbolic link with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def _generated(build: Path, release: str) -> None:
    write(build / ".config", CONFIG)
    write(build / "Module.symvers", "0x1\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n")
    write(build / "include/generated/autoconf.h", "#define CONFIG_MODULES 1\n")
    write(build / "include/generated/utsrelease.h", f'#define UTS_RELEASE "{release}"\n')
    write(build / "vmlinux", "the kernel\n")


def _sources(source: Path) -> None:
    write(source / "Makefile", "all:\n\t@echo source $(realpath $(CURDIR))\n")
    write(source / "include/linux/module.h")
    write(source / "include/asm-generic/vmlinux.lds.h")
    write(source / "kernel/module.c", "int x;\n")
    link(source / "include/linux/alias.h", "module.h")


def _tools(folder: Path) -> None:
    for name in ("scripts/basic/fixdep", "scripts/mod/modpost", "tools/objtool/objtool"):
        write(folder / name, "#!/bin/sh\n", 0o755)
    write(folder / "scripts/mod/modpost.c", "int y;\n")
    write(folder / "scripts/mod/empty.o", "object\n")


def debian(root: Path, release: str = RELEASE, common: str = "6.1.0-99-common") -> None:
    """Debian's split tree: ARCH, common and kbuild folders, absolute links between them."""
    build, source = (root / f"usr/src/linux-headers-{name}" for name in (release, common))
    kbuild = root / "usr/lib/linux-kbuild-6.1"
    _generated(build, release)
    _sources(source)
    _tools(kbuild)
    write(build / "Makefile", f"include /usr/src/linux-headers-{common}/Makefile\n")
    for folder in (build, source):
        link(folder / "scripts", "../../lib/linux-kbuild-6.1/scripts")
        link(folder / "tools", "/usr/lib/linux-kbuild-6.1/tools")
    modules(root, release, f"/usr/src/linux-headers-{release}")
    link(root / f"lib/modules/{release}/source", f"/usr/src/linux-headers-{common}")


def ubuntu(root: Path, release: str = "5.15.0-91-generic") -> None:
    """Ubuntu's tree: the flavour's folder links into the common one."""
    version = release.rpartition("-")[0]
    build, common = (root / f"usr/src/linux-headers-{name}" for name in (release, version))
    _generated(build, release)
    _sources(common)
    _tools(build)
    for name in ("Makefile", "kernel"):
        link(build / name, f"../linux-headers-{version}/{name}")
    link(build / "include/linux", f"../../linux-headers-{version}/include/linux")
    modules(root, release, f"/usr/src/linux-headers-{release}")


def single(root: Path, release: str = RELEASE) -> None:
    """A kernel built where its sources are, as its own Makefile installs it."""
    _single_at(root / "usr/src/linux", release)
    modules(root, release, "/usr/src/linux")
    link(root / f"lib/modules/{release}/source", "/usr/src/linux")


def in_place(root: Path, release: str = RELEASE) -> None:
    """A full tree right below /lib/modules, as Flatcar has it."""
    _single_at(root / f"lib/modules/{release}/build", release)


def output_folder(root: Path, release: str = RELEASE) -> None:
    """A kernel built with O= in a folder of its own sources."""
    source = root / "home/me/linux"
    _sources(source)
    build = source / "out"
    _generated(build, release)
    _tools(build)
    write(
        build / "Makefile", "export KBUILD_OUTPUT = /home/me/linux/out\ninclude ../Makefile\n"
    )
    link(build / "source", "..")
    modules(root, release, "/home/me/linux/out")


def modules(root: Path, release: str, build: str) -> None:
    """The link that leads from a kernel's modules to its headers."""
    link(root / f"lib/modules/{release}/build", build)


def _single_at(folder: Path, release: str) -> None:
    _generated(folder, release)
    _sources(folder)
    _tools(folder)
    write(folder / ".git/config")
    write(folder / "drivers/built-in.a")
