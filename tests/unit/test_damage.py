"""Whatever a file of ours holds, who reads it goes on or says why not, in the errors we have.

Each reader is given what is damaged at random, and each kind of file that is none. Another
exception than ours, a wait without end, or memory for what a file only says of itself fails.
"""

from __future__ import annotations

import io
import json
import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from modulus.agent.failure_record import FailureRecord
from modulus.agent.prebuild.record import KernelRecord
from modulus.core.agent.backoff import Backoff
from modulus.core.build.proof import Disproof, condemned
from modulus.core.devices.wanted import DeviceNode, Minors, NodeRule, Params, When
from modulus.core.distribution.families import DEBIAN, Distribution
from modulus.core.generation.generation import Contents, Identity, manifest_value
from modulus.core.generation.last_good import Good, good_value
from modulus.core.generation.recorded_state import RecordedState
from modulus.core.gpu.supported import parse_gpu_list
from modulus.core.health.checks.answers import check_answers
from modulus.core.instance import Instance
from modulus.core.kernel.identity import KernelId
from modulus.core.kernel.release import Compiler
from modulus.core.kernel.upcoming import Kernel, Tried
from modulus.core.modules.initramfs import Image, InitramfsRecord, parse_record
from modulus.core.pci import PciMatch
from modulus.core.profile.libraries import Answer, Library
from modulus.core.profile.profile import GpuListFormat
from modulus.core.status.build_counts import BuildRecord
from modulus.core.status.metrics import metrics_text
from modulus.core.status.state import Failure, KernelReady, State
from modulus.core.store.manifest import StoredFile
from modulus.core.tree import FileRecord, Link, Tree, tree_value
from modulus.errors import ModulusError
from modulus.host.build.proofs import add_disproof, read_disproofs, read_proof, write_proof
from modulus.host.config.load import load_profile, load_settings
from modulus.host.distribution.dpkg_status import installed_versions
from modulus.host.distribution.header_tree import HeaderTree, objection
from modulus.host.distribution.headers import Headers
from modulus.host.distribution.provisioner import Provisioner
from modulus.host.fetch.partial import held
from modulus.host.fetch.source_record import PackageRecord, read_source, write_source
from modulus.host.files import record
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.files.regular import read_text
from modulus.host.generation import install
from modulus.host.generation.last_good import good_generations
from modulus.host.generation.recorded_state import (
    drift,
    read_recorded_state,
    write_recorded_state,
)
from modulus.host.generation.selected import read_selected
from modulus.host.generation.soname import read_soname
from modulus.host.generation.userspace import find_userspace
from modulus.host.health.library_probe import _Heard
from modulus.host.kernel.module_file import read_module_file
from modulus.host.modules import module_root
from modulus.host.modules.firmware import release_firmware
from modulus.host.modules.other_drivers import _installed
from modulus.host.report.reporter import PlainReporter
from modulus.host.reuse.header_digest import survey
from modulus.host.reuse.object_cache import KeptObjects
from modulus.host.status.build_counts import change_record, read_record
from modulus.host.status.files import is_anothers, read_states, write_state
from modulus.host.store.entry import Stored
from modulus.host.store.objects import Objects
from modulus.host.store.store import Entry, Store
from tests.support import smallbuild, stored
from tests.support.damage import Reader, damaged, in_time
from tests.support.elfmaker import kernel_module
from tests.support.headertrees import write
from tests.support.library import shared_library

RELEASE, NAME = "6.1.0-9-amd64", "gpu-1.0"
KERNEL = KernelId(RELEASE, "#1 SMP", "ab")
SHA = "ab" * 32
REPORTER = PlainReporter(io.StringIO())
BOOKWORM = Distribution(DEBIAN, "bookworm", "amd64")
GENERATION = f"1.0-{RELEASE}-{'c' * 12}-{'0' * 8}"
HOME = f"opt/drivers/.gpu/{GENERATION}"
BUILDS = BuildRecord(1, 2, 3, {RELEASE: 2.5}, (KernelReady(RELEASE, True, False),))
TRIED = Tried({RELEASE: Kernel("inputs", frozenset({SHA}))}, 14, 2, 1e9)
STATE = State(
    NAME, "build", 0.5, 12.0, key=SHA, kernels=BUILDS.kernels, error=Failure(14, "a", "b")
)
RULES = (
    NodeRule("gpu{minor}", ("gpu",), 195, "gpu", None, Minors(("driver/*",), "Minor"),
             params=Params("driver/params", "UID"), when=When("driver/params", "On")),
)  # fmt: skip
WANTED = RecordedState(
    NAME,
    GENERATION,
    ("gpu",),
    {"gpu": "S", "gpu_uvm": None},
    {"gpu": 195},
    f"/{HOME}/firmware",
    {"/etc/modprobe.d/gpu.conf": "blacklist x\n"},
    (PciMatch(0x10DE, 0x0302),),
    {"0000:00:05.0": "gpu"},
    RULES,
    (DeviceNode("/dev/gpu0", 195, 0),),
)


