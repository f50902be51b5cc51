"""The distribution's kernels, found by what a test needs of one, and kernels that nobody has.

Which kernels an archive has, and which of them are alike, changes with each update of it. So a
test asks for the newest, or another series, or takes a made one: a real kernel's headers under
another name, alike or not.
"""

from __future__ import annotations

import functools
import io
import json
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modulus.core.version import release_order
from modulus.host.distribution.provisioner import Provisioner
from modulus.host.files.atomic import write_json
from modulus.host.kernel.probe import probe
from modulus.host.report.reporter import PlainReporter
from tests.support import packages
from tests.support.packages import UnavailableError

FLAVOURS = ("amd64", "cloud-amd64", "rt-amd64")
_HEADERS = re.compile(r"linux-headers-((\d+\.\d+)\.\S+?)-(cloud-amd64|rt-amd64|amd64)")
_PARTS = re.compile(r"linux-headers-\S+-common\S*|linux-kbuild-\S+")
_STRUCT = re.compile(r"^struct device \{\n.*?(?=^\};)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Kernels:
    """The releases with headers to be had, by series ("6.1") and flavour, newest first.

    ``stable`` is the series of the distribution's own kernel.
    """

    stable: str
    found: Mapping[str, Mapping[str, Sequence[str]]]

    def of(self, flavour: str = "amd64") -> Sequence[str]:
        """Those of the stable series, newest first; at least one."""
        releases = self.found[self.stable][flavour]
        if not releases:
            raise UnavailableError(f"apt has no kernel {self.stable} of flavour {flavour}")
        return releases

    def newest(self, flavour: str = "amd64") -> str:
        """The newest of the stable series."""
        return self.of(flavour)[0]

    def others(self, flavour: str = "amd64") -> list[str]:
        """The newest of each other series, which a distribution may have none of."""
        return [
            by_flavour[flavour][0]
            for series, by_flavour in self.found.items()
            if series != self.stable and by_flavour[flavour]
        ]

    def newest_of_each(self) -> list[str]:
        """The newest of each series and flavour that there is."""
        return [
            releases[0]
            for by_flavour in self.found.values()
            for releases in by_flavour.values()
            if releases
        ]


@functools.cache
def available(codename: str = packages.OWN) -> Kernels:
    """What apt can get today."""
    # The package that brings whatever kernel is current has its version.
    current = packages.candidate("linux-headers-amd64", codename)
    stable = ".".join(current.split(".")[:2])
    return grouped(stable, packages.names("linux-headers-", codename))


def grouped(stable: str, names: Iterable[str]) -> Kernels:
    """The kernels that packages with these names have the headers of."""
    found: dict[str, dict[str, list[str]]] = {stable: {each: [] for each in FLAVOURS}}
    for name in names:
        if match := _HEADERS.fullmatch(name):
            number, series, flavour = match.groups()
            by_flavour = found.setdefault(series, {each: [] for each in FLAVOURS})
            by_flavour[flavour].append(f"{number}-{flavour}")
    for by_flavour in found.values():
        for releases in by_flavour.values():
            releases.sort(key=release_order, reverse=True)
    return Kernels(stable, dict(sorted(found.items(), key=lambda item: release_order(item[0]))))


def make_kernel(cache: Path, release: str, new: str, *, wider: bool = False) -> None:
    """Records in a cache of Modulus the headers of a kernel ``new``, as of its package.

    They are those of ``release``, which come from its packages, but for the name; if ``wider``
    is set, ``struct device`` has one more member.
    """
    distribution = probe(Path("/")).distribution
    with tempfile.TemporaryDirectory() as folder:
        empty, root = Path(folder, "empty"), Path(folder, "root")
        reporter = PlainReporter(io.StringIO())
        real = Provisioner(cache, empty, distribution, ()).headers(release, reporter)
        _unpack(release, root)
        _rename(root, release, new)
        if wider:
            _widen(root)
        made = Provisioner(cache, root, distribution, ()).headers(new, reporter)
    names = [name.replace(release, new) for name in _record(real.path)["found_by"]]
    write_json(made.path.parent / "record.json", {**_record(made.path), "found_by": names})


def _record(tree: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((tree.parent / "record.json").read_text())
    return record


def _unpack(release: str, root: Path) -> None:
    """Unpacks a kernel's headers below ``root``, where their packages have them."""
    name = f"linux-headers-{release}"
    for each in (name, *filter(_PARTS.fullmatch, packages.depends(name))):
        packages.unpack(packages.download(each), root)


def _rename(root: Path, old: str, new: str) -> None:
    """Has the headers of kernel ``old`` be of a kernel ``new``."""
    tree = root / f"usr/src/linux-headers-{old}"
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink() and old.encode() in path.read_bytes():
            path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))
    (modules,) = root.glob(f"**/modules/{old}")
    for link in modules.iterdir():
        target = str(link.readlink()).replace(old, new)
        link.unlink()
        link.symlink_to(target)
    for folder in (tree, modules):
        folder.rename(folder.with_name(folder.name.replace(old, new)))


def _widen(root: Path) -> None:
    (path,) = root.glob("usr/src/*-common*/include/linux/device.h")
    text, count = _STRUCT.subn(r"\g<0>\tvoid *one_more;\n", path.read_text())
    assert count == 1, f"{path} has {count} of struct device"
    path.write_text(text)
