"""Sources are unpacked while their package is still coming."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modulus.core.instance import Instance
from modulus.errors import ModulusError
from modulus.host.archive.growing import Growth, LostError, open_growing
from modulus.host.archive.reader import Archive
from modulus.host.fetch.partial import Partial
from modulus.host.files import atomic
from modulus.host.report.reporter import PlainReporter
from modulus.pipeline.build import source
from modulus.pipeline.build.build import carry_out
from modulus.pipeline.build.early import Early
from modulus.pipeline.build.prepare import Job, prepare
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site
from tests.support.fakedriver import RELEASE, FakeNode
from tests.support.mirror import Mirror
from tests.unit.pipeline.build.test_prepare import PACKAGE, fake, mirror  # noqa: F401 - fixtures

LONG = 10.0
SOURCES = ("gpu.c", "parts/gpu.h")


def test_what_has_not_come_yet_is_waited_for(tmp_path: Path) -> None:
    path, growth, got = tmp_path / "file", Growth(), list[bytes]()
    path.write_bytes(b"one")
    growth.reach(3)
    with open_growing(path, growth) as file:
        assert file.read(2) == b"on"
        reader = threading.Thread(target=lambda: got.append(file.read()))
        reader.start()
        with open(path, "ab") as more:
            more.write(b"two" * 1_000_000)
        growth.reach(3_000_003)
        reader.join(0.2)
        assert not got
        growth.end()
        growth.lose()  # Comes too late.
        reader.join(LONG)
        assert got == [b"e" + b"two" * 1_000_000]
        assert (file.seek(1), file.read(4)) == (1, b"netw")


def test_what_is_lost_is_not_waited_for(tmp_path: Path) -> None:
    path, growth = tmp_path / "file", Growth()
    path.write_bytes(b"one")
    growth.reach(3)
    with open_growing(path, growth) as file:
        threading.Timer(0.1, growth.lose).start()
        with pytest.raises(LostError):
            file.read(4)


def test_what_was_lost_once_is_never_what_it_should_be() -> None:
    growth = Growth()
    growth.lose()
    growth.end()
    assert not growth.ended


@pytest.fixture
def node(fake: FakeNode, mirror: Mirror) -> Node:  # noqa: F811 - the fixtures
    """Its package has sources, too."""
    resource = mirror.resources[PACKAGE]
    assert isinstance(resource.data, bytes)
    data = io.BytesIO(resource.data)
    with tarfile.open(fileobj=data, mode="a") as tar:
        for name in SOURCES:
            info = tarfile.TarInfo(f"kernel/{name}")
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    resource.data = data.getvalue()
    fake.define(sha256={"1.0": hashlib.sha256(resource.data).hexdigest()})
    site = Site(fake.root, None, (), 0, PlainReporter(io.StringIO()))
    return Node(site, Instance("gpu", "1.0"))


@pytest.fixture
def unpacked(fake: FakeNode) -> Iterator[Callable[[], list[str]]]:  # noqa: F811 - the fixture
    """What is in early sources; there are none left in the end."""
    folder = fake.cache / "builds" / RELEASE
    yield lambda: [path.name for path in folder.rglob("*") if path.is_file()]
    assert not folder.exists() or not list(folder.iterdir())


def take(node: Node, job: Job, target: Path, flavour: str = "open") -> bool:
    members = source.members(node, flavour)
    target.mkdir()
    assert isinstance(job.made_of, source.Source)
    return job.early.take(members, job.made_of.listed(members.folders), target)


def test_sources_are_there_before_the_package_is(
    node: Node,
    unpacked: Callable[[], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit = Partial.commit

    def commit_later(self: Partial) -> Path:
        assert until(unpacked)
        return commit(self)

    monkeypatch.setattr(Partial, "commit", commit_later)
    job = prepare(node, RELEASE)
    assert isinstance(job, Job)
    assert take(node, job, tmp_path / "taken")
    (tmp_path / "plain").mkdir()
    assert isinstance(job.made_of, source.Source)
    job.made_of.archive.extract(tmp_path / "plain", source.members(node, "open"))
    assert contents(tmp_path / "taken") == contents(tmp_path / "plain")
    assert {*contents(tmp_path / "taken")} == {*SOURCES}
    job.early.close()


def test_sources_of_another_flavour_are_not_taken(
    node: Node,
    unpacked: Callable[[], list[str]],
    tmp_path: Path,
) -> None:
    job = prepare(node, RELEASE)
    assert isinstance(job, Job)
    assert not job.early.take(source.Members(("kernel-other",)), (), tmp_path)
    assert not job.early.take(source.members(node, "open"), ["kernel/missing.c"], tmp_path)
    assert not list(tmp_path.glob("gpu.c"))
    job.early.close()


def test_what_a_package_says_of_itself_is_read_as_it_comes(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("it is read again")

    monkeypatch.setattr(Archive, "read", refuse)
    job = prepare(node, RELEASE)
    assert isinstance(job, Job)
    assert isinstance(job.made_of, source.Source)
    assert job.made_of.manifest
    assert job.made_of.manifest.version == "1.0"
    job.early.close()


@pytest.mark.parametrize(
    ("folder", "listed", "known"),
    [("kernel", "kernel/a", True), (".", "kernel/a", False), ("kernel", "cut", False)],
)
def test_only_what_was_read_of_a_sound_package_is_known(
    tmp_path: Path, folder: str, listed: str, known: bool
) -> None:
    path = tmp_path / "package"
    with tarfile.open(path, "w") as tar:
        for name in (listed, "list"):
            tar.addfile(tarfile.TarInfo(name))
    if listed == "cut":
        path.write_bytes(path.read_bytes()[:600])
    early = Early(tmp_path / "build", source.Members((folder,)), ["list", "absent"])
    assert early.read(["list"]) is None
    growth = early.begins(path, "tar")
    growth.reach(path.stat().st_size)
    growth.end()
    assert early.read(["list"]) == ({"list": b""} if known else None)
    assert early.read(["other"]) is None
    early.close()


def test_what_was_not_taken_goes(node: Node, unpacked: Callable[[], list[str]]) -> None:
    job = prepare(node, RELEASE)
    assert isinstance(job, Job)
    job.early.close()
    assert not unpacked()


@pytest.mark.parametrize("fault", ["hash", "cut", "no archive"])
def test_nothing_is_early_of_a_package_that_is_bad(
    node: Node,
    mirror: Mirror,  # noqa: F811 - the fixture
    unpacked: Callable[[], list[str]],
    fault: str,
) -> None:
    resource = mirror.resources[PACKAGE]
    assert isinstance(resource.data, bytes)
    if fault == "hash":
        resource.data += bytes(10240)
    elif fault == "cut":
        resource.data = resource.data[: len(resource.data) // 2]
    else:
        resource.data = b"\xfd7zXZ\0" + resource.data
    with pytest.raises(ModulusError, match="sha256"):
        prepare(node, RELEASE)
    assert not unpacked()


def test_pieces_of_another_package_are_not_taken(
    node: Node,
    mirror: Mirror,  # noqa: F811 - the fixture
    unpacked: Callable[[], list[str]],
    tmp_path: Path,
) -> None:
    data = mirror.resources[PACKAGE].data
    assert isinstance(data, bytes)
    downloads = node.site.cache / "downloads"
    part = downloads / f".part-{hashlib.sha256(data).hexdigest()}"
    downloads.mkdir(exist_ok=True)
    part.write_bytes(data.replace(b"gpu.c", b"gpu.h"))
    origin = {"url": mirror.url + PACKAGE, "etag": None, "size": len(data)}
    atomic.write_json(part.with_name(f"{part.name}.json"), origin)
    job = prepare(node, RELEASE)
    assert isinstance(job, Job)
    assert not take(node, job, tmp_path / "taken")
    assert not contents(tmp_path / "taken")
    job.early.close()


def test_what_the_order_of_threads_decides_is_not_taken(tmp_path: Path) -> None:
    package, members = tmp_path / "package.tar", source.Members(("kernel",))
    with tarfile.open(package, "w") as tar:
        for name in ("kernel/a.c", "tool", "kernel/b.c"):
            tar.addfile(tarfile.TarInfo(name))
    for listed, taken in ((["kernel/a.c"], False), (["kernel/a.c", "kernel/b.c"], True)):
        with contextlib.closing(Early(tmp_path / "early", members)) as early:
            arrive(early, package)
            assert until(lambda: list((tmp_path / "early").glob("*/src")))
            (tmp_path / "target").mkdir(exist_ok=True)
            assert early.take(members, listed, tmp_path / "target") is taken
            assert len(contents(tmp_path / "target")) == (2 if taken else 0)


def test_nothing_begins_once_it_is_closed(tmp_path: Path) -> None:
    (tmp_path / "package").write_bytes(b"")
    early = Early(tmp_path / "early", source.Members((".",)))
    early.close()
    arrive(early, tmp_path / "package")
    assert not (tmp_path / "early").exists()


def test_nothing_is_early_where_no_thread_can_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    (tmp_path / "package").write_bytes(b"")
    with contextlib.closing(Early(tmp_path / "early", source.Members((".",)))) as early:
        monkeypatch.setattr(threading.Thread, "start", fail)
        arrive(early, tmp_path / "package")
        assert not list((tmp_path / "early").iterdir())


def test_a_job_that_cannot_be_done_is_closed(
    node: Node, unpacked: Callable[[], list[str]]
) -> None:
    job = prepare(node, RELEASE)
    assert isinstance(job, Job)
    with pytest.raises(ModulusError, match="unknown"):
        carry_out(node, replace(job, wanted=replace(job.wanted, key=None)))
    assert not unpacked()


def arrive(early: Early, package: Path) -> None:
    growth = early.begins(package, "tar")
    growth.reach(package.stat().st_size)
    growth.end()


def until(condition: Callable[[], object]) -> bool:
    end = time.monotonic() + LONG
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(condition())


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
