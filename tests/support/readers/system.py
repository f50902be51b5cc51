"""Who reads what an administrator, a distribution or a driver wrote."""

from __future__ import annotations

import json
from pathlib import Path

from modulus.core.health.checks.answers import check_answers
from modulus.core.profile.libraries import Answer, Library
from modulus.host.config.load import load_profile, load_settings
from modulus.host.distribution.dpkg_status import installed_versions, unfinished
from modulus.host.distribution.header_tree import HeaderTree, objection
from modulus.host.distribution.headers import Headers
from modulus.host.files.regular import read_text
from modulus.host.generation.soname import read_soname
from modulus.host.health.library_probe import _Heard
from modulus.host.kernel.module_file import read_module_file
from modulus.host.modules.foreign import _installed
from tests.support.damage import Reader
from tests.support.elfmaker import kernel_module
from tests.support.headertrees import write
from tests.support.library import shared_library
from tests.support.readers import RELEASE, SHA


def _config(root: Path) -> None:
    write(root / "build/.config", 'CONFIG_SMP=y\nCONFIG_CC_VERSION_TEXT="gcc-12 (Debian) 12.2"')


def _use_config(root: Path) -> object:
    objection(HeaderTree(root, root / "build", root / "build"), RELEASE)
    return Headers(SHA, root, RELEASE, "node", SHA).config.enabled("SMP")


def _settings(root: Path) -> None:
    text = "mirrors:\n- {url: 'https://a/{version}', trusted: true}\nbuild: {jobs: 4}\n"
    text += "stores: [&a /srv/a, /srv/b]\ncomponents: [compute]\nboot_hold: 5min\n"
    write(root / "etc/modulus/modulus.yaml", text + "drivers: {gpu: {flavour: open}}\n")


def _use_settings(root: Path) -> object:
    return load_settings(root, config=None, environ={}, assignments=(), driver="gpu")


def _profile(root: Path) -> None:
    vendor = Path(__file__).parents[3] / "profiles/v4l2loopback.yaml"
    text = vendor.read_text().replace("v4l2loopback", "gpu")
    write(root / "etc/modulus/profiles/gpu.yaml", text)


def _use_module(root: Path) -> object:
    return read_module_file(root / "m.ko").info("srcversion")


def _library(root: Path) -> None:
    (root / "lib.so").write_bytes(shared_library("lib.so.1", 100))


def _use_library(root: Path) -> object:
    try:
        return read_soname(root / "lib.so")
    except (ValueError, OSError):  # As it says, and as its callers expect.
        return None


def _said(root: Path) -> None:
    said = {"function": "init", "status": 3, "text": "no", "device": "0000:00:05.0", "ended": 1}
    write(root / "said.json", json.dumps(said))


def _use_said(root: Path) -> object:
    heard = _Heard(1.0)
    if (root / "said.json").is_file():
        for line in read_text(root / "said.json").splitlines():
            heard.line(line)
    library = Library("lib.so", device="ask")
    answer = Answer("lib.so", tuple(heard.replies), heard.problem)
    return [*check_answers([(library, answer)], ["0000:00:05.0"], True)]


READERS = (
    Reader(".config", "build/.config", _config, _use_config),
    Reader("settings", "etc/modulus/modulus.yaml", _settings, _use_settings),
    Reader("profile", "etc/modulus/profiles/gpu.yaml", _profile,
           lambda root: load_profile(root, "gpu")),
    Reader("module", "m.ko",
           lambda root: (root / "m.ko").write_bytes(
               kernel_module(modinfo={"srcversion": "ABC"})), _use_module),
    Reader("library", "lib.so", _library, _use_library),
    Reader("modules.dep", f"lib/modules/{RELEASE}/modules.dep",
           lambda root: (write(root / f"lib/modules/{RELEASE}/a.ko"),
                         write(root / f"lib/modules/{RELEASE}/modules.dep", "a.ko:\n")),
           lambda root: _installed(root, RELEASE, {"a"})),
    Reader("dpkg's status", "var/lib/dpkg/status",
           lambda root: write(root / "var/lib/dpkg/status",
                              "Package: a\nStatus: install ok installed\nVersion: 1\n"),
           lambda root: installed_versions(root, ["a"])),
    Reader("dpkg's changes", "var/lib/dpkg/updates/0000",
           lambda root: write(root / "var/lib/dpkg/updates/0000",
                              "Package: a\nStatus: install ok unpacked\n"),
           lambda root: unfinished(root, ["a"])),
    Reader("library's answer", "said.json", _said, _use_said),
)  # fmt: skip
