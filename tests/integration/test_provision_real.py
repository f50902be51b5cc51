"""Headers and toolchains from the distribution's own archive."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from modulus.core.distribution.families import DEBIAN
from modulus.errors import ToolchainError
from modulus.host.distribution.provisioner import Provisioner
from modulus.host.kernel.probe import probe
from modulus.host.report.reporter import PlainReporter
from tests.support.headertrees import write
from tests.support.kernels import FLAVOURS, Kernels

pytestmark = pytest.mark.integration
HELLO = """\
#include <linux/module.h>
static int hello(void) { return 0; }
module_init(hello); MODULE_LICENSE("GPL");
"""


@dataclass(frozen=True)
class Real:
    """The distribution's archive."""

    cache: Path
    provisioner: Provisioner
    reporter: PlainReporter

    def downloaded(self) -> dict[str, int]:
        """When each of apt's files changed."""
        return {str(path): path.stat().st_mtime_ns for path in (self.cache / "apt").rglob("*")}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    distribution = probe(Path("/")).distribution
    if (
        distribution is None
        or distribution.family is not DEBIAN
        or distribution.arch != "amd64"
    ):
        pytest.skip("takes Debian's kernels by their names on amd64")
    base = tmp_path_factory.mktemp("real")
    reporter = PlainReporter()
    provisioner = Provisioner(base / "cache", base / "root", distribution, ())
    with pytest.raises(ToolchainError) as caught:
        provisioner.headers("0.0.0-0-amd64", reporter)
    assert "there are headers of" in caught.value.hint
    return Real(base / "cache", provisioner, reporter)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_real_headers(real: Real, kernels: Kernels, flavour: str) -> None:
    for release in (kernels.newest(flavour), *kernels.others(flavour)):
        assert_headers(real, release, flavour)


def assert_headers(real: Real, release: str, flavour: str) -> None:
    headers = real.provisioner.headers(release, real.reporter)
    assert headers.config.compiler.kind == "gcc"
    assert headers.config.enabled("PREEMPT_RT") is flavour.startswith("rt-")
    assert headers.config.enabled("VIDEO_DEV") is not flavour.startswith("cloud-")
    for path in headers.path.rglob("*"):
        if path.is_symlink():
            assert path.resolve().is_relative_to(headers.path)
    before = real.downloaded()
    assert real.provisioner.headers(release, real.reporter) == headers
    assert real.downloaded() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="systemd-nspawn needs root")
def test_a_real_module_compiles(real: Real, kernels: Kernels, tmp_path: Path) -> None:
    for release in (kernels.newest(), *kernels.others()):
        folder = tmp_path / release
        folder.mkdir()
        assert_compiles(real, release, folder)


def assert_compiles(real: Real, release: str, folder: Path) -> None:
    headers = real.provisioner.headers(release, real.reporter)
    toolchain = real.provisioner.toolchain(headers.config.compiler, real.reporter)
    before = real.downloaded()
    assert real.provisioner.toolchain(headers.config.compiler, real.reporter) == toolchain
    assert real.downloaded() == before
    write(folder / "hello.c", HELLO)
    write(folder / "Makefile", "obj-m := hello.o\n")
    command = [
        *("systemd-nspawn", "-q", "--as-pid2", "--register=no", "--keep-unit", "--pipe"),
        *("--read-only", "--private-network", "--timezone=off", "--link-journal=no"),
        *("-D", str(toolchain.root)),
        *(f"--bind-ro={headers.path}:/usr/src/linux", f"--bind={folder}:/build"),
        *("make", "-C", "/usr/src/linux/build", "M=/build", f"CC={toolchain.cc}", "modules"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = subprocess.run(
        ["modinfo", "-F", "vermagic", str(folder / "hello.ko")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert shown.stdout.split()[0] == release
