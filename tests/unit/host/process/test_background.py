"""Work in a thread beside its owner's: what is said, what is raised, how it ends."""

from __future__ import annotations

import threading
import time

import pytest

from modulus.host.process.background import Aside, SharedReporter


class Heard:
    """A reporter that remembers what it was told, and by how many threads at once."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.counted: list[tuple[str, int]] = []

    def about(self, *, instance: str | None = None, key: str | None = None) -> None:
        self.said.append(f"about {instance} {key}")

    def phase(self, phase: str, text: str) -> None:
        self.said.append(f"{phase}: {text}")

    def progress(self, phase: str, done: int, total: int, unit: str = "") -> None:
        self.counted.append((phase, done))

    def warn(self, text: str) -> None:
        self.said.append(f"warning: {text}")

    def error(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def shared(heard: Heard) -> SharedReporter:
    return SharedReporter(heard)


def test_the_result_comes_from_a_thread(shared: SharedReporter) -> None:
    with Aside(lambda _: threading.get_ident(), shared) as aside:
        aside.start()
        assert aside.result() != threading.get_ident()


def test_what_was_not_started_is_done_when_it_is_asked_for(shared: SharedReporter) -> None:
    with Aside(lambda _: threading.get_ident(), shared) as aside:
        assert aside.result() == threading.get_ident()


def test_what_is_not_asked_for_is_not_done(heard: Heard, shared: SharedReporter) -> None:
    with Aside(lambda aside: aside.reporter.phase("fetch", "begun"), shared):
        pass
    assert heard.said == []


def test_errors_come_where_the_result_is_asked_for(shared: SharedReporter) -> None:
    def fail(_: Aside[None]) -> None:
        raise LookupError("aside")

    with Aside(fail, shared) as aside, pytest.raises(LookupError, match="aside"):
        aside.start()
        aside.result()


def test_the_owners_error_is_the_one_that_counts(shared: SharedReporter) -> None:
    failed = threading.Event()

    def fail(_: Aside[None]) -> None:
        failed.set()
        raise LookupError("aside")

    with pytest.raises(LookupError, match="owner"), Aside(fail, shared) as aside:
        aside.start()
        assert failed.wait(10)
        raise LookupError("owner")


def test_one_progress_at_a_time(heard: Heard, shared: SharedReporter) -> None:
    """The owner's, until it waits for what is done aside."""
    spoken, asked = threading.Event(), threading.Event()

    def work(aside: Aside[None]) -> None:
        aside.reporter.phase("fetch", "begun")
        aside.reporter.progress("fetch", 1, 3, "B")
        spoken.set()
        assert asked.wait(10)
        for done in range(2, 200):
            aside.reporter.progress("fetch", done, 200)
            time.sleep(0.01)
            if heard.counted[-1][0] == "fetch":
                return

    with Aside(work, shared) as aside:
        aside.start()
        assert spoken.wait(10)
        shared.progress("build", 1, 2)
        assert heard.counted == [("build", 1)]
        asked.set()
        aside.result()
    assert heard.said == ["fetch: begun"]
    assert heard.counted[1][0] == "fetch"


@pytest.mark.parametrize("how", ["reports", "sleeps"])
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_what_is_not_wanted_any_more_ends_and_cleans_up(
    kind: type[BaseException], how: str, shared: SharedReporter, heard: Heard
) -> None:
    begun = threading.Event()
    ended: list[str] = []

    def work(aside: Aside[None]) -> None:
        begun.set()
        try:
            while True:
                if how == "sleeps":
                    aside.sleep(3600)
                aside.reporter.progress("fetch", 1, 3)
        except Exception:
            ended.append("as if it had failed")
        finally:
            ended.append("cleaned up")

    with pytest.raises(kind), Aside(work, shared) as aside:
        aside.start()
        assert begun.wait(10)
        raise kind
    assert ended == ["cleaned up"]
    assert heard.counted == []


def test_what_cannot_hear_is_waited_for_only_so_long(shared: SharedReporter) -> None:
    server = threading.Event()
    with Aside(lambda _: server.wait(), shared, patience=0.01) as aside:
        aside.start()
    assert not server.is_set()
    server.set()


def test_each_says_one_thing_at_a_time() -> None:
    inside = threading.Semaphore(1)

    class Slow(Heard):
        def phase(self, phase: str, text: str) -> None:
            assert inside.acquire(blocking=False), "two at once"
            time.sleep(0.0005)
            inside.release()

    shared = SharedReporter(Slow())

    def say(reporter: SharedReporter) -> None:
        for number in range(50):
            reporter.phase("build", str(number))

    with Aside(lambda _: say(shared), shared) as aside:
        aside.start()
        say(shared)
        aside.result()