def _good(root: Path) -> None:
    (root / "var/lib/modulus/gpu").mkdir(parents=True)
    _generation(root)
    entries = good_value([Good(GENERATION, NAME, KERNEL, "2026-01-01T00:00:00Z")])
    write(root / "var/lib/modulus/gpu/good.json", json.dumps(entries))


def _generation(root: Path) -> None:
    identity = Identity(Instance("gpu", "1.0"), "open", KERNEL, "c" * 64, ("compute",))
    tree = Tree((FileRecord("lib/a", SHA, 3, 0o644),), (Link("lib/b", "a"),))
    contents = Contents(identity, "d" * 64, tree)
    value = manifest_value(contents, "2026-01-01T00:00:00Z")
    write(root / HOME / "generation.json", json.dumps(value))
    write(root / HOME / "lib/a", "abc")


def _verify(root: Path) -> object:
    found = install.find_generation(DriverPaths(root, "gpu"), GENERATION)
    return found and install.verify_generation(found, REPORTER)


def _use_builds(root: Path) -> object:
    found = read_record(root, NAME)
    now = found.kernels_now((RELEASE,), RELEASE, False)
    change_record(root, NAME, BuildRecord.with_failed)
    return metrics_text(State(NAME, "ready", kernels=now), found) and found.built


def _use_tried(root: Path) -> object:
    tried = KernelRecord(root, NAME, _never).tried
    kernels = {RELEASE: Kernel("inputs", frozenset({SHA}))}
    assert tried.wait(kernels, 1e9) >= 0
    return tried.then(kernels, 14, 1e9).failures > 1


def _use_failures(root: Path) -> object:
    count = FailureRecord(root, NAME, _never).failed("inputs")
    assert 0 < Backoff().delay(count, 14) <= 3600
    return count > 1


def _never(error: Exception) -> None:
    raise error


def _use_states(root: Path) -> object:
    is_anothers(root, NAME)
    states = read_states(root)
    for state in states:
        assert state.doing is not None
        metrics_text(state, BUILDS)
        json.dumps(state.value())
    return states


def _use_wanted(root: Path) -> object:
    state = read_recorded_state(DriverPaths(root, "gpu"))
    if state:
        drift(root, state)
        assert all(rule.files() for rule in state.rules) in (True, False)
    return state


def _use_initramfs(root: Path) -> object:
    found = record.read_record(DriverPaths(root, "gpu").initramfs, parse_record)
    return found and found.is_of(found.image, ["a"], "b") in (True, False)


def _partial(root: Path) -> None:
    write(root / "cache/.part-x", "abc")
    origin = {"url": "https://example.com/a", "etag": '"a"', "size": 5}
    write(root / "cache/.part-x.json", json.dumps(origin))


def _use_partial(root: Path) -> object:
    try:
        with held(root / "cache", "x", "it", REPORTER, 1.0, resume=True) as part:
            return part.origin
    except OSError:  # Of which who fetches says that the folder cannot be used.
        return None


def _headers(root: Path) -> None:
    entry = root / "cache/headers" / SHA
    write(entry / "tree/build/Module.symvers")
    record = {
        "schema": 1,
        "id": SHA,
        "release": RELEASE,
        "origin": "packages",
        "symvers_sha256": SHA,
        "found_by": [f"packages/{BOOKWORM}/{RELEASE}/none"],
        "created": "2026-01-01T00:00:00Z",
    }
    write(entry / "record.json", json.dumps(record))


def _toolchain(root: Path) -> None:
    entry = root / "cache/toolchains" / SHA
    write(entry / "root/usr/bin/make")
    record = {
        "schema": 1,
        "id": SHA,
        "found_by": [f"{BOOKWORM}/gcc-12"],
        "cc": "gcc-12",
        "packages": {"gcc-12": {"version": "12.2.0-14", "sha256": SHA}},
    }
    write(entry / "record.json", json.dumps(record))


def _provisioner(root: Path) -> Provisioner:
    return Provisioner(root / "cache", root, BOOKWORM, (), REPORTER, offline=True)


def _package(root: Path) -> None:
    write(root / "cache/downloads" / EMPTY, "")
    record = {"sha256": EMPTY, "version": "1:1.0-1"}
    write(root / "cache/downloads/.pkg_1.0.json", json.dumps(record))


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def _put(root: Path) -> None:
    stored.put(root / "cache")


