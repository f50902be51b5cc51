"""The disk with a read-only store: what is too slow to make under emulation, made by the host.

The modules of the real driver come from the same code that a node would run, in a root of
their own that is kept, so that what has not changed is not built again. ``modules/RELEASE/`` on
the disk has them as they are, for tests.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from modulus.host.files.digest import hash_file
from tests.support import packages, runfile
from tests.support.mirror import Mirror
from tests.support.system import parts_of, stored
from tests.support.vm.image import STORE_LABEL, Image, make_ext4, vm_folder

CACHE = "var/cache/modulus"
SECOND_LABEL = "second"
"""What second_store() labels its disk; nothing mounts that by itself."""
_FORM = "builds as patches, modules beside them"  # a disk of another one is made again
_FIRST = "first"  # where the second store's root has what it takes from the first
_SOURCE = Path(__file__).parents[3]
_MODULUS = (sys.executable, "-m", "modulus")
_PARTS = ("downloads", "headers", "sources", "toolchains")


@dataclass(frozen=True)
class Store:
    """A disk with the store, the drivers it has, and the real driver's package."""

    path: Path
    driver: str
    small: str
    run: Path


def driver_store(image: Image, *, newer: bool = True, compiled: bool = True) -> Store:
    """A store with the real driver for the image's kernel, with ``newer`` also for the newer
    one, and all that it takes to compile the small one for them, but not that itself; without
    ``compiled`` not the real one either."""
    codename, releases = image.codename, [image.release]
    if newer and image.newer:
        releases.append(image.newer)
    run, version = runfile.nvidia_run(codename=codename)
    module = packages.candidate("v4l2loopback-dkms", codename).partition("-")[0]
    driver, small = f"nvidia-{version}", f"v4l2loopback-{module}"
    with packages.locked("vm-store"):
        root = built_in(codename)
        built = _build(root, driver, releases, run)
        _forget(root, releases, keep=[*built, *_build(root, small, releases, run)])
        kind, shown = ("full", built) if compiled else ("tools", [])
        prefix = f"store-{codename}-{_digest([_FORM, kind, *releases])}"
        disk = vm_folder() / f"{prefix}-{_digest(sorted(map(str, shown)))}.img"
        if not disk.exists():
            for old in vm_folder().glob(f"{prefix}-*.img"):
                old.unlink()
            _make_disk(disk, root / CACHE, shown)
    return Store(disk, driver, small, run)


def second_store(image: Image) -> Store:
    """A disk labelled ``SECOND_LABEL`` with another version of the real driver, for the
    image's kernel; call it after driver_store().

    Headers and toolchain come from what that has kept, and are on that one's disk only.
    """
    codename, release = image.codename, image.release
    run, version = runfile.other_run(codename)
    driver = f"nvidia-{version}"
    with packages.locked("vm-store"):
        root, first = built_in(codename, "second"), built_in(codename) / CACHE
        for part in ("headers", "toolchains"):
            _link(first / part, root / _FIRST / part)
        built = _build(root, driver, [release], run, stores=[f"/{_FIRST}"])
        _forget(root, [release], keep=built)
        prefix = f"second-{codename}-{_digest([_FORM, release])}"
        disk = vm_folder() / f"{prefix}-{_digest(sorted(map(str, built)))}.img"
        if not disk.exists():
            for old in vm_folder().glob(f"second-{codename}-*.img"):
                old.unlink()
            _make_disk(disk, root / CACHE, built, ("downloads", "sources"), SECOND_LABEL)
    return Store(disk, driver, "", run)


def built_in(codename: str, name: str = "store") -> Path:
    """The root of a node of a release of the distribution, in which a store is built."""
    root = vm_folder() / codename / name
    sources = root / "etc/apt/sources.list.d/own.sources"
    sources.parent.mkdir(parents=True, exist_ok=True)
    sources.write_text(packages.distribution_sources(Path("/etc/apt"), codename))
    (root / "etc/os-release").write_text(f"ID=debian\nVERSION_CODENAME={codename}\n")
    return root


def _link(source: Path, target: Path) -> None:
    """Has ``target`` hold what ``source`` does, as hard links; neither is written to."""
    if target.exists() and {path.name for path in target.iterdir()} == {
        path.name for path in source.iterdir()
    }:
        return
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-al", source, target], check=True)


def _forget(root: Path, releases: Sequence[str], keep: Sequence[Path]) -> None:
    """Removes builds that an older source of Modulus made."""
    for release in releases:
        for old in set((root / CACHE / "builds" / release).glob("[0-9a-f]*")) - set(keep):
            shutil.rmtree(old)


def _forget_other(root: Path, run: Path) -> None:
    """Removes what is recorded of another file that was called as ``run`` is: nodes get this
    one from the mirror, and would not find what was built of the other."""
    sha256 = hash_file(run)
    version = run.stem.rpartition("-")[2]
    for record in (root / CACHE / "sources").glob(f"nvidia-{version}-*.json"):
        recorded = json.loads(record.read_text())["sha256"]
        if recorded != sha256:
            (root / CACHE / "downloads" / recorded).unlink(missing_ok=True)
            record.unlink()


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def _build(
    root: Path, instance: str, releases: Sequence[str], run: Path, **more: Any
) -> list[Path]:
    """Builds what has not been built yet, with ``more`` settings; returns the entries."""
    settings = root / "etc/modulus/modulus.yaml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    (root / "etc/ld.so.conf").write_text("include /etc/ld.so.conf.d/*.conf\n")
    _forget_other(root, run)
    place = f"/{run.name}"
    with Mirror() as mirror:
        mirror.serve(place, run)
        mirror.serve_checksum(place)
        url = f"{mirror.url}/NVIDIA-Linux-{{arch}}-{{version}}.run"
        mirrors = [{"url": url, "trusted": True}]
        settings.write_text(
            yaml.safe_dump({"drivers": {"nvidia": {"mirrors": mirrors}}, **more})
        )
        asked = [word for release in releases for word in ("--kernel", release)]
        done = subprocess.run(
            [*_MODULUS, "build", instance, *asked, "--json", "--root", root],
            cwd=_SOURCE,
            stdout=subprocess.PIPE,
            check=False,
        )
    if done.returncode:
        raise packages.UnavailableError(f"{instance} could not be built for the store")
    return [Path(result["path"]) for result in json.loads(done.stdout)["results"]]


def _make_disk(
    disk: Path,
    cache: Path,
    built: Sequence[Path],
    parts: Sequence[str] = _PARTS,
    label: str = STORE_LABEL,
) -> None:
    with tempfile.TemporaryDirectory(dir=vm_folder()) as scratch:
        content = Path(scratch, "content")
        content.mkdir()
        for part in parts:
            subprocess.run(["cp", "-al", cache / part, content], check=True)
        for entry in stored(cache):
            if entry.path in built:
                for path in parts_of(entry):
                    target = content / path.relative_to(cache)
                    if not target.exists():
                        target.parent.mkdir(parents=True, exist_ok=True)
                        subprocess.run(["cp", "-al", path, target], check=True)
                for name, module in entry.modules.items():
                    target = content / "modules" / entry.release / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    module.write(target, 0o644)
        made = Path(scratch, "disk")
        make_ext4(made, content, label, "4G")
        made.rename(disk)
