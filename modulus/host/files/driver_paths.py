"""Where all that belongs to one driver lies: the only place that puts its paths together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modulus.host.files.place import DRIVERS, RUN, STATE, below

SELECTED = "selected"
GOOD = "good.json"
RECORDED_STATE = "wanted.json"
"""The names of files that are also looked for by their names alone."""


@dataclass(frozen=True)
class DriverNames:
    """The paths of the driver ``name`` as seen from inside the root, and as messages name them;
    absolute."""

    name: str

    @property
    def link(self) -> str:
        """The driver, for its programs: a symlink to the active generation."""
        return f"{DRIVERS}/{self.name}"

    @property
    def libraries(self) -> str:
        """The libraries of the active generation."""
        return f"{self.link}/lib"

    @property
    def generations(self) -> str:
        """The folder of all generations."""
        return f"{DRIVERS}/.{self.name}"

    @property
    def records(self) -> str:
        """The folder of what is recorded until the driver is removed."""
        return f"{STATE}/{self.name}"

    @property
    def run(self) -> str:
        """The folder of what is recorded or made for this boot."""
        return f"{RUN}/{self.name}"

    @property
    def config(self) -> str:
        """The name, without a folder, of its files in /etc."""
        return f"modulus-{self.name}.conf"

    @property
    def linker_config(self) -> str:
        """Its file for ldconfig(8)."""
        return f"/etc/ld.so.conf.d/{self.config}"

    @property
    def modprobe_config(self) -> str:
        """Its file for modprobe(8)."""
        return f"/etc/modprobe.d/{self.config}"


@dataclass(frozen=True)
class DriverPaths:
    """Where the files of the driver ``name`` of the system in ``root`` lie on this machine.

    Nothing need be there. Links above a file are followed inside the root, anew each time,
    since they may change; a file itself may be a link. Each raises ConfigError for links in a
    circle.
    """

    root: Path
    name: str

    @property
    def inside(self) -> DriverNames:
        """The same as seen from inside the root."""
        return DriverNames(self.name)

    @property
    def link(self) -> Path:
        """The symlink to the active generation."""
        return self._file(self.inside.link)

    @property
    def generations(self) -> Path:
        """The folder of all generations."""
        return below(self.root, self.inside.generations)

    def generation(self, which: str) -> Path:
        """The folder of the generation ``which``."""
        return below(self.root, f"{self.inside.generations}/{which}")

    @property
    def records(self) -> Path:
        """The folder of what is recorded until the driver is removed."""
        return below(self.root, self.inside.records)

    @property
    def selected(self) -> Path:
        """Which instance is wanted."""
        return self.records / SELECTED

    @property
    def good(self) -> Path:
        """Which generations have worked."""
        return self.records / GOOD

    @property
    def firmware(self) -> Path:
        """Which firmware was copied to where the kernel looks."""
        return self.records / "firmware.json"

    @property
    def initramfs(self) -> Path:
        """What was found in the initramfs."""
        return self.records / "initramfs.json"

    @property
    def disproofs(self) -> Path:
        """Which builds were found wrong; it stays when the driver is removed."""
        return below(self.root, f"{STATE}/disproved") / f"{self.name}.json"

    @property
    def run(self) -> Path:
        """The folder of what is recorded or made for this boot."""
        return below(self.root, self.inside.run)

    @property
    def recorded_state(self) -> Path:
        """How the driver at work is to stay."""
        return self.run / RECORDED_STATE

    @property
    def used(self) -> Path:
        """The folder of empty files that name the generations in use since the boot."""
        return below(self.root, f"{self.inside.run}/used")

    @property
    def module_root(self) -> Path:
        """The module root that its modules are loaded from."""
        return below(self.root, f"{self.inside.run}/modules")

    @property
    def linker_config(self) -> Path:
        """Its file for ldconfig(8)."""
        return self._file(self.inside.linker_config)

    @property
    def modprobe_config(self) -> Path:
        """Its file for modprobe(8)."""
        return self._file(self.inside.modprobe_config)

    def _file(self, path: str) -> Path:
        folder, _, name = path.rpartition("/")
        return below(self.root, folder) / name
