from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modulus.core.gpu.census import Census
from modulus.core.health.verify import findings
from modulus.core.kernel.mountinfo import Mount
from modulus.core.profile.libraries import Answer, Reply
from tests.support.healthy import (
    ADDRESSES,
    ML,
    RIGHT,
    answered,
    broken,
    gpu,
    installed,
    loaded,
)


def test_nothing_is_wrong() -> None:
    assert findings(RIGHT) == ()


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
