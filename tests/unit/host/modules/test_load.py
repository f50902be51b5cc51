from __future__ import annotations

import os
import subprocess

import pytest

from modulus.errors import (
    BusyError,
    IntegrityError,
    RefusedError,
)
from modulus.host.modules.load import (
    read_wanted,
    settled,
)
from modulus.host.modules.module_root import ModuleRoot
from tests.support.fakemodprobe import RELEASE, Node, write


def links(made: ModuleRoot) -> dict[str, str]:
    folder = made.path / "lib/modules" / made.release
    return {
        str(path.relative_to(folder)): os.readlink(path)
        for path in folder.rglob("*")
        if path.is_symlink()
    }


def test_the_module_root_holds_ours_and_what_they_need(node: Node) -> None:
    made = node.compose()
    assert made.path == node.root / "run/modulus/gpu/modules"
    assert made.preload == ("ipmi_si",)
    ours = node.root / f"opt/drivers/.gpu/gen/lib/modules/{RELEASE}"
    kernel = ("drm.ko.xz", "base.ko", "ipmi_si.ko", "ipmi.ko")
    assert links(made) == {
        "updates/gpu.ko": str(ours / "gpu.ko"),
        "updates/gpu-uvm.ko": str(ours / "gpu-uvm.ko"),
        "modules.builtin": str(node.kernel / "modules.builtin"),
        **{f"kernel/{name}": str(node.kernel / "kernel" / name) for name in kernel},
    }
    call = node.calls[0].split()
    assert call[0:2] + call[-1:] == ["depmod", "-b", RELEASE]
    assert (made.path / "depmod.conf").read_text() == "search updates built-in\n"


def test_it_is_made_anew_only_if_something_changed(node: Node) -> None:
    assert node.compose().changed
    again = node.compose()
    assert (again.changed, again.preload) == (False, ("ipmi_si",))
    assert len(node.calls) == 1
    modules = {"gpu": node.module("gpu", depends="drm", alias="x")}
    assert node.compose(modules=modules, load=["gpu"]).changed
    assert "updates/gpu-uvm.ko" not in links(node.compose(modules=modules, load=["gpu"]))
    write(node.kernel / "modules.dep", "kernel/drm.ko.xz:\n")
    assert node.compose(modules=modules, load=["gpu"]).changed
    assert [path.name for path in (node.root / "run/modulus/gpu").iterdir()] == ["modules"]


def test_modules_below_usr_are_found(node: Node) -> None:
    (node.root / "usr").mkdir()
    (node.root / "lib").rename(node.root / "usr/lib")
    (node.root / "lib").symlink_to("/usr/lib")
    made = links(node.compose())
    assert made["kernel/drm.ko.xz"] == str(
        node.root / "usr/lib/modules" / RELEASE / "kernel/drm.ko.xz"
    )


def test_a_kernel_without_what_is_needed_is_refused(node: Node) -> None:
    with pytest.raises(
        RefusedError, match=r"lacks .*, ib_uverbs \(for gpu-peermem\)$"
    ) as error:
        node.compose(load=["gpu-peermem"])
    assert f"linux-modules-extra-{RELEASE}" in error.value.hint
    (node.root / "sys/module/ib_uverbs").mkdir(parents=True)
    assert node.compose(load=["gpu-peermem"]).changed
    (node.kernel / "modules.dep").unlink()
    with pytest.raises(RefusedError, match=r"drm \(for gpu\): it has no modules\.dep"):
        node.compose()


def test_a_node_without_modules_is_enough_for_a_driver_that_needs_none(node: Node) -> None:
    (node.kernel / "modules.dep").unlink()
    (node.kernel / "modules.builtin").unlink()
    assert node.compose(modules={"gpu": node.module("gpu")}, load=["gpu"]).preload == ()


def test_a_depmod_that_fails_leaves_the_module_root_that_was(node: Node) -> None:
    before = links(node.compose())
    write(node.tools / "depmod.fail")
    with pytest.raises(RefusedError, match="depmod: bad module"):
        node.compose(load=["gpu"])
    assert links(node.compose()) == before
    assert [path.name for path in (node.root / "run/modulus/gpu").iterdir()] == ["modules"]


def test_a_file_that_is_no_module_is_told(node: Node) -> None:
    with pytest.raises(IntegrityError, match="cannot be read as a kernel module"):
        read_wanted("gpu", write(node.root / "gpu.ko", "x"))
    with pytest.raises(IntegrityError):
        read_wanted("gpu", write(node.root / "empty.ko"))


def test_modules_are_loaded_by_name_in_order(node: Node) -> None:
    assert node.load() == (("gpu", "gpu-uvm"), ())
    base = f"modprobe -d {node.root}/m -C {node.driver.modprobe_config} --ignore-install"
    assert node.calls == [f"{base} {name}" for name in ("ipmi_si", "gpu", "gpu-uvm")]
    assert "load: gpu-uvm 2.0\n" in node.log.getvalue()
    assert node.load() == ((), ())
    assert len(node.calls) == 3
    assert "gpu, gpu-uvm: loaded already" in node.log.getvalue()


def test_what_is_loaded_right_is_left(node: Node) -> None:
    node.sysfs("gpu", srcversion="Sgpu")
    node.sysfs("ipmi_si")
    assert node.load() == (("gpu-uvm",), ())
    assert len(node.calls) == 1


def test_a_module_that_is_just_coming_is_waited_for_by_modprobe(node: Node) -> None:
    node.sysfs("gpu", srcversion="Sgpu", initstate="coming")
    assert node.load()[0] == ("gpu", "gpu-uvm")


def test_what_a_killed_run_left_coming_is_waited_for(node: Node) -> None:
    node.sysfs("gpu", initstate="live")
    node.sysfs("gpu_uvm", initstate="coming")
    script = f"sleep 0.5; echo live >{node.root}/sys/module/gpu_uvm/initstate"
    with subprocess.Popen(("sh", "-c", script)):
        found = settled(node.root, ["gpu", "gpu-uvm"], node.reporter)
    assert {name: each.state for name, each in found.items()} == dict.fromkeys(
        ("gpu", "gpu_uvm"), "live"
    )
    assert "wait: for gpu_uvm, which is coming" in node.log.getvalue()


def test_what_stays_coming_is_given_up(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modulus.host.modules.load.SETTLE_SECONDS", 0.2)
    node.sysfs("gpu_uvm", initstate="coming")
    with pytest.raises(BusyError, match="gpu_uvm is coming, and has been") as caught:
        settled(node.root, ["gpu", "gpu-uvm"], node.reporter)
    assert "only with a reboot" in caught.value.hint


def test_a_preload_that_fails_is_a_warning(node: Node) -> None:
    write(node.tools / "ipmi_si.fail", "modprobe: ERROR: No such device\n")
    assert node.load()[0] == ("gpu", "gpu-uvm")
    assert "warning: ipmi_si was not loaded before gpu: modprobe failed" in node.log.getvalue()
