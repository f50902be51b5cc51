"""Who reads what a cache has: downloads, headers, toolchains, builds and their objects."""

from __future__ import annotations

import json
from pathlib import Path

from modulus.core.distribution.families import DEBIAN, Distribution
from modulus.core.gpu.supported import parse_gpu_list
from modulus.core.kernel.release import Compiler
from modulus.core.profile.profile import GpuListFormat
from modulus.core.store.manifest import StoredFile
from modulus.core.tree import FileRecord, Tree, tree_value
from modulus.host.build.proofs import read_proof, write_proof
from modulus.host.distribution.provisioner import Provisioner
from modulus.host.fetch.partial import held
from modulus.host.fetch.source_record import PackageRecord, read_source, write_source
from modulus.host.generation.userspace import find_userspace
from modulus.host.reuse.header_digest import survey
from modulus.host.reuse.object_cache import KeptObjects
from modulus.host.store.entry import Stored
from modulus.host.store.objects import Objects
from modulus.host.store.store import Entry, Store
from tests.support import smallbuild, stored
from tests.support.damage import Reader
from tests.support.headertrees import write
from tests.support.readers import EMPTY, RELEASE, REPORTER, SHA

BOOKWORM = Distribution(DEBIAN, "bookworm", "amd64")


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
    return Provisioner(root / "cache", root, BOOKWORM, (), offline=True)


def _package(root: Path) -> None:
    write(root / "cache/downloads" / EMPTY, "")
    record = {"sha256": EMPTY, "version": "1:1.0-1"}
    write(root / "cache/downloads/.pkg_1.0.json", json.dumps(record))


def _put(root: Path) -> None:
    stored.put(root / "cache")


def _use_store(root: Path) -> object:
    store = Store(root / "cache", ())
    found = [entry for entry in store.entries() if not entry.damage() and entry.manifest]
    store.find(stored.KEY, stored.RELEASE)
    store.set_aside(next(store.entries()))
    return found


def _entry(root: Path) -> Entry:
    return next(Store(root / "cache", ()).entries())


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


def _stored(root: Path) -> Stored:
    return Stored(StoredFile("m.ko", EMPTY, 0, EMPTY), root, Objects(root))


def _object(root: Path) -> None:
    write(root / "empty", "")
    _stored(root).objects.add(EMPTY, root / "empty")


READERS = (
    Reader("partial download", "cache/.part-x.json", _partial, _use_partial),
    Reader("headers", f"cache/headers/{SHA}/record.json", _headers,
           lambda root: _provisioner(root).headers_recorded(RELEASE)),
    Reader("toolchain", f"cache/toolchains/{SHA}/record.json", _toolchain,
           lambda root: _provisioner(root).toolchain_recorded(Compiler("gcc", "gcc-12", "12"))),
    Reader("package", "cache/downloads/.pkg_1.0.json", _package,
           lambda root: _provisioner(root).source_package("pkg", "1.0", REPORTER)),
    Reader("manifest.json", f"cache/builds/{stored.RELEASE}/{stored.KEY}/manifest.json",
           _put, _use_store),
    Reader("proof", f"cache/builds/{stored.RELEASE}/{stored.KEY}/proof.json",
           lambda root: write_proof(root / "cache", stored.put(root / "cache"), "equal"),
           lambda root: read_proof(root / "cache", _entry(root))),
    Reader("userspace", f"cache/userspace/{SHA}/record.json", _userspace,
           lambda root: find_userspace(root / "cache", SHA, REPORTER)),
    Reader("kept objects", f"cache/compiled/{smallbuild.FAMILY}/twin/manifest.json",
           _kept, _use_kept),
    Reader("kept listing", f"cache/compiled/{smallbuild.FAMILY}/twin/headers.zst",
           _kept, _use_kept),
    Reader("kept archive", f"cache/compiled/{smallbuild.FAMILY}/twin/objects.tar.zst",
           _kept, _use_kept),
    Reader("source", "cache/source.json", _source, _use_source),
    Reader("object", f"objects/{EMPTY}.zst", _object,
           lambda root: not _stored(root).damage()),
)  # fmt: skip
