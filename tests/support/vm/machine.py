"""A virtual machine: QEMU without KVM, a disk of its own, stand-ins for GPUs.

    with Machine(folder, base_image(STABLE).path, gpus=("a100",), user_data=text) as machine:
        machine.start()
        machine.guest.run("uname", "-r")
        machine.reboot()

The kernel is the one that the guest's own disk names, read anew at each start; a guest that
reboots ends QEMU, and is started again by ``reboot``.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support import packages
from tests.support.vm import gpu
from tests.support.vm.channel import Channel, ChannelError
from tests.support.vm.guest import PATIENCE, Guest, GuestError
from tests.support.vm.image import copy_disk
from tests.support.vm.seed import make_seed

HOST = "10.0.2.2"
"""Where the guest reaches the host's loopback."""

_MEMORY = "2048M"
# The fewer features, the less there is to emulate: a boot takes a sixth less than with "max".
_CPU = "Nehalem"
_FIRST_SLOT = 0x10  # of the PCI bus, for GPUs; QEMU gives the first ones to the rest
# The stand-ins' device asks KVM for an interrupt although there is none: QEMU 10 (Debian 13)
# dies of the null pointer, and goes on with one to zeros, which it takes for a refusal.
_WITHOUT_KVM = ("setarch", "--mmap-page-zero")
_KERNEL = (
    "root=/dev/vda rw console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off audit=0 "
    "systemd.show_status=false"
)


