from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modulus.core.findings import LEVELS, Finding, blocking
from modulus.core.gpu.census import Census, Gpu
from modulus.core.health.checks.libraries import InstalledLibrary
from modulus.core.health.checks.numa import has_several_nodes
from modulus.core.health.verify import Observed, findings
from modulus.core.kernel.mountinfo import Mount
from modulus.core.pci import PciDevice
from modulus.core.profile.libraries import Answer, Library, Reply, Status
from modulus.host.modules.load import Loaded, WantedModule

ADDRESSES = ("0000:00:05.0", "0000:00:06.0")
FOLDER = "/opt/drivers/driver/lib"
ML = Library(
    "libd.so.1",
    version_of="driver-core",
    init="dInit",
    device="dDevice",
    statuses=(
        Status(9, "the driver is not loaded", "load it"),
        Status(15, "it is gone", "reset it"),
        Status(100, "it has no instances", "make some", "warning"),
    ),
)
FINE = Answer(
    "libd.so.1", (Reply("dInit", 0), *(Reply("dDevice", 0, "", a) for a in ADDRESSES))
)


def loaded(name: str, version: str | None = "1.0", src: str | None = "A") -> Loaded:
    return Loaded(name, version, src, 0, (), "live")


def wanted(name: str, version: str | None = "1.0", src: str | None = "A") -> WantedModule:
    return WantedModule(name, Path("x.ko"), version, src)


def gpu(address: str, numa_node: int | None = 0) -> Gpu:
    return Gpu(PciDevice(address, 1, 2, 3), driver="driver", numa_node=numa_node)


RIGHT = Observed(
    instance="driver-1.0",
    wanted={"driver_core": wanted("driver-core")},
    loaded={"driver_core": loaded("driver_core")},
    folder=FOLDER,
    census=Census(True, tuple(map(gpu, ADDRESSES))),
    mount=Mount("/opt", frozenset({"rw", "nodev"}), "ext4", "/dev/vda1"),
    libraries=(InstalledLibrary(ML, "libd.so.1.0", f"{FOLDER}/libd.so.1"),),
    asked=((ML, FINE),),
    devices=ADDRESSES,
)


def test_nothing_is_wrong() -> None:
    assert findings(RIGHT) == ()


def broken(**facts: Any) -> Observed:
    return replace(RIGHT, **facts)


def installed(**facts: Any) -> dict[str, Any]:
    return {"libraries": (replace(RIGHT.libraries[0], **facts),)}


