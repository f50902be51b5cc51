"""What a build takes: fetched and provisioned at the same time, and in order where it fails."""

from __future__ import annotations

import io
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modulus.core.instance import Instance
from modulus.errors import FetchError, ToolchainError, UnsupportedError
from modulus.host.distribution.headers import Headers
from modulus.host.distribution.provisioner import Provisioner
from modulus.host.report.reporter import PlainReporter, Reporter
from modulus.host.reuse.object_cache import Kept
from modulus.pipeline.build import source, twin
from modulus.pipeline.build.job import FromPackage
from modulus.pipeline.build.prepare import prepare
from modulus.pipeline.node import Node
from modulus.pipeline.site import Site
from tests.support.fakedriver import RELEASE, FakeNode, fake_node
from tests.support.headertrees import write
from tests.support.mirror import Mirror, Resource
from tests.support.quiet import QUIET

PACKAGE = "/gpu-1.0.tar"


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as mirror:
        yield mirror


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: Mirror) -> Iterator[FakeNode]:
    """A node that has neither build nor package yet; the mirror has the package."""
    for node in fake_node(tmp_path, monkeypatch):
        (package,) = (node.cache / "downloads").iterdir()
        mirror.resources[PACKAGE] = Resource(package.read_bytes())
        package.unlink()
        shutil.rmtree(node.cache / "builds")
        node.configure(offline=False)
        node.define(sources=[{"url": mirror.url + "/gpu-{version}.tar", "format": "tar"}])
        yield node


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def node(fake: FakeNode) -> Node:
    site = Site(fake.root, None, (), 0)
    return Node(site, Instance("gpu", "1.0"))


@pytest.fixture
def asked(mirror: Mirror) -> Callable[[], bool]:
    """Whether the package is asked for soon."""

    def wait() -> bool:
        until = time.monotonic() + 10
        while not mirror.requests and time.monotonic() < until:
            time.sleep(0.01)
        return bool(mirror.requests)

    return wait


def test_the_package_is_fetched_while_headers_are_provisioned(
    node: Node, asked: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    provide = Provisioner.headers

    def headers(self: Provisioner, release: str, reporter: Reporter) -> Headers:
        assert asked()
        return provide(self, release, reporter)

    monkeypatch.setattr(Provisioner, "headers", headers)
    job = prepare(node, QUIET, RELEASE)
    assert isinstance(job, FromPackage)
    assert job.package.path.is_file()
    assert job.basis.facts.key


def keep_others(fake: FakeNode) -> None:
    """Objects are kept, but of no use for this driver."""
    fake.define(remake={"harmless": []})
    write(fake.cache / "compiled/another/survey/manifest.json", "{}")


def test_it_is_fetched_beside_that_too_where_objects_are_kept(
    node: Node, fake: FakeNode, asked: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may do, but the package would be fetched late if they do not."""
    keep_others(fake)
    provide = Provisioner.headers

    def headers(self: Provisioner, release: str, reporter: Reporter) -> Headers:
        assert asked()
        return provide(self, release, reporter)

    monkeypatch.setattr(Provisioner, "headers", headers)
    assert isinstance(prepare(node, QUIET, RELEASE), FromPackage)


def test_a_package_at_hand_is_not_looked_at_before_kept_objects(
    node: Node, fake: FakeNode, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_others(fake)
    source.provide(node, QUIET)
    mirror.requests.clear()
    recorded = Provisioner.headers_recorded
    looks: list[str] = []
    # The headers are not known before they are provided.
    monkeypatch.setattr(
        Provisioner,
        "headers_recorded",
        lambda self, release: recorded(self, release) if looks else None,
    )

    def headers(self: Provisioner, release: str, _: Reporter) -> Headers | None:
        looks.append(release)
        return recorded(self, release)

    monkeypatch.setattr(Provisioner, "headers", headers)
    find = twin.find

    def found(*arguments: Any) -> Kept | None:
        looks.append("kept")
        return find(*arguments)

    monkeypatch.setattr(twin, "find", found)
    assert isinstance(prepare(node, QUIET, RELEASE), FromPackage)
    assert looks == [RELEASE, "kept"]
    assert not mirror.requests


@pytest.mark.parametrize("package", ["absent", "stalls"])
def test_the_error_is_the_one_that_comes_first_in_order(
    package: str,
    node: Node,
    fake: FakeNode,
    mirror: Mirror,
    asked: Callable[[], bool],
    said: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever becomes of the download, which is not waited for."""

    def headers(_: Provisioner, release: str, __: Reporter) -> Headers:
        assert asked()
        raise ToolchainError(f"no headers of {release}", "install them")

    if package == "absent":
        del mirror.resources[PACKAGE]
    else:
        mirror.resources[PACKAGE].piece, mirror.resources[PACKAGE].pause = 1000, 0.2
    monkeypatch.setattr(Provisioner, "headers", headers)
    with pytest.raises(ToolchainError, match="no headers"):
        prepare(node, PlainReporter(said), RELEASE)
    assert threading.active_count() <= 3  # this one and the mirror's
    before = said.getvalue()
    time.sleep(0.5)
    assert said.getvalue() == before
    names = [path.name for path in (fake.cache / "downloads").iterdir()]
    assert [name for name in names if not name.startswith(".part-")] == []


def test_a_package_that_cannot_be_had_is_told_once_the_rest_is_there(
    node: Node, mirror: Mirror
) -> None:
    del mirror.resources[PACKAGE]
    with pytest.raises(FetchError, match="404"):
        prepare(node, QUIET, RELEASE)


def test_a_kernel_that_will_not_do_is_refused_before_its_toolchain_is_provided(
    node: Node, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.define(refuses_config=["OBJTOOL"])
    recorded = Provisioner.headers_recorded
    # As where the headers have to be provided first.
    monkeypatch.setattr(Provisioner, "headers_recorded", lambda *_: None)
    monkeypatch.setattr(
        Provisioner, "headers", lambda self, release, _: recorded(self, release)
    )
    monkeypatch.setattr(Provisioner, "toolchain", lambda *_: pytest.fail("it is provided"))
    with pytest.raises(UnsupportedError, match="OBJTOOL"):
        prepare(node, QUIET, RELEASE)
