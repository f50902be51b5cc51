from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.modules.in_use import (
    ModuleUse,
    NodeSet,
    Process,
    Users,
    maps_any,
    module_users,
    short_command,
    unload_order,
)
from modulus.core.profile.profile import Profile
from modulus.host.config.load import load_profile
from modulus.host.modules.in_use import users
from modulus.host.process.processes import processes_using
from tests.support.fakesys import FakeSys
from tests.unit.core.profile.test_profile import changed, parse

KEYS = {"build": ["one", "one-top", "one-extra"], "load": ["one", "one-top"]}
NODES = NodeSet(
    numbers=frozenset({(1, 3)}), majors=frozenset({4242}), paths=frozenset({"/dev/one0"})
)


def profile(**keys: Any) -> Profile:
    found, lines = parse(changed(**(KEYS | keys)))
    assert found, lines
    return found


@pytest.fixture
def node(tmp_path: Path) -> FakeSys:
    return FakeSys(tmp_path)


@pytest.mark.parametrize(
    ("unload", "loaded", "order"),
    [
        ([], ["one", "one_top", "other"], ["one_top", "one"]),
        ([], ["one", "one_top", "one_extra"], ["one_extra", "one_top", "one"]),
        (["aid", "one-top", "one"], ["one", "aid", "one_top"], ["aid", "one_top", "one"]),
        (["aid", "one_top"], ["one", "one_top"], ["one_top", "one"]),
        (["aid"], [], []),
    ],
)
def test_the_order_to_unload_in(unload: list[str], loaded: list[str], order: list[str]) -> None:
    assert unload_order(profile(unload=unload), loaded) == tuple(order)


def test_the_shipped_order_has_every_module_that_is_built() -> None:
    shipped = load_profile(Path("/nonexistent"), "nvidia")
    built = {name.replace("-", "_") for name in shipped.build}
    everything = unload_order(shipped, {*built, "gdrdrv", "nvidia_fs", "drm"})
    assert everything[:2] == ("gdrdrv", "nvidia_fs")
    assert everything[-3:] == ("nvidia_drm", "nvidia_modeset", "nvidia")
    assert set(everything) == {*built, "gdrdrv", "nvidia_fs"}


@pytest.mark.parametrize(
    ("uses", "blocking", "references"),
    [
        ({}, (), {}),
        ({"one": ModuleUse(1, ("one_top",)), "one_top": ModuleUse(0)}, (), {}),
        ({"one": ModuleUse(2, ("one_top", "foreign"))}, ("foreign",), {}),
        ({"one": ModuleUse(3, ("one_top",))}, (), {"one": 2}),
        ({"one": ModuleUse(1, ("aid",)), "aid": ModuleUse(0)}, (), {}),
        ({"one": ModuleUse(1, ("aid",)), "aid": ModuleUse(1)}, ("aid",), {}),
    ],
)
def test_modules_in_the_way(
    uses: dict[str, ModuleUse], blocking: tuple[str, ...], references: dict[str, int]
) -> None:
    found = module_users(("aid", "one_top", "one"), ("one", "one-top"), uses)
    assert found == (blocking, references)


TRAINING = Process(4242, "python3 train.py")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Users(), "not in use"),
        (
            Users((TRAINING,), ("gdrdrv",), {"one": 1}),
            "in use by process 4242 (python3 train.py), module gdrdrv",
        ),
        (Users(modules=("a", "b")), "in use by module a, module b"),
        (
            Users(references={"one": 1, "two": 2}),
            "in use: 1 reference to one, 2 references to two",
        ),
        (
            Users(tuple(Process(pid, "x") for pid in range(1, 10))),
            "in use by process 1 (x), process 2 (x), process 3 (x), process 4 (x), "
            "process 5 (x), 4 more processes",
        ),
    ],
)
def test_users_in_a_line(found: Users, text: str) -> None:
    assert found.text == text
    assert found.any == (text != "not in use")


@pytest.mark.parametrize(
    ("cmdline", "comm", "text"),
    [
        ("python3\0train.py\0", "python3", "python3 train.py"),
        ("", "kworker/0:1", "[kworker/0:1]"),
        ("\0\0", None, "[?]"),
        ("a\nb\0\x1b[31m", "a", "a?b ?[31m"),
        ("x" * 100, "x", "x" * 57 + "..."),
    ],
)
def test_a_command_is_one_short_line(cmdline: str, comm: str | None, text: str) -> None:
    assert short_command(cmdline, comm) == text