def _use_store(root: Path) -> object:
    store = Store(root / "cache", (), REPORTER)
    found = [entry for entry in store.entries() if not entry.damage() and entry.manifest]
    store.find(stored.KEY, stored.RELEASE)
    store.set_aside(next(store.entries()))
    return found


def _entry(root: Path) -> Entry:
    return next(Store(root / "cache", (), REPORTER).entries())


DISPROOF = Disproof("r" * 64, "c" * 64, (SHA,), ("a.o",), "2026-01-01T00:00:00Z")


def _use_disproofs(root: Path) -> object:
    known = read_disproofs(DriverPaths(root, "gpu"))
    identity = Identity(Instance("gpu", "1.0"), "open", KERNEL, "c" * 64, (), "a" * 64)
    tree = Tree((FileRecord("lib/a", SHA, 3, 0o644),))
    add_disproof(DriverPaths(root, "gpu"), DISPROOF)
    assert DISPROOF in read_disproofs(DriverPaths(root, "gpu"))
    return condemned(Contents(identity, None, tree), known) and known


def _userspace(root: Path) -> None:
    entry = root / "cache/userspace" / SHA
    write(entry / "tree/lib/a", "")
    tree = Tree((FileRecord("lib/a", EMPTY, 0, 0o644),))
    record = {"schema": 1, "id": SHA, **tree_value(tree)}
    write(entry / "record.json", json.dumps(record))


def _kept(root: Path) -> None:
    smallbuild.Build(root / "build").keep(root / "cache")
    (entry,) = (root / f"cache/compiled/{smallbuild.FAMILY}").iterdir()
    entry.rename(root / "entry")
    (root / "entry").rename(entry.with_name("twin"))


def _use_kept(root: Path) -> object:
    objects = KeptObjects(root / "cache")
    there = survey(smallbuild.headers(root / "newer", smallbuild.NEW), smallbuild.NEW)
    near = objects.nearest(smallbuild.FAMILY, there)
    if near:
        (root / "work").mkdir()
        objects.restore(near[0], root / "work", smallbuild.NEW)
    return near


def _source(root: Path) -> None:
    gpus = {"chips": [{"devid": "0x2330", "name": "H", "features": ["a"]}]}
    write_source(root / "cache/source.json", PackageRecord(SHA, "settings", gpus, "a\n1\n"))


def _use_source(root: Path) -> object:
    found = read_source(root / "cache/source.json")
    form = GpuListFormat("list.json", "chips", "devid", "name", "features", "legacybranch", {})
    return found and parse_gpu_list(form, found.gpus)


def _stamp(root: Path) -> None:
    write(root / "stamp.json", json.dumps({"inputs": {"a": 1}, "preload": ["i2c-core"]}))


def _stored(root: Path) -> Stored:
    return Stored(StoredFile("m.ko", EMPTY, 0, EMPTY), root, Objects(root))


