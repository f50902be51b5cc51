from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import yaml

from modulus.core.agent.backoff import PERMANENT
from modulus.core.config.schema_types import Problems
from modulus.core.kernel.log import parse_messages
from modulus.core.profile.load_causes import CAUSES, ERRORS, LoadCause, explain, log_findings
from modulus.core.profile.profile import Profile
from modulus.core.profile.schema import parse_profile
from modulus.errors import GpuFaultError

RELEASE = "6.1.0-9-amd64"
FATAL = "modprobe: ERROR: could not insert 'nvidia': {}\n"
NO_DEVICE = FATAL.format("No such device")

UNSUPPORTED = (
    r"3,1,5,-;NVRM: The NVIDIA GPU 0000:00:05.0 (PCI ID: 10de:1eb8)\x0a"
    r"NVRM: installed in this system is not supported by the\x0a"
    r"NVRM: NVIDIA 535.309.01 driver release.\x0a"
    r"NVRM: Please see 'Appendix A - Supported NVIDIA GPU Products'\x0a"
)
NO_GSP = (
    r"3,1,5,-;NVRM: The NVIDIA GPU 0000:00:05.0 (PCI ID: 10de:1b06)\x0a"
    r"NVRM: installed in this system is not supported by open\x0a"
    r"NVRM: nvidia.ko because it does not include the required GPU\x0a"
    r"NVRM: System Processor (GSP).\x0a"
)
LEGACY = (
    r"3,1,5,-;NVRM: The NVIDIA GeForce GT 710 GPU installed in this system is\x0a"
    r"NVRM:  supported through the NVIDIA 470.xx Legacy drivers. Please\x0a"
    r"NVRM:  visit http://www.nvidia.com/object/unix.html for more\x0a"
)
UNBOUND = (
    "3,1,5,-;NVRM: The NVIDIA probe routine was not called for 1 device(s).\n"
    "3,2,5,-;NVRM: No NVIDIA devices probed.\n"
)

# HeyMeco/Rockchip-pcie-devices, RTX 3090: the only GPU of an RK3588 board, with 535.129.03.
OFF_THE_BUS = (
    r"3,1,5,-;NVRM: The NVIDIA GPU 0002:21:00.0\x0a"
    r"NVRM: (PCI ID: 10de:2204) installed in this system has\x0a"
    r"NVRM: fallen off the bus and is not responding to commands.\x0a"
    "\n4,2,5,-;nvidia: probe of 0002:21:00.0 failed with error -1\n"
)
NONE_STARTED = (
    "3,3,6,-;NVRM: The NVIDIA probe routine failed for 1 device(s).\n"
    "3,4,6,-;NVRM: None of the NVIDIA devices were initialized.\n"
)
# Before it, on the same board.
NO_ROOM = (
    r"3,1,4,-;NVRM: This PCI I/O region assigned to your NVIDIA device is invalid:\x0a"
    r"NVRM: BAR1 is 0M @ 0x0 (PCI:0002:21:00.0)\x0a"
    "\n"
)
# NVIDIA/open-gpu-kernel-modules, issue 1230.
WPR2 = (
    "3,1,5,-;NVRM: GPU6 _kgspBootGspRm: unexpected WPR2 already up, cannot proceed with "
    "booting GSP\n"
    "3,2,5,-;NVRM: GPU6 _kgspBootGspRm: (the GPU is likely in a bad state and may need to be "
    "reset)\n"
    "3,3,5,-;NVRM: GPU6 RmInitAdapter: Cannot initialize GSP firmware RM\n"
)
# The same issue.
RM_INIT = (
    "3,4,5,-;NVRM: GPU 0000:a1:00.0: RmInitAdapter failed! (0x62:0x40:2168)\n"
    "3,5,5,-;NVRM: GPU 0000:a1:00.0: rm_init_adapter failed, device minor number 7\n"
)
# NVIDIA/open-gpu-kernel-modules, issue 688.
LOST = (
    "3,1,5,-;NVRM: nvAssertOkFailedNoLog: Assertion failed: GPU lost from the bus "
    "[NV_ERR_GPU_IS_LOST] (0x0000000F) returned from rmStatus @ kernel_ce_gv100.c:106\n"
)
# A Blackwell GPU with the proprietary flavour of 580.105.08.
NEEDS_OPEN = (
    r"3,1,5,-;NVRM: The NVIDIA GPU 0000:02:00.0 (PCI ID: 10de:2c58)\x0a"
    r"NVRM: installed in this system requires use of the NVIDIA open kernel modules.\x0a"
    "\n3,2,5,-;NVRM: GPU 0000:02:00.0: RmInitAdapter failed! (0x22:0x56:884)\n"
    "3,3,5,-;NVRM: GPU 0000:02:00.0: rm_init_adapter failed, device minor number 0\n"
)


