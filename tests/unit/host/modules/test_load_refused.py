"""Modules that are not loaded, or not as they should, and how they go again."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from modulus.core.profile.load_causes import LoadCause
from modulus.errors import (
    BusyError,
    ModulusError,
    NoGpuError,
    RefusedError,
    ToolchainError,
)
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.modprobe_conf import configure_modprobe
from modulus.host.modules.foreign import find_foreign, foreign_findings, foreign_names
from modulus.host.modules.load import (
    WantedModule,
    check_loaded,
    loaded,
)
from modulus.host.modules.module_root import compose
from modulus.host.modules.unload import unload
from modulus.host.process.run import run
from tests.support.elfmaker import kernel_module
from tests.support.fakemodprobe import RELEASE, Node, write


@pytest.mark.parametrize(
    ("file", "srcversion", "words"),
    [
        ("", "OTHER", "gpu 1.0 is loaded, not 2.0"),
        ("updates/dkms/gpu.ko", "OTHER", "updates/dkms/gpu.ko (DKMS), not 2.0"),
        ("updates/dkms/gpu-current.ko", "OTHER", "updates/dkms/gpu-current.ko (DKMS), not 2.0"),
        ("kernel/gpu-1/gpu.ko", "OTHER", "kernel/gpu-1/gpu.ko (the distribution), not 2.0"),
        ("updates/dkms/gpu.ko", "THIRD", "gpu 1.0 is loaded, not 2.0"),
        ("updates/dkms/gpu.ko.zst", "OTHER", "updates/dkms/gpu.ko.zst (DKMS), not 2.0"),
    ],
)
def test_another_version_is_refused_before_anything_is_loaded(
    node: Node, file: str, srcversion: str, words: str
) -> None:
    if file:
        content = kernel_module(modinfo={"srcversion": srcversion})
        write(node.kernel / file, b"packed" if file.endswith(".zst") else content)
        with (node.kernel / "modules.dep").open("a") as dep:
            dep.write(f"{file}:\n")
    write(node.root / "etc/modprobe.d/d.conf", "install gpu modprobe -i gpu-current\n")
    node.sysfs("gpu", version="1.0", srcversion="OTHER")
    with pytest.raises(BusyError) as error:
        node.load()
    assert words in error.value.message
    assert node.calls == []
    assert "dkms" in error.value.hint


@pytest.mark.parametrize(("active", "words"), [(False, "an earlier"), (True, "the active")])
def test_a_generation_of_ours_is_told_apart(
    node: Node, monkeypatch: pytest.MonkeyPatch, active: bool, words: str
) -> None:
    home = node.root / "opt/drivers/.gpu/old"
    old = home / f"lib/modules/{RELEASE}/gpu.ko"
    write(old, kernel_module(modinfo={"srcversion": "OLD"}))
    if active:
        generation = SimpleNamespace(path=home)
        monkeypatch.setattr(
            "modulus.host.modules.foreign.active_generation", lambda *_: generation
        )
    node.sysfs("gpu", version="1.0", srcversion="OLD")
    with pytest.raises(BusyError, match=rf"\.gpu/old/.*\({words} generation\)") as error:
        check_loaded(node.driver, RELEASE, node.wanted())
    assert "modulus down gpu-1.0" in error.value.hint


def test_another_build_of_the_same_version_is_not_ours(node: Node) -> None:
    node.sysfs("gpu_uvm", srcversion="OTHER")
    with pytest.raises(BusyError, match="gpu-uvm is loaded, another build than ours"):
        node.load()


def test_a_module_that_was_loaded_from_elsewhere_meanwhile_is_seen(node: Node) -> None:
    write(node.tools / "gpu.other")
    with pytest.raises(BusyError, match=r"gpu 1\.0 is loaded, not 2\.0"):
        node.load()


def test_a_driver_without_versions_is_taken_as_it_is(node: Node) -> None:
    node.sysfs("gpu", version="1.0", srcversion="ANY")
    wanted = [WantedModule("gpu", Path("gpu.ko"), None, None)]
    assert check_loaded(node.driver, RELEASE, wanted) == ()


@pytest.mark.parametrize(
    ("kmsg", "fail", "kind"),
    [
        ("", "modprobe: ERROR: could not insert 'gpu': No such device\n", NoGpuError),
        ("3,9,9,-;gpu: version magic 'a' should be 'b'\n", "bad\n", RefusedError),
        ("3,9,9,-;GPU is taken\n", "modprobe: No such device\n", BusyError),
    ],
)
def test_a_load_that_fails_is_explained(
    node: Node, kmsg: str, fail: str, kind: type[ModulusError]
) -> None:
    write(node.tools / "gpu.kmsg", kmsg)
    write(node.tools / "gpu.fail", fail)
    with pytest.raises(kind, match="gpu was not loaded: "):
        node.load(LoadCause("GPU is taken", "another has it", "take it", "busy"))
    assert "gpu_uvm" not in loaded(node.root, ["gpu-uvm"])


def test_what_the_kernel_said_before_does_not_count(node: Node) -> None:
    write(node.tools / "gpu.fail", "oh\n")
    write(node.tools / "ipmi_si.kmsg", "3,1,1,-;NVRM: No GPU\n")
    with pytest.raises(RefusedError, match="gpu was not loaded: oh"):
        node.load(LoadCause("No GPU", "there is none", "buy one", "no-gpu"))


def test_a_load_that_succeeds_may_leave_findings(node: Node) -> None:
    write(node.tools / "gpu.kmsg", "3,9,9,-;GPU 2 is too old\n")
    cause = LoadCause("too old", "it is old", "use another", "unsupported")
    assert node.load(cause) == (("gpu", "gpu-uvm"), ("kernel-log-unsupported",))


def test_a_modprobe_that_hangs_is_given_up(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modulus.host.modules.load.LOAD_SECONDS", 0.2)
    write(node.tools / "modprobe", f"#!/bin/sh\necho $$ >{node.root}/pid; exec sleep 9\n")
    node.sysfs("ipmi_si")
    with pytest.raises(BusyError, match="did not finish loading"):
        node.load()
    # What starts a module is not killed.
    pid = int((node.root / "pid").read_text())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_node_without_modprobe_is_told(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(node.root))
    with pytest.raises(ToolchainError, match="modprobe is not installed"):
        node.load()


def test_what_sysfs_shows(node: Node) -> None:
    node.sysfs("gpu_uvm", ["b", "a"], srcversion="X", refcnt="3")
    module = loaded(node.root, ["gpu-uvm", "gpu"])["gpu_uvm"]
    assert (module.refcnt, module.holders, module.srcversion) == (3, ("a", "b"), "X")
    (node.root / "sys/module/gpu").mkdir()
    assert loaded(node.root, ["gpu"])["gpu"].refcnt is None


def test_modules_are_unloaded_in_order_and_no_others(node: Node) -> None:
    node.sysfs("gpu", ["gpu_uvm"], refcnt="1")
    node.sysfs("gpu_uvm", refcnt="0")
    node.sysfs("drm", ["gpu"], refcnt="1")
    order = ["gdrdrv", "gpu-uvm", "gpu_drm", "gpu"]
    assert unload(node.root, order, node.reporter) == ("gpu_uvm", "gpu")
    assert node.calls == ["rmmod gpu_uvm", "rmmod gpu"]
    assert unload(node.root, order, node.reporter) == ()


@pytest.mark.parametrize(
    ("holders", "refcnt", "words"),
    [
        (("gpu_uvm", "gpu_fs"), "2", "in use: gpu by module gpu_fs$"),
        (("gpu_uvm",), "4", "in use: gpu by 3 open devices$"),
        (("gpu_uvm", "gpu_fs"), "3", "in use: gpu by module gpu_fs and 1 open device$"),
    ],
)
def test_a_driver_in_use_stays_whole(
    node: Node, holders: tuple[str, ...], refcnt: str, words: str
) -> None:
    node.sysfs("gpu", holders, refcnt=refcnt)
    node.sysfs("gpu_uvm", refcnt="0")
    with pytest.raises(BusyError, match=words):
        unload(node.root, ["gpu_uvm", "gpu"], node.reporter)
    assert node.calls == []


def test_a_module_that_was_taken_into_use_meanwhile_is_told(node: Node) -> None:
    node.sysfs("gpu", refcnt="0")
    write(node.tools / "gpu.fail")
    with pytest.raises(BusyError, match=r"gpu was not unloaded: .*in use"):
        unload(node.root, ["gpu"], node.reporter)


def test_real_tools_load_ours_whatever_a_distribution_has_configured(tmp_path: Path) -> None:
    """Real depmod and modprobe, dry, with DKMS' copy and Debian's install lines in place."""
    root = tmp_path / "root"
    kernel = root / "lib/modules" / RELEASE
    write(kernel / "kernel/drm.ko", kernel_module(exports={"drm_open": 1}))
    write(kernel / "updates/dkms/gpu-current.ko", kernel_module(modinfo={"alias": "pci:v1*"}))
    write(kernel / "updates/dkms/gpu.ko", kernel_module(modinfo={"alias": "pci:v1*"}))
    for name in ("modules.builtin", "modules.order"):
        write(kernel / name)
    run(["depmod", "-b", root, RELEASE])
    hostile = write(
        root / "etc/modprobe.d/gpu.conf",
        "install gpu modprobe -i gpu-current $CMDLINE_OPTS\nalias gpu_uvm gpu-current\n"
        "options gpu Mode=9\nblacklist drm\n",
    )
    info = {"license": "X", "alias": "pci:v1*", "depends": "drm"}
    modules = {
        "gpu": write(
            root / "gen/gpu.ko",
            kernel_module(modinfo=info, undefined=["drm_open"], exports={"gpu_get": 2}),
        ),
        "gpu-uvm": write(
            root / "gen/gpu-uvm.ko",
            kernel_module(modinfo={"depends": "gpu"}, undefined=["gpu_get"]),
        ),
    }
    driver = DriverPaths(root, "gpu")
    found = find_foreign(driver, RELEASE, modules)
    assert [(origin.file.split("/")[-1], origin.owner) for origin in found] == [
        ("gpu-current.ko", "DKMS"),
        ("gpu.ko", "DKMS"),
    ]
    assert len(foreign_findings("gpu", found)) == 1
    blacklist = ["rival", *modules, *foreign_names(found)]
    configure_modprobe(driver, {"gpu": {"Mode": "1"}}, blacklist)
    config = driver.modprobe_config
    made = compose(driver, RELEASE, modules, ["gpu", "gpu-uvm"])

    def shown(*words: str | Path) -> list[str]:
        argv = ["modprobe", "-S", RELEASE, "-n", "-v", "--show-depends", *words]
        return [line.strip() for line in run(argv).stdout.splitlines()]

    updates = f"insmod {made.path}/lib/modules/{RELEASE}/updates"
    drm = f"insmod {made.path}/lib/modules/{RELEASE}/kernel/drm.ko"
    ours: list[str | Path] = ["-d", made.path, "-C", config, "--ignore-install"]
    assert shown(*ours, "gpu-uvm") == [
        drm,
        f"{updates}/gpu.ko Mode=1",
        f"{updates}/gpu-uvm.ko",
    ]
    assert shown(*ours, "gpu") == [drm, f"{updates}/gpu.ko Mode=1"]
    # What it is for: the same on the node's own modules and configuration.
    assert "gpu-current" in "".join(shown("-d", root, "-C", hostile.parent, "gpu"))
    # And udev loads neither copy by alias any more, as it would have.
    by_alias: list[str | Path] = ["modprobe", "-S", RELEASE, "-n", "-v", "-b", "-d", root, "-C"]
    assert "gpu" in run([*by_alias, "/dev/null", "pci:v1d2"]).stdout
    assert run([*by_alias, config.parent, "pci:v1d2"], ok=(0, 1)).stdout == ""
