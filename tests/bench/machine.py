"""Where and with what it was measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path

from modulus import __version__
from modulus.host.report.clock import rfc3339


def describe(jobs: int) -> dict[str, str]:
    """Facts in the order in which they are told."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    compiler = _compiler()
    load = Path("/proc/loadavg").read_text().split()[0]
    return {
        "date": rfc3339(time.time()),
        "machine": f"{_processor()}, {jobs} cores, {memory / (1 << 30):.0f} GiB of memory, "
        f"load {load} before",
        "system": f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {platform.release()}",
        "modulus": f"{__version__}{_commit()}",
        "dkms": f"dkms {_version('dkms')}",
        "compiler": f"{compiler} {_version(compiler)}",
    }


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _commit() -> str:
    words = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parent)
    return f", commit {done.stdout.strip()}" if done.returncode == 0 else ""


def _compiler() -> str:
    """The package of the distribution's own compiler, with which its kernels are made."""
    words = ["dpkg-query", "--show", "--showformat=${Depends}", "gcc"]
    depends = subprocess.run(words, capture_output=True, text=True).stdout
    found = re.search(r"\bgcc-\d+", depends)
    return found[0] if found else "gcc"


def _version(package: str) -> str:
    words = ["dpkg-query", "--show", "--showformat=${Version}", package]
    return subprocess.run(words, capture_output=True, text=True).stdout or "is not installed"
