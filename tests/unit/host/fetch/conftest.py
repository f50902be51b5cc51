"""What downloads are tried with: a fetcher whose time is told, and servers on the loopback."""

from __future__ import annotations

import hashlib
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modulus.core.profile.sources import Candidate
from modulus.errors import ModulusError
from modulus.host.fetch.fetcher import Download, Fetcher
from modulus.host.fetch.http import ClientOptions
from modulus.host.fetch.retry import Pace
from tests.support.certificate import make_certificate
from tests.support.mirror import Mirror

# The distribution's requests on a newer urllib3, which type stubs bring along, says this.
URLLIB3 = pytest.mark.filterwarnings("ignore:The 'strict' parameter:FutureWarning")

DATA = b"#!/bin/sh\n" + random.Random(1).randbytes(3_000_000)
SHA = hashlib.sha256(DATA).hexdigest()
RUN = "/d.run"


class Recorder:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[tuple[str, int, int, str]] = []

    def about(self, *, instance: str | None = None, key: str | None = None) -> None:
        pass

    def phase(self, phase: str, text: str) -> None:
        self.lines.append(f"{phase}: {text}")

    def progress(self, phase: str, done: int, total: int, unit: str = "") -> None:
        self.steps.append((phase, done, total, unit))

    def warn(self, text: str) -> None:
        self.lines.append(f"warning: {text}")

    def error(self, text: str) -> None:
        self.lines.append(f"error: {text}")

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class Bench:
    """A fetcher's surroundings: its folder, its reporter, and time that passes as it sleeps."""

    def __init__(self, folder: Path) -> None:
        self.downloads = folder / "downloads"
        self.reporter = Recorder()
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def fetcher(self, *, options: ClientOptions | None = None, **more: Any) -> Fetcher:
        pace = Pace(tries=3, sleep=self.sleep, clock=lambda: sum(self.slept))
        more = {"pace": pace, **more}
        return Fetcher(options or ClientOptions(), self.downloads, self.reporter, **more)

    def fetch(
        self,
        *places: str | Candidate,
        known: str | None = SHA,
        options: ClientOptions | None = None,
        **more: Any,
    ) -> Download:
        found = [
            place if isinstance(place, Candidate) else Candidate(place, "run", None, False)
            for place in places
        ]
        return self.fetcher(options=options, **more).fetch(found, known, "profile")

    def fails(self, *places: str | Candidate, **more: Any) -> ModulusError:
        """The error it ends in, cause and hint of one line each."""
        with pytest.raises(ModulusError) as caught:
            self.fetch(*places, **more)
        assert "\n" not in caught.value.message + caught.value.hint
        return caught.value

    def left(self) -> list[str]:
        return sorted(path.name for path in self.downloads.iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as running:
        yield running


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls") / "now")


@pytest.fixture
def secure(certificate: Path) -> Iterator[Mirror]:
    with Mirror(certificate) as running:
        yield running


def trusting(certificate: Path) -> ClientOptions:
    return ClientOptions(ca_bundle=str(certificate))


def trusted(url: str) -> Candidate:
    return Candidate(url, "run", None, True)


Resolver = Callable[[int, int], list[str]]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], list[str]]:
    """Makes the name service fail with a code so often, and then answer 127.0.0.1."""

    def install(code: int, times: int) -> list[str]:
        asked: list[str] = []
        real = socket.getaddrinfo

        def fake(host: str, *rest: Any, **more: Any) -> Any:
            if not host.endswith(".example.com"):
                return real(host, *rest, **more)
            asked.append(host)
            if len(asked) <= times:
                raise socket.gaierror(code, "Temporary failure in name resolution")
            return real("127.0.0.1", *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", fake)
        return asked

    return install