@cache
def nvidia() -> Profile:
    path = Path(__file__).parents[4] / "profiles/nvidia.yaml"
    profile = parse_profile(yaml.safe_load(path.read_text()), "nvidia", Problems())
    assert profile
    return profile


@pytest.mark.parametrize(
    ("log", "said", "code", "words"),
    [
        ("", FATAL.format("Key was rejected by service"), 16, "signed"),
        ("Loading of unsigned module is rejected\n", "", 16, "signed"),
        ("nvidia: loading of module with unavailable key is rejected\n", "", 16, "signed"),
        (
            "Lockdown: modprobe: unsigned module loading is restricted; see man "
            "kernel_lockdown.7\n",
            FATAL.format("Operation not permitted"),
            16,
            "locked down",
        ),
        ("Module nvidia is blacklisted\n", FATAL.format("Operation not permitted"), 16, "line"),
        (
            "nvidia: version magic '6.1.0-8 SMP ' should be '6.1.0-9 SMP '\n",
            FATAL.format("Exec format error"),
            16,
            f"{RELEASE}, the one that runs",
        ),
        ("", FATAL.format("Invalid module format"), 16, "built for another kernel"),
        (
            "nvidia: disagrees about version of symbol drm_open\n"
            "nvidia: Unknown symbol drm_open (err -22)\n",
            FATAL.format("Invalid argument"),
            16,
            "built against another kernel",
        ),
        (
            "nvidia: Unknown symbol drm_open (err -2)\n",
            FATAL.format("Unknown symbol in module, or unknown parameter (see dmesg)"),
            16,
            "nothing in kernel",
        ),
        ("nvidia: exports duplicate symbol x (owned by y)\n", "", 17, "another name"),
        ("", FATAL.format("Device or resource busy"), 17, "another driver"),
        ("", FATAL.format("Cannot allocate memory"), 14, "memory"),
        ("nvidia: `x' invalid for parameter `NVreg_A'\n", "", 10, "option"),
        ("traps: Missing ENDBR: f+0x0/0x10 [nvidia]\n", "", 15, "IBT"),
        ("BUG: unable to handle page fault for address: 0\n", "", 15, "crashed"),
        ("", FATAL.format("Operation not permitted"), 16, "modules_disabled"),
        ("", NO_DEVICE, 18, "no device"),
    ],
)
def test_what_keeps_any_module_out(log: str, said: str, code: int, words: str) -> None:
    error = explain("nvidia", RELEASE, parse_messages(log), said)
    assert (error.code, words in error.message) == (code, True), error.message
    assert "\n" not in error.message + error.hint
    assert "{" not in error.message + error.hint


@pytest.mark.parametrize(
    ("log", "code", "words"),
    [
        ("4,1,5,-;NVRM: No NVIDIA GPU found.\n", 18, "no GPU"),
        ("4,1,5,-;NVRM: No NVIDIA graphics adapter found!\n", 18, "no GPU"),
        (LEGACY + "\n4,1,5,-;NVRM: No NVIDIA GPU found.\n", 15, "legacy branch"),
        (UNSUPPORTED + "\n", 15, "0000:00:05.0"),
        (UNSUPPORTED.replace(r"\x0a", "\n"), 15, "not supported by this version"),
        (LEGACY.replace(r"\x0a", "\n"), 15, "470.xx"),
        (NO_GSP + "\n", 15, "no GSP"),
        (NO_GSP.replace(r"\x0a", "\n"), 15, "no GSP"),
        ("NVRM: ignoring the legacy GPU 0000:01:00.0\n" + UNBOUND, 15, "too old"),
        ("NVRM: Can't find an IRQ for your NVIDIA card!\n", 15, "no interrupt"),
        (UNBOUND, 17, "another driver"),
        ("NVRM: GPU 0000:01:00.0 is already bound to nouveau.\n" + UNBOUND, 17, "nouveau"),
        (
            "NVRM: request_mem_region failed for 16M @ 0xfb. This can\n",
            17,
            "registers",
        ),
        ("NVRM: register_chrdev_region() failed for nvidia-frontend!\n", 17, "numbers"),
        (
            "nvidia 0000:00:05.0: Direct firmware load for nvidia/535.309.01/gsp_tu10x.bin "
            "failed with error -2\n",
            16,
            "firmware",
        ),
        (NEEDS_OPEN, 15, "open flavour only"),
    ],
)
def test_what_the_vendors_driver_says(log: str, code: int, words: str) -> None:
    error = explain("nvidia", RELEASE, parse_messages(log), NO_DEVICE, nvidia().load_causes)
    assert (error.code, words in error.message) == (code, True), error.message


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (OFF_THE_BUS + NONE_STARTED, "no longer answers"),
        (OFF_THE_BUS.replace(r"\x0a", "\n") + NONE_STARTED, "no longer answers"),
        (NO_ROOM + OFF_THE_BUS + NONE_STARTED, "no longer answers"),
        # Once it is back the driver works, whatever the other one is.
        (LEGACY + "\n" + OFF_THE_BUS + NONE_STARTED, "no longer answers"),
        # Xid 79 of NVIDIA's list of Xid errors.
        ("NVRM: Xid (PCI:0000:5d:00): 79, pid=1, GPU has fallen off the bus.\n", "no longer"),
        (LOST + NONE_STARTED, "no longer answers"),
        (WPR2 + RM_INIT + NONE_STARTED, "in a bad state"),
        (RM_INIT + NONE_STARTED, "does not start"),
        (NONE_STARTED, "could not start a GPU"),
    ],
)
def test_a_gpu_that_does_not_answer_is_no_misfit_and_tried_again(log: str, words: str) -> None:
    error = explain("nvidia", RELEASE, parse_messages(log), NO_DEVICE, nvidia().load_causes)
    assert (error.code, words in error.message) == (19, True), error.message
    assert error.code not in PERMANENT
    assert isinstance(error, GpuFaultError)


