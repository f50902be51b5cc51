"""Sources are unpacked while what their package says of itself is read."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from modulus.core.instance import Instance
from modulus.core.package.members import Members
from modulus.errors import IntegrityError, ModulusError
from modulus.host.archive.reader import Archive
from modulus.host.report.reporter import PlainReporter
from modulus.pipeline.build import source
from modulus.pipeline.build.build import carry_out
from modulus.pipeline.build.job import FromPackage
from modulus.pipeline.build.one_pass import OnePass
from modulus.pipeline.build.prepare import prepare
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site
from tests.support.fakedriver import RELEASE, FakeNode
from tests.support.mirror import Mirror
from tests.support.quiet import QUIET
from tests.unit.pipeline.build.test_prepare import PACKAGE, fake, mirror  # noqa: F401 - fixtures

SOURCES = ("gpu.c", "parts/gpu.h")


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
    site = Site(fake.root, None, (), 0)
    return Node(site, Instance("gpu", "1.0"))


@pytest.fixture
def unpacked(fake: FakeNode) -> Iterator[Callable[[], list[str]]]:  # noqa: F811 - the fixture
    """What is unpacked; there is nothing left in the end."""
    folder = fake.cache / "builds" / RELEASE
    yield lambda: [path.name for path in folder.rglob("*") if path.is_file()]
    assert not folder.exists() or not list(folder.iterdir())


@pytest.fixture
def job(node: Node, unpacked: Callable[[], list[str]]) -> Iterator[FromPackage]:
    job = prepared(node)
    assert {*unpacked()} == {Path(name).name for name in SOURCES}
    yield job
    close(job)
    assert not unpacked()


def test_a_build_has_the_sources_that_it_would_unpack_itself(
    node: Node, job: FromPackage, tmp_path: Path
) -> None:
    members = source.members(node, "open")
    for name in ("taken", "plain"):
        (tmp_path / name).mkdir()
    listed = members.listed(job.package.manifest)
    assert take(job, members, listed, tmp_path / "taken")
    job.package.archive.extract(tmp_path / "plain", members)
    assert contents(tmp_path / "taken") == contents(tmp_path / "plain")
    assert {*contents(tmp_path / "taken")} == {*SOURCES}
    assert (tmp_path / "taken").stat().st_mode & 0o777 == 0o755


def test_other_sources_are_not_taken(node: Node, job: FromPackage, tmp_path: Path) -> None:
    assert not take(job, Members(("kernel-other",)), (), tmp_path)
    assert not take(job, source.members(node, "open"), ["kernel/missing.c"], tmp_path)
    assert not list(tmp_path.glob("gpu.c"))


def test_the_package_is_read_once(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("it is read again")

    monkeypatch.setattr(Archive, "read", refuse)
    job = prepared(node)
    assert job.package.manifest
    assert job.package.manifest.version == "1.0"
    close(job)


def test_what_is_known_of_a_package_is_not_read_again(
    node: Node, unpacked: Callable[[], list[str]]
) -> None:
    for expected in (len(SOURCES), 0):
        job = prepared(node)
        assert len(unpacked()) == expected
        close(job)


@pytest.mark.parametrize("fault", ["hash", "cut"])
def test_nothing_is_unpacked_of_a_package_whose_hash_does_not_hold(
    node: Node,
    mirror: Mirror,  # noqa: F811 - the fixture
    unpacked: Callable[[], list[str]],
    fault: str,
) -> None:
    resource = mirror.resources[PACKAGE]
    assert isinstance(resource.data, bytes)
    if fault == "hash":
        resource.data += bytes(10240)
    else:
        resource.data = resource.data[: len(resource.data) // 2]
    with pytest.raises(ModulusError, match="sha256"):
        prepare(node, QUIET, RELEASE)
    assert not unpacked()


def test_a_damaged_package_leaves_nothing(tmp_path: Path) -> None:
    package = packed(tmp_path, "list", "kernel/a.c", size=2000)
    package.write_bytes(package.read_bytes()[:2000])
    with contextlib.closing(
        OnePass(tmp_path / "build", Members(("kernel",)), "all")
    ) as one_pass:
        with pytest.raises(IntegrityError):
            one_pass.read(Archive(package, "tar"), ["list", "absent"], None, QUIET)
        (tmp_path / "target").mkdir()
        assert not one_pass.take(Members(("kernel",)), (), tmp_path / "target")
    assert not list((tmp_path / "build").iterdir())


def test_what_is_unpacked_is_not_read_in_passing(tmp_path: Path) -> None:
    package = packed(tmp_path, "list", "kernel/a.c")
    with contextlib.closing(OnePass(tmp_path / "build", Members((".",)), "all")) as one_pass:
        found = one_pass.read(Archive(package, "tar"), ["list"], None, QUIET)
        assert found == {"list": b""}
        assert not one_pass.take(Members((".",)), (), tmp_path)


@pytest.mark.parametrize(
    ("listed", "taken"),
    [((), True), (("kernel/a.c",), False), (("kernel/a.c", "kernel/b.c"), True)],
)
def test_what_another_pass_would_not_unpack_is_not_taken(
    tmp_path: Path, listed: Sequence[str], taken: bool
) -> None:
    """Where texts come behind all that is listed, sources between are unpacked, too."""
    package = packed(tmp_path, "kernel/a.c", "tool", "kernel/b.c", "list")
    members = Members(("kernel",))
    with contextlib.closing(OnePass(tmp_path / "build", members, "all")) as one_pass:
        one_pass.read(Archive(package, "tar"), ["list"], None, QUIET)
        (tmp_path / "target").mkdir()
        assert one_pass.take(members, listed, tmp_path / "target") is taken
        assert len(contents(tmp_path / "target")) == (2 if taken else 0)


def test_sources_that_a_package_does_not_have_are_not_taken(tmp_path: Path) -> None:
    """Or a build would begin without any."""
    package, members = packed(tmp_path, "list", "tool"), Members(("kernel",))
    with contextlib.closing(OnePass(tmp_path / "build", members, "all")) as one_pass:
        one_pass.read(Archive(package, "tar"), ["list"], None, QUIET)
        assert not one_pass.take(members, (), tmp_path)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_what_is_read_for_nobody_goes(tmp_path: Path, when: str) -> None:
    """Whoever unpacks removes it: the owner does not, under its hands."""
    package, members = (
        packed(tmp_path, "list", "kernel/a.c", size=100_000),
        Members(("kernel",)),
    )
    one_pass = OnePass(tmp_path / "build", members, "all")
    closing = Closing(one_pass if when == "meanwhile" else None)
    if when == "before":
        one_pass.close()
    assert "list" in one_pass.read(Archive(package, "tar"), ["list"], None, closing)
    assert closing.there == (when == "meanwhile")
    assert not list((tmp_path / "build").iterdir())
    assert not one_pass.take(members, (), tmp_path)


class Closing(PlainReporter):
    """Closes ``one_pass`` once something is unpacked; ``there``: it was still there then."""

    def __init__(self, one_pass: OnePass | None) -> None:
        super().__init__(io.StringIO())
        self._one_pass = one_pass
        self.there = False

    def progress(self, phase: str, done: int, total: int, unit: str = "") -> None:
        if self._one_pass:
            self._one_pass.close()
            self.there = bool(list(self._one_pass._parent.iterdir()))


def test_a_job_that_cannot_be_done_is_closed(
    node: Node, unpacked: Callable[[], list[str]]
) -> None:
    job = prepared(node)
    unknown = replace(job.basis, facts=replace(job.basis.facts, symvers=None))
    with pytest.raises(ModulusError, match="unknown"):
        carry_out(node, QUIET, replace(job, basis=unknown))
    assert not unpacked()


def prepared(node: Node) -> FromPackage:
    job = prepare(node, QUIET, RELEASE)
    assert isinstance(job, FromPackage)
    return job


def take(job: FromPackage, members: Members, listed: Collection[str], target: Path) -> bool:
    return job.one_pass.take(members, listed, target)


def close(job: FromPackage) -> None:
    job.one_pass.close()


def packed(folder: Path, *names: str, size: int = 0) -> Path:
    """A package of these members."""
    path = folder / "package.tar"
    with tarfile.open(path, "w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO(bytes(size)))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