class Machine:
    """A machine that can be started, rebooted, and have its power cut.

    It gets a copy of ``disk``: that of an image, or of another machine that is off. ``gpus``
    are names in gpu.MODELS, in slots 10.0, 11.0, … of the PCI bus. ``disks`` are more disks,
    which the guest finds by their labels and can only read. ``online`` says whether its network
    cable is in. ``gpus`` and ``disks`` may be changed while it is off.

    It has one processor. With more of them emulated Linux 6.12 may panic early, "Oops: int3",
    by code that one changes while another runs it; and QEMU hangs (an AB-BA deadlock of its big
    lock and the proxy device's) where two access one of these GPUs at the same time.
    """

    def __init__(
        self,
        folder: Path,
        disk: Path,
        *,
        gpus: Sequence[str] = ("a100",),
        user_data: str = "#cloud-config\npreserve_hostname: true\n",
        disks: Sequence[Path] = (),
    ) -> None:
        if not shutil.which("qemu-system-x86_64"):
            raise packages.UnavailableError("qemu-system-x86_64 is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.gpus = list(gpus)
        self.disks = list(disks)
        self.online = True
        self.disk = folder / "disk.img"
        self.console = folder / "console.log"
        self.journal = folder / "journal.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._guest: Guest | None = None
        self._monitor: Channel | None = None
        self._stand_ins: list[subprocess.Popen[bytes]] = []
        copy_disk(disk, self.disk)
        make_seed(folder / "seed.iso", user_data)

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.disk.unlink(missing_ok=True)

    @property
    def guest(self) -> Guest:
        if self._guest is None:
            raise GuestError("the machine is off")
        return self._guest

    def address(self, number: int) -> str:
        """Where on the PCI bus the guest sees a GPU."""
        return f"0000:00:{_FIRST_SLOT + number:02x}.0"

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, *, kernel: str = "") -> None:
        """Boots, and returns once the guest agent answers, early in the boot.

        ``kernel`` is added to the kernel's command line.
        """
        image, initrd = self._kernel()
        for name in ("monitor", "agent"):
            (self.folder / name).unlink(missing_ok=True)
        words = [
            *_WITHOUT_KVM,
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"),
            *("-accel", "tcg", "-smp", "1", "-cpu", _CPU, "-m", _MEMORY),
            *("-object", f"memory-backend-memfd,id=memory,size={_MEMORY},share=on"),
            *("-machine", "pc,memory-backend=memory", "-vga", "none", "-display", "none"),
            *("-kernel", str(image), "-initrd", str(initrd), "-append", f"{_KERNEL} {kernel}"),
            *self._chardev("socket", "monitor", "server=on,wait=off"),
            *("-mon", "chardev=monitor,mode=control"),
            *self._chardev("file", "console.log", "append=on"),
            *("-serial", "chardev:console.log", "-device", "virtio-serial-pci"),
            *self._chardev("socket", "agent", "server=on,wait=off"),
            *("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
            *self._chardev("file", "journal.log", "append=on"),
            *("-device", "virtserialport,chardev=journal.log,name=journal"),
            *(
                "-netdev",
                "user,id=net",
                "-device",
                "virtio-net-pci,id=cable,netdev=net,romfile=",
            ),
            *self._drive("disk", self.disk, "cache=unsafe"),
            *self._drive("seed", self.folder / "seed.iso", "readonly=on"),
        ]
        for number, disk in enumerate(self.disks):
            words += self._drive(f"disk{number}", disk, "readonly=on")
        links = []
        for number, model in enumerate(self.gpus):
            link = self._stand_in(model)
            links.append(link)
            words += ["-device", _proxy(number, str(link.fileno()))]
        with open(self.folder / "qemu.log", "ab") as log:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[link.fileno() for link in links],
            )
        for link in links:
            link.close()
        try:
            self._monitor = Channel(self.folder / "monitor", self.alive)
            self._monitor.receive(20)  # its greeting
            self.ask("qmp_capabilities")
            self.set_network(self.online)
            self._guest = Guest(self.folder / "agent", self.alive)
            self._guest.connect(PATIENCE)
        except (ChannelError, GuestError, TimeoutError) as error:
            self.kill()
            raise GuestError(f"{error}\n{self.tail()}") from error

    def kill(self) -> None:
        """Cuts the power: what the guest had not written to its disk is lost."""
        if self.process:
            self.process.kill()
        self._gone()

    def wait_off(self) -> None:
        """Waits until the guest has shut down or wants to be started again."""
        assert self.process is not None
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise GuestError(f"no shutdown in {PATIENCE:.0f} s\n{self.tail()}") from None
        self._gone()

    def shut_down(self) -> None:
        """Turns it off as its administrator would."""
        with contextlib.suppress(ChannelError, TimeoutError):
            self.guest.start("systemctl", "poweroff")
        self.wait_off()

    def reboot(self, *, kernel: str = "") -> None:
        """Reboots as its administrator would, into the kernel that its disk names then."""
        with contextlib.suppress(ChannelError, TimeoutError):
            self.guest.start("systemctl", "reboot")
        self.wait_off()
        self.start(kernel=kernel)

    def set_network(self, online: bool) -> None:
        """Puts the network cable in or out, now and at each start from now on."""
        self.online = online
        if self.alive():
            self.ask("set_link", name="cable", up=online)

    def plug(self, model: str) -> None:
        """Plugs one more GPU in while the machine runs and no driver probes another one."""
        self.guest.run("udevadm", "settle")
        link = self._stand_in(model)
        number = len(self.gpus)
        name = f"gpu-fd{number}"
        self.ask("getfd", link.fileno(), fdname=name)
        link.close()
        driver, *rest = _proxy(number, name).split(",")
        self.ask("device_add", driver=driver, **dict(each.split("=") for each in rest))
        self.gpus.append(model)

    def ask(self, command: str, /, *fds: int, **arguments: Any) -> Any:
        """Has QEMU's monitor carry out a command."""
        if self._monitor is None:
            raise GuestError("the machine is off")
        self._monitor.send(command, *fds, **arguments)
        while True:
            answer = self._monitor.receive(30)
            if "error" in answer:
                raise ChannelError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def tail(self, lines: int = 40) -> str:
        """The end of console and journal, to tell what went wrong."""
        parts = []
        for file in (self.folder / "qemu.log", self.console, self.journal):
            if file.exists():
                text = file.read_bytes().decode("utf-8", "replace").splitlines()
                parts.append("\n".join([f"--- {file}", *text[-lines:]]))
        return "\n".join(parts)

    def _gone(self) -> None:
        for channel in (self._guest, self._monitor):
            if channel:
                channel.close()
        self._guest = self._monitor = None
        if self.process:
            self.process.wait()
        self.process = None
        # Their other end is closed.
        for stand_in in self._stand_ins:
            stand_in.wait(10)
        self._stand_ins.clear()

    def _kernel(self) -> tuple[Path, Path]:
        """The kernel and the initramfs that the guest's disk says to boot."""
        # After a power cut the journal has what is not in its place yet.
        subprocess.run(
            ["e2fsck", "-E", "journal_only", "-p", self.disk],
            check=False,
            capture_output=True,
            timeout=60,
        )
        found = []
        for name in ("vmlinuz", "initrd.img"):
            link = self._debugfs(f"stat /{name}")
            target = re.search(r'Fast link dest: "([^"]+)"', link)
            if not target:
                raise GuestError(f"the disk has no /{name}: {link}")
            path = self.folder / name
            self._debugfs(f"dump /{target[1]} {path}")
            found.append(path)
        return found[0], found[1]

    def _debugfs(self, request: str) -> str:
        return subprocess.run(
            ["debugfs", "-R", request, self.disk],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout

    def _chardev(self, kind: str, name: str, options: str) -> list[str]:
        return ["-chardev", f"{kind},id={name},path={self.folder / name},{options}"]

    def _drive(self, name: str, path: Path, options: str) -> list[str]:
        drive = f"if=none,id={name},format=raw,file={path},{options}"
        return ["-drive", drive, "-device", f"virtio-blk-pci,drive={name}"]

    def _stand_in(self, model: str) -> socket.socket:
        """QEMU's end of the link to a stand-in that has been started."""
        assert model in gpu.MODELS
        ours, theirs = socket.socketpair()
        with ours:
            self._stand_ins.append(
                subprocess.Popen(
                    [sys.executable, "-I", "-S", gpu.__file__, model], stdin=ours.fileno()
                )
            )
        return theirs


def _proxy(number: int, fd: str) -> str:
    """A device whose PCI side is at the other end of a file descriptor."""
    return f"x-pci-proxy-dev,id=gpu{number},addr={_FIRST_SLOT + number:02x}.0,fd={fd}"