def answered(*statuses: int, init: int = 0, problem: str | None = None) -> dict[str, Any]:
    replies = [Reply("dInit", init)]
    replies += [Reply("dDevice", s, "", a) for s, a in zip(statuses, ADDRESSES, strict=False)]
    return {"asked": ((ML, Answer(ML.name, tuple(replies), problem)),)}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (
            {"loaded": {}},
            "module-missing loaded error: module driver_core is not loaded"
            "; it was never loaded, or was unloaded since; modulus up driver-1.0",
        ),
        (
            {"loaded": {"driver_core": replace(loaded("driver_core"), state="coming")}},
            "module-missing loaded error: module driver_core is not loaded"
            "; the kernel has it as coming, which stays so where its start failed; reboot",
        ),
        (
            {
                "loaded": {"driver_core": loaded("driver_core", "0.9")},
                **installed(file="libd.so.0.9"),
            },
            "module-version loaded error: the module driver_core that is loaded is not that of "
            "driver-1.0; version 0.9 is loaded in place of 1.0"
            "; modulus down driver-1.0 && modulus up driver-1.0, or reboot",
        ),
        (
            {"loaded": {"driver_core": loaded("driver_core", src="B")}},
            "module-version loaded error: the module driver_core that is loaded is not that of "
            "driver-1.0; its sources differ: srcversion B, not A"
            "; modulus down driver-1.0 && modulus up driver-1.0, or reboot",
        ),
        (
            installed(file="libd.so.0.9"),
            "library-version usable error: libd.so.1 and the loaded module driver_core do not "
            "fit each other; the library has version 0.9, the module version 1.0"
            "; modulus down driver-1.0 && modulus up driver-1.0, or reboot",
        ),
        (
            installed(file=None),
            "library-missing usable error: /opt/drivers/driver/lib/libd.so.1 is gone"
            "; something removed it, or the file it leads to, from the generation"
            "; modulus up driver-1.0",
        ),
        (
            installed(resolved=None),
            "library-unresolved usable error: the dynamic linker does not find libd.so.1"
            "; /etc/ld.so.cache has no such library, or one that is gone; ldconfig",
        ),
        (
            installed(resolved="/usr/lib/libd.so.1"),
            "library-unresolved usable error: programs get another libd.so.1 than the "
            "driver's: /usr/lib/libd.so.1; it comes first in the configuration of the dynamic "
            "linker; remove the package that has it (dpkg -S /usr/lib/libd.so.1 or rpm -qf "
            "/usr/lib/libd.so.1), then run ldconfig",
        ),
        (
            installed(label="system_u:object_r:default_t:s0"),
            "selinux-label usable warning: /opt/drivers/driver/lib/libd.so.1 has the SELinux "
            "type default_t; confined programs may not map files of this type"
            "; restorecon -R /opt/drivers",
        ),
        (
            {"mount": Mount("/opt", frozenset({"rw", "noexec"}), "ext4", "/dev/vda1")},
            "opt-noexec usable error: nothing in /opt/drivers/driver/lib can be run"
            "; /opt (/dev/vda1) is mounted noexec"
            "; mount -o remount,exec /opt, and take noexec out of /etc/fstab",
        ),
        (
            {"census": Census(True, (gpu(ADDRESSES[0]), gpu(ADDRESSES[1], -1)))},
            "numa-node usable info: the NUMA node of GPU 0000:00:06.0 0001:0002 is -1"
            "; the firmware does not say which processors are near it"
            "; set numa_fix: true in /etc/modulus/modulus.yaml, which makes it node 0",
        ),
        (
            {
                "census": Census(True, (gpu(ADDRESSES[0], -1),)),
                "several_numa_nodes": True,
                "numa_fix": True,
            },
            "numa-node usable warning: the NUMA node of GPU 0000:00:05.0 0001:0002 is -1"
            "; the firmware does not say which processors are near it; modulus up driver-1.0",
        ),
        (
            answered(init=9),
            "library-call usable error: dInit of libd.so.1 says 9; the driver is not loaded"
            "; load it",
        ),
        (
            answered(init=100),
            "library-call usable warning: dInit of libd.so.1 says 100; it has no instances"
            "; make some",
        ),
        (
            answered(init=7),
            "library-call usable error: dInit of libd.so.1 says 7"
            "; what it means is not in the profile; journalctl -k -b says what the driver said",
        ),
        (
            {"asked": ((ML, Answer(ML.name, (Reply("dInit", 7, "Bad Luck"),))),)},
            "library-call usable error: dInit of libd.so.1 says 7 (Bad Luck); Bad Luck"
            "; journalctl -k -b says what the driver said",
        ),
        (
            {"asked": ((replace(ML, severity="warning"), Answer("l", (Reply("dInit", 7),))),)},
            "library-call usable warning: dInit of libd.so.1 says 7"
            "; what it means is not in the profile; journalctl -k -b says what the driver said",
        ),
        (
            answered(0, problem="dDevice crashed (SIGSEGV)"),
            "library-call usable error: libd.so.1 cannot be asked; dDevice crashed (SIGSEGV)"
            "; journalctl -k -b says what the driver said",
        ),
        (
            answered(0, 15),
            "gpu-dead usable warning: GPU 0000:00:06.0 does not work: dDevice says 15"
            "; it is gone; reset it",
        ),
        (
            {**answered(0, 15), "require_all_gpus": True},
            "gpu-dead usable error: GPU 0000:00:06.0 does not work: dDevice says 15"
            "; it is gone; reset it",
        ),
        (
            {**answered(), "devices": ()},
            "no-gpu-usable usable error: no GPU is bound to the driver"
            "; there is none, another driver has it, or this driver gave it up"
            "; lspci -k says which driver has it, journalctl -k -b says what the driver said",
        ),
        (
            {"asked": ((ML, None),)},
            "library-absent usable info: no GPU was asked whether it works"
            "; libd.so.1 is in none of the components that are installed"
            "; add the component that has it to components in /etc/modulus/modulus.yaml",
        ),
        (
            {"census": Census(True, (replace(gpu(ADDRESSES[0]), kind="vgpu"),))},
            "virtual-gpu usable warning: *",
        ),
    ],
)
def test_one_thing_is_wrong(facts: dict[str, Any], expected: str) -> None:
    (found,) = findings(broken(**facts))
    line = f"{found.id} {found.level} {found.severity}: {found.message}"
    if expected.endswith("*"):
        assert line.startswith(expected[:-1])
    else:
        assert f"{line}; {found.cause}; {found.fix}" == expected


