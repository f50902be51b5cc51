"""The disk that test machines start from: Debian as a bare cloud image has it, made once.

Nothing of Modulus is in it: that comes as a package, by user-data, as on a real node. What is
there beyond such an image are the packages Modulus depends on, the vendor's nvidia-modprobe to
compare with, the guest agent and a unit that copies the journal to the host.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import packages
from tests.support.kernels import available

STABLE = "trixie"
"""The release of the distribution that nodes are made of, Debian 13."""
OLDSTABLE = "bookworm"
"""The one before, Debian 12, on which less is tried."""

STORE = "/mnt/store"
"""Where the guest has the disk labelled ``STORE_LABEL``, if there is one."""
STORE_LABEL = "store"

_PACKAGES = (
    "ca-certificates",
    "cloud-init",
    "curl",
    "dbus",
    "e2fsprogs",
    "init",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "nvidia-modprobe",
    "pciutils",
    "procps",
    "python3-gi",
    "python3-jinja2",
    "python3-pydbus",
    "python3-requests",
    "python3-sh",
    "python3-yaml",
    "python3-zstandard",
    "qemu-guest-agent",
    "systemd-container",
    "udev",
    "zstd",
)
_KEYED = ("base-files", "cloud-init", "libc6", "linux-image-{release}", "systemd", "udev")
_UNUSED = ("doc", "info", "lintian", "locale", "man")
_MASKED = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
)
_SIZE = "8G"  # of the file system; the file is sparse

_FILES = {
    # The store's disk is there or not; whoever looks into the folder waits for it.
    "etc/fstab": (
        "/dev/vda / ext4 errors=remount-ro 0 1\n"
        f"LABEL={STORE_LABEL} {STORE} ext4 "
        "ro,nofail,x-systemd.automount,x-systemd.device-timeout=5s 0 0\n"
    ),
    "etc/apt/sources.list": "",
    "etc/hostname": "node\n",
    "etc/hosts": "127.0.0.1 localhost node\n",
    "etc/machine-id": "",
    "etc/resolv.conf": "nameserver 10.0.2.3\n",
    # QEMU's user network has always the same addresses.
    "etc/systemd/network/10-ethernet.network": (
        "[Match]\nType=ether\n\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n"
        "LinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    ),
    # A node without its network must not take two minutes to notice.
    "etc/systemd/system/systemd-networkd-wait-online.service.d/time.conf": (
        "[Service]\nExecStart=\n"
        "ExecStart=/lib/systemd/systemd-networkd-wait-online --timeout=5\n"
    ),
    "etc/cloud/cloud.cfg.d/90_vm.cfg": (
        "datasource_list: [NoCloud]\n"
        "network: {config: disabled}\n"
        "preserve_hostname: true\n"
        # Those of Debian's list that set up what this image lacks are left out: each stage
        # takes seconds under emulation.
        "cloud_init_modules: [bootcmd, write-files, mounts, ca-certs]\n"
        "cloud_config_modules: [apt-configure, runcmd]\n"
        "cloud_final_modules: [package-update-upgrade-install, write-files-deferred, "
        "scripts-user, final-message]\n"
    ),
    # Few modules: under emulation the initramfs is unpacked slowly.
    "etc/initramfs-tools/conf.d/vm": "MODULES=list\nCOMPRESS=zstd\n",
    "etc/initramfs-tools/hooks/vm": (
        '#!/bin/sh\n[ "$1" = prereqs ] && exit\n. /usr/share/initramfs-tools/hook-functions\n'
        "manual_add_modules virtio_blk virtio_pci ext4\n"
    ),
    # From the start of the boot, and without a line in the journal for each question.
    "etc/systemd/system/qemu-guest-agent.service.d/vm.conf": (
        "[Unit]\nDefaultDependencies=no\n[Service]\nLogLevelMax=notice\n"
    ),
    "etc/systemd/system/journal-to-host.service": (
        "[Unit]\nDescription=Copy the journal to the host\nDefaultDependencies=no\n"
        "[Service]\nExecStart=/bin/sh -c 'exec journalctl --follow --no-tail --boot "
        "--output=short-monotonic >/dev/virtio-ports/journal'\n"
    ),
    "etc/udev/rules.d/90-journal-to-host.rules": (
        'SUBSYSTEM=="virtio-ports", ATTR{name}=="journal", TAG+="systemd", '
        'ENV{SYSTEMD_WANTS}+="journal-to-host.service"\n'
    ),
}
"""The guest's files, made before the packages are there."""


