"""What the measurements need: kernels, headers, a driver, roots to build in."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from modulus.host.files.digest import hash_file
from tests.bench.measure import FailedError, Meter, clone, remove, sizes
from tests.support import packages, runfile
from tests.support.kernels import available, make_kernel

_CHECKOUT = Path(__file__).parents[2]
CACHE = "var/cache/modulus"

_INSTALLED = Path("/usr/lib/python3/dist-packages/modulus")
"""Where the Debian package has it, and Python looks first."""

# As the Debian package starts Modulus (scripts/package), but for where things are.
_PROGRAM = """\
#!/usr/bin/python3 -I
import sys

sys.path += {folders}
from {module} import main

main()
"""

_INPUTS = ("headers", "toolchains")
_COMPARED = ("source/include", "source/arch/x86/include")


@dataclass(frozen=True)
class Step:
    """From one kernel to a newer one; ``changed`` counts the files of the common headers that
    are not the same in both."""

    old: str
    new: str
    changed: int


class Site:
    """A folder to work in, removed by whoever made it, and what is dear to make in the cache.

    ``jobs`` is how many compilers run at once, whoever starts them.
    """

    def __init__(self, work: Path, meter: Meter, jobs: int) -> None:
        self.work = work
        self.meter = meter
        self.jobs = jobs

    def program(self, module: str = "modulus.__main__") -> Path:
        """A module of this checkout as nodes would run it: in no virtual environment.

        FailedError where that would be another Modulus.
        """
        if _INSTALLED.exists():
            raise FailedError(f"{_INSTALLED} would be measured, not this checkout: remove it")
        program = self.work / module
        if not program.exists():
            folders = [str(_CHECKOUT), sysconfig.get_path("purelib")]
            program.write_text(_PROGRAM.format(folders=folders, module=module))
            program.chmod(0o755)
        return program

    @cached_property
    def kernels(self) -> tuple[str, ...]:
        """The three newest of the distribution's own kernels, the newest first."""
        return tuple(available().of()[:3])

    @property
    def made(self) -> dict[str, bool]:
        """Kernels made of the newest, one with its headers and one with others, for where none
        of the real ones is like that; and whether it is the latter."""
        return {f"{self.kernels[0]}-twin": False, f"{self.kernels[0]}-wider": True}

    @cached_property
    def run(self) -> tuple[Path, str]:
        """The driver's package as it is published, and its version."""
        return runfile.nvidia_run()

    @property
    def instance(self) -> str:
        return f"nvidia-{self.run[1]}"

    @cached_property
    def base(self) -> Path:
        """A cache with toolchain, headers of all kernels, lists of packages and the download,
        and no build."""
        kept = packages.cache_folder() / "bench" / "provisioned"
        _make_root(kept, stores=[])
        version = packages.candidate("v4l2loopback-dkms").partition("-")[0]
        asked = [word for release in self.kernels for word in ("--kernel", release)]
        # A small driver has headers and toolchain provisioned and leaves no trace in them.
        command = [self.program(), "build", f"v4l2loopback-{version}", *asked, "--root", kept]
        self.meter.run(*command)
        there = _headers(kept / CACHE)
        for release, wider in self.made.items():
            if release not in there:
                make_kernel(kept / CACHE, self.kernels[0], release, wider=wider)
        base = self.work / "base"
        path, version = self.run
        digest = hash_file(path)
        name = f"NVIDIA-Linux-x86_64-{version}.run"
        _make_root(base, offline=True, checksums={name: digest})
        for kind in _INPUTS:
            clone(kept / CACHE / kind, base / CACHE / kind, linked=True)
        clone(kept / CACHE / "apt", base / CACHE / "apt")
        downloads = base / CACHE / "downloads"
        downloads.mkdir()
        shutil.copyfile(path, downloads / digest)
        (downloads / digest).chmod(0o644)
        for folder in (kept / CACHE).iterdir():
            # Nothing of the small driver is kept. Lists of packages save the next run time.
            if folder.is_dir() and folder.name not in (*_INPUTS, "apt"):
                remove(folder)
        return base

    def node(self, name: str, source: Path | None = None) -> Path:
        """A root of its own that begins as ``source``, or with no build at all."""
        source = source or self.base
        target = self.work / name
        remove(target)
        (target / CACHE).mkdir(parents=True)
        for folder in (source / CACHE).iterdir():
            linked = folder.name in (*_INPUTS, "downloads")
            clone(folder, target / CACHE / folder.name, linked=linked)
        clone(source / "etc", target / "etc")
        return target

    def forget_headers(self, root: Path, release: str) -> None:
        """Has the node be one that has never seen the headers of ``release``."""
        remove(_headers(root / CACHE)[release].parent)

    def build(self, root: Path, release: str, *, provides: bool = False) -> list[str]:
        """The command line that builds the driver for a kernel; where it ``provides`` the
        headers they come from the distribution's archive."""
        options = ["--root", str(root), "--set", f"build.jobs={self.jobs}", "--json"]
        if provides:
            options += ["--set", "offline=false"]
        return [str(self.program()), "build", self.instance, "--kernel", release, *options]

    @cached_property
    def headers(self) -> dict[str, Path]:
        """The header trees by kernel."""
        return _headers(self.base / CACHE)

    @cached_property
    def sources(self) -> Path:
        """The driver's sources, as its own package unpacks them."""
        top = self.work / "package"
        subprocess.run([self.program("tests.bench.unpacker"), self.run[0], top], check=True)
        return top

    @cached_property
    def compiler(self) -> str:
        """The kernel's own compiler."""
        config = (self.headers[self.kernels[0]] / "build/.config").read_text()
        found = re.search(r'^CONFIG_CC_VERSION_TEXT="(\S+)', config, re.MULTILINE)
        assert found
        return found[1].rpartition("/")[2]

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """From each older kernel to the newest, the nearest first, and the made ones last."""
        new, *others = *self.kernels, *self.made
        trees = {release: _digests(self.headers[release]) for release in (new, *others)}
        steps = []
        for old in others:
            paths = trees[old].keys() | trees[new].keys()
            differ = sum(trees[old].get(path) != trees[new].get(path) for path in paths)
            steps.append(Step(old, new, differ))
        return tuple(steps)

    def stored(self, root: Path) -> dict[str, int]:
        """The bytes that all but headers, toolchains and downloads takes in the cache."""
        found = sizes(root / CACHE)
        return {name: size for name, size in found.items() if name not in _NOT_STORED}


_NOT_STORED = (*_INPUTS, "downloads", "apt")


def _make_root(root: Path, **settings: object) -> None:
    (root / CACHE).mkdir(parents=True, exist_ok=True)
    file = root / "etc/modulus/modulus.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(settings))


def _headers(cache: Path) -> dict[str, Path]:
    found = {}
    for record in (cache / "headers").glob("*/record.json"):
        found[json.loads(record.read_text())["release"]] = record.parent / "tree"
    return found


def _digests(tree: Path) -> dict[str, str]:
    found = {}
    for folder in _COMPARED:
        for parent, _, names in os.walk(tree / folder):
            for name in names:
                path = Path(parent, name)
                if path.is_file():
                    found[str(path.relative_to(tree))] = hash_file(path)
    return found