@given(st.text(max_size=200), st.none() | st.text(max_size=20))
def test_any_command_is_one_short_line(cmdline: str, comm: str | None) -> None:
    text = short_command(cmdline, comm)
    assert 0 < len(text) <= 60
    assert text.isprintable()


MAPS = """\
7f00-7f01 r-xp 00000000 08:01 42                         /opt/drivers/.one/1.0/lib/libone.so.1
7f02-7f03 r--p 00000000 08:01 43                         /usr/lib/libc.so.6
"""


@pytest.mark.parametrize(
    ("folders", "found"),
    [
        (["/opt/drivers/.one"], True),
        (["/opt/drivers/.one/"], True),
        (["/opt/drivers/.on"], False),
        (["/opt/drivers/.two", "/usr/lib"], True),
        ([], False),
    ],
)
def test_maps(folders: list[str], found: bool) -> None:
    assert maps_any(MAPS, folders) == found


def test_who_has_files_open(node: FakeSys) -> None:
    node.process(10, "by path", "/dev/null", "/dev/one0")
    node.process(11, "by path, gone", "/dev/one0 (deleted)")
    node.process(12, "other", "/dev/null", "socket:[1]", "/home/dev/one")
    node.process(13, "maps", maps=MAPS)
    node.process(os.getpid(), "itself", "/dev/one0")
    (node.root / "proc/14").mkdir()
    (node.root / "proc/self").symlink_to(str(os.getpid()))
    found = processes_using(node.root, NODES, ["/opt/drivers/.one"])
    assert [process.pid for process in found] == [10, 11, 13]
    assert processes_using(node.root, NODES)[-1] == Process(11, "by path, gone")
    assert processes_using(node.root / "nothing", NODES) == ()


def test_links_of_another_root_lead_below_it(node: FakeSys) -> None:
    """The running system's /dev/null is 1:3, that of this root is no device."""
    (node.root / "dev").mkdir()
    (node.root / "dev/null").write_text("")
    node.process(10, "x", "/dev/null")
    assert processes_using(node.root, NODES) == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a device node")
def test_a_node_counts_by_its_number(node: FakeSys) -> None:
    (node.root / "dev/sub").mkdir(parents=True)
    try:
        os.mknod(node.root / "dev/zero", 0o20666, os.makedev(1, 3))
        os.mknod(node.root / "dev/sub/one0", 0o20666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("no device nodes can be made here")
    node.process(10, "renamed", "/dev/zero")
    node.process(11, "namesake", "/dev/sub/one0")
    assert [process.pid for process in processes_using(node.root, NODES)] == [10]


def test_the_kernels_own_links_lead_to_the_open_file() -> None:
    """A process of the running system, found by what its descriptor is: /dev/zero, 1:5."""
    nodes = NodeSet(numbers=frozenset({(1, 5)}))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        with open("/dev/zero", "rb"):
            os.write(2, b"") or os.read(read, 1)
        os._exit(0)
    try:
        os.close(read)
        for _ in range(200):
            pids = [process.pid for process in processes_using(Path("/"), nodes)]
            if child in pids:
                break
            os.sched_yield()
        assert child in pids
        assert os.getpid() not in pids
    finally:
        os.close(write)
        os.waitpid(child, 0)


def test_users_of_a_driver(node: FakeSys) -> None:
    node.module("one", 3, "one_top", "foreign")
    node.module("one_top", 0)
    node.module("aid", 1)
    node.process(4242, "python3 train.py", "/dev/one0")
    node.process(4243, "maps", maps=MAPS)
    ours = profile(unload=["aid", "one-top", "one"])
    order = unload_order(ours, ["one", "one_top", "aid"])
    found = users(node.root, ours, order, NODES)
    assert [process.pid for process in found.processes] == [4242, 4243]
    assert found.modules == ("aid", "foreign")
    assert found.references == {"one": 1}
    assert found.text == (
        "in use by process 4242 (python3 train.py), process 4243 (maps), module aid, "
        "module foreign"
    )


def test_a_driver_at_rest_has_no_users(node: FakeSys) -> None:
    node.module("one", 1, "one_top")
    node.module("one_top", 0)
    assert not users(node.root, profile(), ("one_top", "one", "gone"), NODES).any


def test_node_sets_add_up() -> None:
    both = NODES | NodeSet(numbers=frozenset({(226, 0)}), paths=frozenset({"/dev/dri/card0"}))
    assert both.has(1, 3)
    assert both.has(226, 0)
    assert both.has(4242, 7)
    assert not both.has(226, 1)
    assert both.names == {"one0", "card0"}
