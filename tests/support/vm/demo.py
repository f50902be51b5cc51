"""What scripts/demo shows: user-data, a first boot to READY, a small build, a warm reboot."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.packages import UnavailableError
from tests.support.vm.channel import ChannelError
from tests.support.vm.guest import PATIENCE, GuestError
from tests.support.vm.image import STABLE, base_image, vm_folder
from tests.support.vm.machine import Machine
from tests.support.vm.site import Site
from tests.support.vm.store import driver_store

_STARTED = time.monotonic()
# Of the journal's lines: what Modulus and cloud-init say, and the kernel of the driver.
_SHOWN = re.compile(r" (modulus|cloud-init)\[|nvidia|NVRM|nouveau|v4l2loopback|modulus", re.I)
_HIDDEN = re.compile(r"ci-info|firmware: failed to load|DCB table|BIT table|M0203")
_BUILD = 3600  # seconds at most, under emulation
_READY = PATIENCE


def main() -> int:
    """Runs the demonstration; its exit status."""
    parser = argparse.ArgumentParser(prog="demo")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(dir=vm_folder()) as folder:
            _demonstrate(Path(folder), options.compile)
    except (UnavailableError, GuestError, ChannelError) as error:
        print(f"demo: error: {error}", file=sys.stderr)
        print("demo: hint: run it again; say what is above if it fails again", file=sys.stderr)
        return 1
    return 0


def _demonstrate(folder: Path, compiled_there: bool) -> None:
    _say("the node's disk: Debian as a cloud has it, without Modulus and without a driver")
    image = base_image(STABLE)
    _say("the store: the real driver, compiled here by the same code and put on a disk")
    store = driver_store(image, newer=False, compiled=not compiled_there)
    with Site(folder, store) as site:
        _say(f"all the node is given, as printed by: modulus render user-data {store.driver}")
        text = site.user_data(store.driver)
        print(text, flush=True)
        with Machine(folder / "node", image.path, user_data=text, disks=[store.path]) as node:
            with _journal(node):
                _say(f"first boot, of {image.release}; its journal:")
                node.start()
                node.guest.wait_for_unit("cloud-final.service")
                _ready(node, store.driver, _BUILD if compiled_there else _READY)
            _show(node)
            with _journal(node):
                _say(f"the node compiles a small real driver itself: {store.small}")
                unit = f"modulus@{store.small}.service"
                node.guest.run("systemctl", "enable", "--now", "--no-block", unit)
                _ready(node, store.small, _BUILD)
            _run(node, "modulus", "status")
            with _journal(node):
                _say("a reboot: the warm path, with neither network, nor store, nor compiler")
                node.set_network(False)
                node.disks = []
                node.reboot()
                _ready(node, store.driver, _READY)
            _show(node)
            _say("done; the node goes away")


def _ready(node: Machine, instance: str, timeout: float) -> None:
    """Waits for the unit, which is active once the driver is ready."""
    unit = f"modulus@{instance}.service"
    state = node.guest.wait_for_unit(unit, timeout=timeout)
    found = node.guest.unit(unit, "StatusText", "ActiveEnterTimestampMonotonic")
    seconds = int(found.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
    _say(f"{unit} is {state}, {seconds:.0f} s after the kernel: {found.get('StatusText')}")
    if state != "active":
        _run(node, "systemctl", "status", "--no-pager", "--full", unit)
        raise GuestError(f"{unit} is {state}")


def _show(node: Machine) -> None:
    _run(node, "sh", "-c", "lsmod | grep -e ^Module -e nvidia -e nouveau -e v4l2loopback")
    _run(node, "sh", "-c", "ls -l /dev/nvidia*")
    _run(node, "modulus", "status")


def _run(node: Machine, *words: str) -> None:
    line = words[-1] if words[0] == "sh" else " ".join(words)
    done = node.guest.run(*words, check=False)
    print(f"\nnode# {line}\n{done.stdout}{done.stderr}", flush=True)


def _say(text: str) -> None:
    print(f"\n=== {time.monotonic() - _STARTED:4.0f} s: {text}\n", flush=True)


@contextlib.contextmanager
def _journal(node: Machine) -> Iterator[None]:
    """Prints what comes into the journal meanwhile, less what a boot says anyway."""
    start = node.journal.stat().st_size if node.journal.exists() else 0
    over = threading.Event()

    def follow() -> None:
        rest, position = b"", start
        while not over.is_set():
            over.wait(0.3)
            if not node.journal.exists():
                continue
            with open(node.journal, "rb") as file:
                file.seek(position)
                piece = file.read()
            position += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                text = line.decode("utf-8", "replace").rstrip()
                if _SHOWN.search(text) and not _HIDDEN.search(text):
                    print(f"    {text}", flush=True)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        time.sleep(1)  # what is on its way
        over.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
