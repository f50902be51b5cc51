"""Whatever a file of ours holds, who reads it goes on or says why not, in the errors we have.

Each reader is given what is damaged at random, and each kind of file that is none. Another
exception than ours, a wait without end, or memory for what a file only says of itself fails.
"""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from modulus.errors import ModulusError
from tests.support.damage import Reader, damaged, in_time
from tests.support.readers import cache, instance, system

READERS = (*instance.READERS, *cache.READERS, *system.READERS)
IDS = [reader.name for reader in READERS]


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
