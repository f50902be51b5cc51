"""A store is believed only where nobody but root can change what it says."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from modulus.host.files.trust import objection
from modulus.host.report.reporter import PlainReporter
from modulus.pipeline.site import Site
from tests.support.fakedriver import fake_node
from tests.support.headertrees import link, write

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")

STORE = "/srv/modulus"
KEY = f"builds/6.1.0-9-amd64/{'a' * 64}"
READ = (
    f"{KEY}/manifest.json",
    f"{KEY}/gpu.ko.patch",
    f"objects/{'b' * 64}.zst",
    f"downloads/{'c' * 64}",
    "sources/gpu-1.0-x86_64.json",
    f"headers/{'d' * 64}/record.json",
    f"toolchains/{'e' * 64}/record.json",
)

Change = Callable[[Path], object]


def give(path: Path) -> None:
    os.chown(path, 1000, 1000, follow_symlinks=False)


def lend(path: Path) -> None:
    os.chown(path, 0, 100)
    path.chmod(0o775)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a store that is root's alone."""
    for name in READ:
        write(tmp_path / STORE[1:] / name)
    return tmp_path


def test_what_is_roots_alone_is_believed(root: Path) -> None:
    # Below a folder such as /tmp too, in which root's folders stay what they are.
    (root / "srv").chmod(0o1777)
    (root / "srv/modulus").chmod(0o2775)
    link(root / "mnt/store", "../srv/modulus")
    link(root / "store", "/mnt/./store/")
    for path in (STORE, "/mnt/store", "/store", "//srv/../../srv/modulus/"):
        assert objection(root, path) is None


@pytest.mark.parametrize("path", ["", "srv", "srv/modulus"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (give, "it belongs to user 1000"),
        (lambda path: path.chmod(0o777), "anyone may write it"),
        (lend, "group 100 may write it"),
    ],
)
def test_every_folder_on_the_way_has_to_be_roots(
    root: Path, path: str, change: Change, says: str
) -> None:
    link(root / "store", f"{STORE}/../modulus")
    change(root / path)
    for store in (STORE, "/store"):
        assert objection(root, store) == f"/{path}: {says}"


@pytest.mark.parametrize("path", ["builds", f"{Path(KEY).parent}", KEY, *READ])
@pytest.mark.parametrize("change", [give, lambda path: path.chmod(0o666)])
def test_all_that_is_read_has_to_be_roots(root: Path, path: str, change: Change) -> None:
    change(root / STORE[1:] / path)
    assert (objection(root, STORE) or "").startswith(f"{STORE}/{path}: ")


@pytest.mark.parametrize("path", ["builds", KEY, READ[0]])
def test_no_link_leads_elsewhere(root: Path, path: str) -> None:
    place = root / STORE[1:] / path
    place.rename(root / "elsewhere")
    link(place, "/elsewhere")
    assert objection(root, STORE) == f"{STORE}/{path}: it is a link"


def test_a_link_on_the_way_has_to_be_roots(root: Path) -> None:
    link(root / "store", STORE)
    give(root / "store")
    assert objection(root, "/store") == "/store: it belongs to user 1000"


def test_a_link_among_what_anyone_may_make_is_not_followed(root: Path) -> None:
    link(root / "tmp/store", STORE)
    (root / "tmp").chmod(0o1777)
    assert objection(root, "/tmp/store") == (
        "/tmp/store: it is a link in a folder that others may write"
    )


@pytest.mark.parametrize("path", ["tmp", "srv/.."])
def test_the_store_itself_is_not_what_anyone_may_add_to(root: Path, path: str) -> None:
    (root / "tmp").mkdir()
    for folder in (root / "tmp", root):
        folder.chmod(0o1777)
    assert "anyone may write it" in (objection(root, path) or "")


def test_what_is_hidden_or_not_read_does_not_matter(root: Path) -> None:
    for name in ("builds/.new.abcdefgh/x.ko", f"{KEY}/.x", "compiled/x", "bad/x"):
        give(write(root / STORE[1:] / name))
    assert objection(root, STORE) is None


@pytest.mark.parametrize(
    ("path", "number"),
    [("/loop", errno.ELOOP), ("/nowhere", errno.ENOENT), ("/file/x", errno.ENOTDIR)],
)
def test_what_cannot_be_looked_at(root: Path, path: str, number: int) -> None:
    link(root / "loop", "loop")
    write(root / "file")
    with pytest.raises(OSError) as caught:
        objection(root, path)
    assert caught.value.errno == number


@pytest.mark.parametrize("trusted", [False, True])
def test_a_store_that_others_may_change_is_used_only_if_that_is_said(
    root: Path, trusted: bool
) -> None:
    give(root / STORE[1:] / READ[0])
    said = io.StringIO()
    stores = f"stores=[{{path: {STORE}, trusted: {str(trusted).lower()}}}, /nowhere, /loop]"
    link(root / "loop", "loop")
    site = Site(root, None, (stores,), 0)
    for _ in range(2):
        assert site.stores == ((root / STORE[1:],) if trusted else ())
    assert said.getvalue() == ""
    site.tell_store_problems(PlainReporter(said))
    lines = said.getvalue().splitlines()
    assert [line.partition(", since")[0] for line in lines] == [
        *(() if trusted else (f"the store {STORE} is not used",)),
        "the store /loop is not used: Too many levels of symbolic links; correct the path, or "
        "mount what belongs there",
    ]
    assert trusted or f"{READ[0]}: it belongs to user 1000" in lines[0]


def test_a_node_does_without_such_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for node in fake_node(tmp_path, monkeypatch):
        store = node.root / STORE[1:]
        shutil.copytree(node.cache, store)
        node.configure(stores=[STORE])
        assert node.run("up", "gpu-1.0") == 0
        # Nobody has a forged module loaded by what he puts there.
        give(next(store.glob("builds/*/*/manifest.json")))
        node.forget_builds()
        node.reboot()
        capsys.readouterr()
        # A warm start looks at no store.
        assert node.run("up", "gpu-1.0") == 0
        assert "is not used" not in capsys.readouterr().err
        assert node.run("build", "gpu-1.0") == 13
        said = capsys.readouterr().err
        assert said.count(f"the store {STORE} is not used") == 1
        assert "offline is set" in said
        for words in (
            "plan gpu-1.0",
            "up gpu-1.0 --no-load",
            "cache list",
            "cache verify",
            "cache gc",
            "status",
            "verify",
            "verify gpu-1.0",
        ):
            node.run(*words.split())
            assert capsys.readouterr().err.count(f"the store {STORE} is not used") == 1, words
        node.configure(stores=[{"path": STORE, "trusted": True}])
        assert node.run("build", "gpu-1.0") == 0
        assert capsys.readouterr().out.startswith("hit: ")


def test_what_goes_while_it_is_looked_at_makes_no_store_go(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a build of the store's is collected just now; what stays is still looked at."""
    opened = os.open
    give(root / STORE[1:] / READ[-1])

    def collecting(name: str, flags: int, *more: object, dir_fd: int | None = None) -> int:
        if name == "a" * 64:
            shutil.rmtree(root / STORE[1:] / KEY)
        return opened(name, flags, *more, dir_fd=dir_fd)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", collecting)
        found = objection(root, STORE)
    assert not (root / STORE[1:] / KEY).exists()
    assert found and "belongs to user 1000" in found