@dataclass(frozen=True)
class Image:
    """A disk to copy, never to write to; it holds the kernel ``release``.

    ``codename`` is the distribution's release. ``newer`` is the release of a newer kernel that
    packages.download() can get for it, if any.
    """

    path: Path
    codename: str
    release: str
    newer: str | None


def vm_folder() -> Path:
    """Where what machines are made of is kept; safe to delete."""
    folder = packages.cache_folder() / "vm"
    folder.mkdir(exist_ok=True)
    return folder


def base_image(codename: str) -> Image:
    """The image of current packages of a release, with the newest kernel but one.

    Where apt has one only of its series, the newer kernel is of another series.
    """
    kernels = available(codename)

    def bootable(releases: Sequence[str]) -> list[str]:
        return [each for each in releases if packages.versions(f"linux-image-{each}", codename)]

    stable, others = map(bootable, (kernels.of()[:3], kernels.others()))
    if not stable:
        raise packages.UnavailableError(f"apt has no kernel of series {kernels.stable}")
    release = stable[1] if len(stable) > 1 else stable[0]
    newer = next((each for each in (*stable, *others) if each != release), None)
    known = [packages.candidate(name.format(release=release), codename) for name in _KEYED]
    recipe = Path(__file__).read_bytes() + "\n".join([release, *known]).encode()
    path = vm_folder() / f"base-{codename}-{hashlib.sha256(recipe).hexdigest()[:16]}.img"
    with packages.locked("vm-image"):
        if not path.exists():
            for old in vm_folder().glob(f"base-{codename}-*.img"):
                old.unlink()
            _make(path, codename, release)
    return Image(path, codename, release, newer)


def copy_disk(source: Path, target: Path) -> None:
    """Copies a disk without its holes."""
    subprocess.run(
        ["cp", "--reflink=auto", "--sparse=always", source, target], check=True, timeout=120
    )


def _make(path: Path, codename: str, release: str) -> None:
    for tool in ("mmdebstrap", "mke2fs"):
        if not shutil.which(tool):
            raise packages.UnavailableError(f"{tool} is not installed")
    if os.geteuid() != 0:
        raise packages.UnavailableError("only root can make the image")
    with tempfile.TemporaryDirectory(dir=vm_folder()) as scratch:
        root = Path(scratch, "root")
        _install(Path(scratch), root, codename, release)
        made = Path(scratch, "image")
        make_ext4(made, root, "root", _SIZE)
        made.rename(path)


def make_ext4(path: Path, folder: Path, label: str, size: str) -> None:
    """An ext4 file system with all that is in ``folder``; nothing is mounted."""
    options = "lazy_itable_init=1,lazy_journal_init=1"
    subprocess.run(
        [
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-L",
            label,
            "-E",
            options,
            "-d",
            folder,
            path,
            size,
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=300,
    )


def _install(scratch: Path, root: Path, codename: str, release: str) -> None:
    overlay = scratch / "overlay"
    for name, text in _FILES.items():
        file = overlay / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755 if text.startswith("#!") else 0o644)
    for name in _MASKED:
        (overlay / "etc/systemd/system" / name).symlink_to("/dev/null")
    sources = scratch / "debian.sources"
    sources.write_text(packages.distribution_sources(Path("/etc/apt"), codename))
    wanted = [*_PACKAGES, f"linux-image-{release}"]
    words = [
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=apt"),
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _UNUSED),
        "--aptopt=APT::Install-Recommends false",
        f"--include={','.join(wanted)}",
        # Before the packages that make an initramfs.
        f"--essential-hook=sync-in {overlay} /",
        "--customize-hook=chroot $1 systemctl enable systemd-networkd",
        # What a node needs is there, or it gets it from the test: apt has nothing to fetch.
        "--customize-hook=find $1/etc/apt/sources.list.d -type f -delete",
        # mmdebstrap takes the machine's own for the time of the installation.
        f"--customize-hook=copy-in {overlay}/etc/resolv.conf {overlay}/etc/hostname /etc",
        codename,
    ]
    done = subprocess.run([*words, root, sources], capture_output=True, text=True, timeout=1200)
    if done.returncode:
        raise packages.UnavailableError(f"no image could be made: {done.stderr[-2000:]}")