def _object(root: Path) -> None:
    write(root / "empty", "")
    _stored(root).objects.add(EMPTY, root / "empty")


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
    vendor = Path(__file__).parents[2] / "profiles/v4l2loopback.yaml"
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
    Reader("good.json", "var/lib/modulus/gpu/good.json", _good,
           lambda root: good_generations(DriverPaths(root, "gpu"), KERNEL)),
    Reader("generation.json", f"{HOME}/generation.json", _generation, _verify),
    Reader("build counts", f"run/modulus/builds/{NAME}.json",
           lambda root: change_record(root, NAME, lambda _: BUILDS), _use_builds),
    Reader("ahead", f"run/modulus/ahead/{NAME}.json",
           lambda root: write(root / f"run/modulus/ahead/{NAME}.json",
                              json.dumps(TRIED.value())), _use_tried),
    Reader("failures", f"run/modulus/backoff/{NAME}.json",
           lambda root: FailureRecord(root, NAME, _never).failed("inputs"), _use_failures),
    Reader("state", f"run/modulus/{NAME}.json",
           lambda root: write_state(root, STATE), _use_states),
    Reader("wanted.json", "run/modulus/gpu/wanted.json",
           lambda root: write_recorded_state(DriverPaths(root, "gpu"), WANTED), _use_wanted),
    Reader("initramfs.json", "var/lib/modulus/gpu/initramfs.json",
           lambda root: write(root / "var/lib/modulus/gpu/initramfs.json", json.dumps(
               InitramfsRecord(Image("/boot/x", 1, 2), ("a",), "b", ("a",)).value()
           )), _use_initramfs),
    Reader("firmware.json", "var/lib/modulus/gpu/firmware.json",
           lambda root: (write(root / "lib/firmware/a", ""), write(
               root / "var/lib/modulus/gpu/firmware.json",
               json.dumps({"files": {"/lib/firmware/a": EMPTY}, "folders": ["/lib/firmware"]}),
           )), lambda root: release_firmware(DriverPaths(root, "gpu"), REPORTER)),
    Reader("partial download", "cache/.part-x.json", _partial, _use_partial),
    Reader("headers", f"cache/headers/{SHA}/record.json", _headers,
           lambda root: _provisioner(root).headers_recorded(RELEASE)),
    Reader("toolchain", f"cache/toolchains/{SHA}/record.json", _toolchain,
           lambda root: _provisioner(root).toolchain_recorded(Compiler("gcc", "gcc-12", "12"))),
    Reader("package", "cache/downloads/.pkg_1.0.json", _package,
           lambda root: _provisioner(root).source_package("pkg", "1.0")),
    Reader("manifest.json", f"cache/builds/{stored.RELEASE}/{stored.KEY}/manifest.json",
           _put, _use_store),
    Reader("proof", f"cache/builds/{stored.RELEASE}/{stored.KEY}/proof.json",
           lambda root: write_proof(root / "cache", stored.put(root / "cache"), "equal"),
           lambda root: read_proof(root / "cache", _entry(root))),
    Reader("disproofs", "var/lib/modulus/disproved/gpu.json",
           lambda root: add_disproof(DriverPaths(root, "gpu"), DISPROOF), _use_disproofs),
    Reader("userspace", f"cache/userspace/{SHA}/record.json", _userspace,
           lambda root: find_userspace(root / "cache", SHA, REPORTER)),
    Reader("kept objects", f"cache/compiled/{smallbuild.FAMILY}/twin/manifest.json",
           _kept, _use_kept),
    Reader("kept listing", f"cache/compiled/{smallbuild.FAMILY}/twin/headers.zst",
           _kept, _use_kept),
    Reader("kept archive", f"cache/compiled/{smallbuild.FAMILY}/twin/objects.tar.zst",
           _kept, _use_kept),
    Reader("source", "cache/source.json", _source, _use_source),
    Reader("module root", "stamp.json", _stamp, lambda root: record.read_record(
        root / "stamp.json", lambda value: module_root._parse(value, {"a": 1}))),
    Reader("object", f"objects/{EMPTY}.zst", _object,
           lambda root: not _stored(root).damage()),
    Reader("selected", "var/lib/modulus/gpu/selected",
           lambda root: write(root / "var/lib/modulus/gpu/selected", f"{NAME}\n"),
           lambda root: read_selected(DriverPaths(root, "gpu"))),
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
    Reader("library's answer", "said.json", _said, _use_said),
)  # fmt: skip
IDS = [reader.name for reader in READERS]
"""Every reader of a file of ours, and of others' that may be damaged."""


@pytest.fixture(autouse=True)
def small_memory() -> Iterator[None]:
    """Half a gigabyte more than this process has: what asks for more gets a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + (512 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def _read(reader: Reader, root: Path) -> object:
    with in_time():
        try:
            return reader.read(root)
        except ModulusError as error:
            assert error.message and error.hint
            return None


@pytest.mark.parametrize("reader", READERS, ids=IDS)
def test_a_sound_one_is_used(reader: Reader, tmp_path: Path) -> None:
    reader.make(tmp_path)
    assert (tmp_path / reader.path).is_file()
    assert _read(reader, tmp_path)


KINDS = ("nothing", "folder", "pipe", "loop", "dangling", "zeros", "empty", "parent")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS, ids=IDS)
def test_what_is_no_such_file(reader: Reader, kind: str, tmp_path: Path) -> None:
    reader.make(tmp_path)
    path = tmp_path / reader.path
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "zeros":
        path.symlink_to("/dev/zero")
    elif kind == "empty":
        path.touch()
    elif kind == "parent":
        path.parent.rename(path.parent.with_name("moved"))
        path.parent.touch()
    _read(reader, tmp_path)


def _fuzz(reader: Reader, examples: int) -> None:
    with tempfile.TemporaryDirectory() as made:
        reader.make(Path(made))
        sound = (Path(made) / reader.path).read_bytes()

    @settings(
        max_examples=examples,
        suppress_health_check=list(HealthCheck),
        # To shrink what takes a minute to hang would take hours.
        phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    )
    @given(damaged(sound))
    def reads(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            reader.make(root)
            (root / reader.path).write_bytes(data)
            _read(reader, root)

    reads()


@pytest.mark.parametrize("reader", READERS, ids=IDS)
def test_what_is_damaged_at_random(reader: Reader) -> None:
    _fuzz(reader, 40)


@pytest.mark.full
@pytest.mark.parametrize("reader", READERS, ids=IDS)
def test_what_is_damaged_at_random_for_long(reader: Reader) -> None:
    _fuzz(reader, 1000)