def test_where_others_work_it_is_told_of() -> None:
    # NVIDIA/NVSentinel, issue 155: one of several.
    log = parse_messages(
        r"3,1,5,-;NVRM: The NVIDIA GPU 0000:b3:00.0\x0a"
        r"NVRM: (PCI ID: 10de:26b5) installed in this system has\x0a"
        r"NVRM: fallen off the bus and is not responding to commands.\x0a"
        "\n3,2,5,-;NVRM: The NVIDIA probe routine failed for 1 device(s).\n"
        "3,3,5,-;NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  570.158.01\n"
    )
    first, _ = log_findings(log, ["nvidia"], RELEASE, nvidia().load_causes)
    assert (first.id, first.cause) == ("kernel-log-warning", "a GPU no longer answers")
    assert "0000:b3:00.0 (PCI ID: 10de:26b5)" in first.message


@pytest.mark.parametrize(
    ("log", "said", "words"),
    [
        ("", "", "does not say why"),
        ("", FATAL.format("Level 2 halted"), "Level 2 halted"),
        (
            "usb 1-1: reset\nnvidia: odd thing\nusb 1-2: new\n",
            NO_DEVICE[:9],
            "nvidia: odd thing",
        ),
    ],
)
def test_what_is_not_known_is_shown(log: str, said: str, words: str) -> None:
    error = explain("nvidia", RELEASE, parse_messages(log), said)
    assert error.code == 16
    assert words in error.message
    assert "journalctl -k" in error.hint


def test_a_line_that_is_never_the_reason_is_not_taken_for_it() -> None:
    causes = (LoadCause("odd", "an oddity", "look"),)
    assert "an oddity" not in explain("m", RELEASE, ["m: odd"], "", causes).message


def test_every_error_has_a_code_of_its_own() -> None:
    assert {ERRORS[cause.error].code for cause in CAUSES if cause.error} <= {
        *(10, 14, 15, 16, 17, 18)
    }


def test_a_gpu_that_is_left_out_beside_one_that_works_is_a_finding() -> None:
    log = parse_messages(
        "6,1,5,-;nvidia: loading out-of-tree module taints kernel.\n"
        + UNSUPPORTED
        + "\n"
        + UNSUPPORTED.replace("05.0", "06.0")
        + "\n4,1,5,-;NVRM: loading NVIDIA UNIX x86_64 Kernel Module  535.309.01\n"
        "4,1,5,-;nvidia: unknown parameter 'NVreg_Nope' ignored\n"
        "4,1,5,-;other: unknown parameter 'x' ignored\n"
        "4,1,5,-;other: Unknown symbol y (err -2)\n"
        "4,1,5,-;NVRM: GPU 0000:00:05.0: RmInitAdapter failed! (0x62:0x40:2168)\n"
        "4,1,5,-;nvidia 0000:05:00.0: firmware: failed to load nvidia/595/gsp_log_ga10x.bin\n"
    )
    found = log_findings(log, ["nvidia", "nvidia-uvm"], RELEASE, nvidia().load_causes)
    assert [finding.id for finding in found] == [
        "kernel-log-unsupported",
        "kernel-log-unsupported",
        "kernel-log-warning",
        "kernel-log-warning",
    ]
    assert "0000:00:06.0" in found[1].message
    assert "NVreg_Nope" in found[2].message
    assert {(finding.level, finding.severity) for finding in found} == {("usable", "warning")}


def test_a_flood_of_lines_is_cut() -> None:
    causes = (LoadCause("bad", "bad", "mend"),)
    assert len(log_findings([f"bad {n}" for n in range(99)], [], RELEASE, causes)) == 20
    assert len(explain("m", RELEASE, ["bad " * 999], "", causes).message) < 400
