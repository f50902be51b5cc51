from __future__ import annotations

from pathlib import Path

import pytest

from modulus.host.files.driver_paths import DriverPaths
from modulus.host.generation.modprobe_conf import configure_modprobe
from modulus.host.modules.foreign import find_foreign, foreign_findings, foreign_names

RELEASE = "6.1.0-9-amd64"
MODULES = ("gpu", "gpu-uvm")


def make(root: Path, *files: str, listed: bool = True) -> None:
    kernel = root / "lib/modules" / RELEASE
    kernel.mkdir(parents=True, exist_ok=True)
    for file in files:
        (kernel / file).parent.mkdir(parents=True, exist_ok=True)
        (kernel / file).write_text("")
    if listed:
        (kernel / "modules.dep").write_text("".join(f"{file}:\n" for file in files))


def found(root: Path) -> dict[str, str]:
    prefix = f"/lib/modules/{RELEASE}/"
    origins = find_foreign(DriverPaths(root, "gpu"), RELEASE, MODULES)
    return {origin.file.removeprefix(prefix): origin.owner for origin in origins}


@pytest.mark.parametrize(
    ("file", "owner"),
    [
        ("updates/dkms/gpu.ko", "DKMS"),
        ("updates/dkms/gpu-uvm.ko.zst", "DKMS"),
        ("kernel/gpu-535srv/gpu_uvm.ko", "the distribution"),
        ("extra/gpu.ko.xz", "another package or installer"),
        ("kernel/drivers/gpufb.ko", None),
        ("kernel/drivers/gpu-fs.ko", None),
    ],
)
@pytest.mark.parametrize("listed", [True, False])
def test_what_is_called_like_ours_is_found(
    tmp_path: Path, file: str, owner: str | None, listed: bool
) -> None:
    make(tmp_path, file, listed=listed)
    known = owner and (listed or not file.startswith("kernel/"))
    assert found(tmp_path) == ({file: owner} if known else {})


@pytest.mark.parametrize(
    "folder",
    ["etc", "run", "usr/lib", "usr/local/lib"],
)
def test_what_a_configuration_loads_in_place_of_ours_is_found(
    tmp_path: Path, folder: str
) -> None:
    make(tmp_path, "updates/dkms/gpu-current.ko", "updates/dkms/gpu-legacy.ko")
    config = tmp_path / folder / "modprobe.d"
    config.mkdir(parents=True)
    (config / "gpu.conf").symlink_to("/etc/alternatives/gpu")
    assert found(tmp_path) == {}
    target = tmp_path / "etc/alternatives/gpu"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("install gpu modprobe -i gpu-current\nalias other gpu-legacy\n")
    assert found(tmp_path) == {"updates/dkms/gpu-current.ko": "DKMS"}


def test_our_own_configuration_and_removed_modules_do_not_count(tmp_path: Path) -> None:
    driver = DriverPaths(tmp_path, "gpu")
    make(tmp_path, "updates/gpu.ko")
    configure_modprobe(driver, {"gpu": {"a": "1"}}, MODULES)
    (tmp_path / "lib/modules" / RELEASE / "updates/gpu.ko").unlink()
    assert found(tmp_path) == {}
    assert find_foreign(DriverPaths(tmp_path / "nothing", "gpu"), RELEASE, MODULES) == ()


def test_a_finding_names_each_folder(tmp_path: Path) -> None:
    driver = DriverPaths(tmp_path, "gpu")
    make(tmp_path, "updates/dkms/gpu.ko", "updates/dkms/gpu-uvm.ko", "extra/gpu.ko")
    origins = find_foreign(driver, RELEASE, MODULES)
    findings = foreign_findings("gpu", origins)
    assert [finding.message for finding in findings] == [
        f"/lib/modules/{RELEASE}/extra holds another gpu: gpu.ko",
        f"/lib/modules/{RELEASE}/updates/dkms holds another gpu: gpu-uvm.ko, gpu.ko",
    ]
    assert findings[1].cause.startswith("DKMS installed it")
    assert {(finding.id, finding.severity) for finding in findings} == {
        ("foreign-module", "warning")
    }
    assert set(foreign_names(origins)) == {"gpu", "gpu_uvm"}
