"""Kernel releases and configurations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.kernel.release import (
    Compiler,
    KernelConfig,
    check,
    near_releases,
    tree_release,
)
from modulus.core.version import release_order
from modulus.errors import ToolchainError, UnsupportedError

CONFIG = KernelConfig.parse(
    "# Linux/x86 6.1.0 Kernel Configuration\n"
    'CONFIG_LOCALVERSION="a \\"b\\" \\\\c"\n'
    "CONFIG_MODULES=y\n"
    "CONFIG_VIDEO_DEV=m\n"
    "CONFIG_HZ=250\n"
    "CONFIG_OFF=n\n"
    "# CONFIG_PREEMPT_RT is not set\n"
)


@pytest.mark.parametrize(
    ("name", "value", "enabled"),
    [
        ("MODULES", "y", True),
        ("CONFIG_VIDEO_DEV", "m", True),
        ("HZ", "250", False),
        ("LOCALVERSION", 'a "b" \\c', False),
        ("OFF", None, False),
        ("PREEMPT_RT", None, False),
        ("NO_SUCH", None, False),
    ],
)
def test_options(name: str, value: str | None, enabled: bool) -> None:
    assert CONFIG.get(name) == value
    assert CONFIG.enabled(name) is enabled


@given(st.text())
def test_any_text_parses(text: str) -> None:
    assert all("\n" not in name for name in KernelConfig.parse(text).options)


@given(st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1))
def test_text_options_come_back(text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    assert KernelConfig.parse(f'CONFIG_X="{escaped}"\n').get("X") == text


@pytest.mark.parametrize(
    ("text", "more", "expected"),
    [
        ("gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0", "", "gcc-12"),
        ("x86_64-linux-gnu-gcc-12 (Debian 12.2.0-14) 12.2.0", "", "gcc-12"),
        ("aarch64-linux-gnu-gcc-13 (Ubuntu 13.2.0-23ubuntu4) 13.2.0", "", "gcc-13"),
        ("gcc (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0", "", "gcc-11"),
        ("gcc (GCC) 8.5.0 20210514 (Red Hat 8.5.0-20)", "CONFIG_GCC_VERSION=80500", "gcc-8"),
        ("gcc (x)", "CONFIG_GCC_VERSION=40902", "gcc-4.9"),
        ("Debian clang version 14.0.6", "CONFIG_CC_IS_CLANG=y", "clang-14"),
        ("clang version 17.0.6", "CONFIG_CLANG_VERSION=170006", "clang-17"),
        ("clang-16", "CONFIG_CC_IS_CLANG=y\nCONFIG_GCC_VERSION=0", "clang-16"),
    ],
)
def test_compiler(text: str, more: str, expected: str) -> None:
    compiler = KernelConfig.parse(f'CONFIG_CC_VERSION_TEXT="{text}"\n{more}\n').compiler
    assert compiler.command == expected
    assert compiler.kind == expected.partition("-")[0]


def test_compiler_version() -> None:
    config = KernelConfig.parse(
        'CONFIG_CC_VERSION_TEXT="gcc-12 (x)"\nCONFIG_GCC_VERSION=120203'
    )
    assert config.compiler == Compiler("gcc", "gcc-12", "12.2.3")


CLANG = 'CONFIG_CC_VERSION_TEXT="Debian clang version 14.0.6"\nCONFIG_CC_IS_CLANG=y\n'
LLD = "CONFIG_LD_IS_LLD=y\nCONFIG_LLD_VERSION=140006\n"
GCC = 'CONFIG_CC_VERSION_TEXT="gcc-12 (x) 12.2.0"\n'
TOOLS = {
    name.upper(): f"llvm-{name}-14"
    for name in ("ar", "nm", "objcopy", "objdump", "readelf", "strip")
}


@pytest.mark.parametrize(
    ("config", "variables", "strip", "name"),
    [
        (GCC, {}, "strip", "gcc-12"),
        (f"{GCC}CONFIG_AS_IS_GNU=y\nCONFIG_LD_IS_BFD=y\n", {}, "strip", "gcc-12"),
        (GCC + LLD, {"LD": "ld.lld-14"}, "strip", "gcc-12+ld.lld-14"),
        # Until Linux 5.12 the kernel's configuration did not name its assembler.
        (f"{CLANG}CONFIG_LD_IS_BFD=y\n", {}, "strip", "clang-14"),
        (f"{CLANG}CONFIG_AS_IS_GNU=y\n", {"LLVM_IAS": "0"}, "strip", "clang-14"),
        (
            f"{CLANG}{LLD}CONFIG_AS_IS_LLVM=y\nCONFIG_LTO_CLANG=y\nCONFIG_LTO_CLANG_THIN=y\n",
            {"LLVM": "-14", "LD": "ld.lld-14", "LLVM_IAS": "1", **TOOLS},
            "llvm-strip-14",
            "clang-14",
        ),
        (
            f"{CLANG}CONFIG_LTO_CLANG=y\n",
            {"LLVM": "-14", "LD": "ld.lld-14", **TOOLS},
            "llvm-strip-14",
            "clang-14",
        ),
    ],
)
def test_modules_are_linked_as_the_kernel_was(
    config: str, variables: dict[str, str], strip: str, name: str
) -> None:
    compiler = KernelConfig.parse(config).compiler
    assert compiler.make_variables == variables
    assert compiler.strip == strip
    assert compiler.name == name
    assert set(TOOLS.values()) & set(compiler.programs) == set(variables.values()) & set(
        TOOLS.values()
    )


def test_no_compiler_is_an_error() -> None:
    with pytest.raises(ToolchainError, match="what compiled it"):
        _ = KernelConfig.parse("CONFIG_MODULES=y").compiler


@pytest.mark.parametrize(
    ("config", "requires", "refuses", "message"),
    [
        ("", (), (), "CONFIG_MODULES is off"),
        ("CONFIG_MODULES=y", ("CONFIG_VIDEO_DEV", "I2C"), (), "CONFIG_VIDEO_DEV, CONFIG_I2C,"),
        ("CONFIG_MODULES=y\nCONFIG_PREEMPT_RT=y", (), ("PREEMPT_RT",), "CONFIG_PREEMPT_RT"),
    ],
)
def test_refused(
    config: str, requires: tuple[str, ...], refuses: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UnsupportedError, match=message) as caught:
        check(KernelConfig.parse(config), "6.1.0-9-amd64", requires=requires, refuses=refuses)
    assert "6.1.0-9-amd64" in caught.value.message
    assert caught.value.code == 15


def test_fitting_kernel_passes() -> None:
    check(CONFIG, "6.1.0-9-amd64", requires=["VIDEO_DEV"], refuses=["CONFIG_PREEMPT_RT"])


@pytest.mark.parametrize(
    ("kernel_release", "utsrelease", "expected"),
    [
        ("6.1.0-9-amd64\n", None, "6.1.0-9-amd64"),
        (None, '#define UTS_RELEASE "6.1.0-9-amd64"\n', "6.1.0-9-amd64"),
        ("old\n", '/* x */\n#define UTS_RELEASE "new"\n', "new"),
        ("", "#define OTHER 1\n", None),
        (None, None, None),
    ],
)
def test_tree_release(
    kernel_release: str | None, utsrelease: str | None, expected: str | None
) -> None:
    assert tree_release(kernel_release, utsrelease) == expected


def test_near_releases_prefer_flavour_then_number() -> None:
    available = (
        *("6.1.0-47-amd64", "6.1.0-55-amd64", "6.1.0-56-amd64", "6.1.0-56-cloud-amd64"),
        *("6.12.117+deb12-amd64", "5.10.0-9-amd64"),
    )
    assert near_releases("6.1.0-54-amd64", available, 3) == (
        *("6.1.0-55-amd64", "6.1.0-56-amd64", "6.1.0-47-amd64"),
    )
    assert near_releases("6.1.0-54-cloud-amd64", available, 1) == ("6.1.0-56-cloud-amd64",)
    assert near_releases("nonsense", (), 3) == ()


def test_releases_sort_by_number() -> None:
    releases = ["6.1.0-10-amd64", "6.1.0-9-amd64", "6.12.1+deb12-amd64", "5.10.0-30-amd64"]
    assert sorted(releases, key=release_order) == [
        *("5.10.0-30-amd64", "6.1.0-9-amd64", "6.1.0-10-amd64", "6.12.1+deb12-amd64"),
    ]