UNDRIVEN = Census(True, (gpu(ADDRESSES[0]), replace(gpu(ADDRESSES[1]), driver=None)))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, [("gpu-unbound", "warning")]),
        ({"require_all_gpus": True}, [("gpu-unbound", "error")]),
        # Then that is what is wrong.
        ({"devices": (), "asked": ()}, []),
    ],
)
def test_a_gpu_that_the_driver_did_not_take(
    facts: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    found = findings(broken(census=UNDRIVEN, **{"devices": ADDRESSES[:1], **facts}))
    assert [(one.id, one.severity) for one in found] == expected
    assert all("GPU 0000:00:06.0 0001:0002 has no driver" in one.message for one in found)


@pytest.mark.parametrize(
    ("ready_when", "severities"),
    [
        ("loaded", ["error", "warning", "warning"]),
        ("nodes", ["error", "error", "warning"]),
        ("usable", ["error", "error", "error"]),
    ],
)
def test_what_does_not_count_is_a_warning(ready_when: str, severities: list[str]) -> None:
    others = tuple(Finding(level, level, "error", "", "", "") for level in LEVELS)
    found = findings(broken(others=others, ready_when=ready_when))
    assert [one.level for one in found] == list(LEVELS)
    assert [one.severity for one in found] == severities
    assert len(blocking(found, ready_when)) == severities.count("error")


def test_no_gpu_that_works() -> None:
    found = findings(broken(**answered(15, 9)))
    assert [(one.id, one.severity) for one in found] == [
        ("no-gpu-usable", "error"),
        ("gpu-dead", "warning"),
        ("gpu-dead", "warning"),
    ]
    assert "0000:00:05.0, 0000:00:06.0" in found[0].cause
    assert [one.id for one in blocking(found, "usable")] == ["no-gpu-usable"]
    assert not blocking(found, "nodes")


@pytest.mark.parametrize(
    "facts",
    [
        installed(label="system_u:object_r:lib_t:s0"),
        installed(label="no context"),
        installed(file="libd.so"),
        {"libraries": (InstalledLibrary(Library("liba.so"), "x", f"{FOLDER}/liba.so"),)},
        {"loaded": {"driver_core": loaded("driver_core", None)}, "wanted": {}},
        {"wanted": {"driver_core": wanted("driver-core", None, None)}},
        {"mount": None},
        {"asked": ((replace(ML, device=None), None),)},
        {"asked": ((replace(ML, device=None), Answer("l", (Reply("dInit", 0),))),)},
        {"census": Census(True, (gpu(ADDRESSES[0], None),))},
    ],
)
def test_what_is_no_finding(facts: dict[str, Any]) -> None:
    assert findings(broken(**facts)) == ()


def test_findings_come_by_level_and_severity() -> None:
    others = tuple(
        Finding(f"{level}-{severity}", level, severity, "", "", "")
        for level in ("usable", "loaded", "nodes")
        for severity in ("info", "error", "warning")
    )
    observed = broken(others=others, loaded={})
    in_order = [one.id for one in findings(observed)]
    assert in_order[:4] == ["loaded-error", "module-missing", "loaded-warning", "loaded-info"]
    assert in_order[4:7] == ["nodes-error", "nodes-warning", "nodes-info"]
    assert in_order[7:] == ["usable-error", "usable-warning", "usable-info"]
    assert [one.id for one in findings(observed, "nodes")] == in_order[:7]
    assert [one.id for one in findings(observed, "loaded")] == in_order[:4]


@pytest.mark.parametrize(
    ("online", "several"),
    [("0\n", False), ("", False), ("0-1\n", True), ("0,2", True), ("12", False)],
)
def test_numa_nodes(online: str, several: bool) -> None:
    assert has_several_nodes(online) == several
