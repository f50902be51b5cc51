"""TLS, proxies and redirects; passwords are never shown."""

from __future__ import annotations

import gc
import re
from pathlib import Path
from typing import Any

import pytest

from modulus.errors import ConfigError, FetchError, IntegrityError
from modulus.host.fetch.http import ClientOptions
from tests.support.certificate import make_certificate
from tests.support.mirror import Mirror
from tests.unit.host.fetch.conftest import DATA, RUN, URLLIB3, Bench, Resolver, trusting

pytestmark = URLLIB3


def test_a_certificate_of_nobody_is_refused(bench: Bench, secure: Mirror) -> None:
    error = bench.fails(secure.serve(RUN, DATA), network_wait=3600)
    assert isinstance(error, FetchError)
    assert "certificate: self" in error.message
    assert "`ca_bundle`" in error.hint
    assert bench.slept == []


def test_the_settings_ca_bundle_wins_over_the_environments(
    bench: Bench,
    secure: Mirror,
    certificate: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    bench.fetch(secure.serve(RUN, DATA), options=trusting(certificate))


def test_a_name_the_certificate_is_not_for(
    bench: Bench, secure: Mirror, certificate: Path, resolver: Resolver
) -> None:
    resolver(0, 0)
    url = f"https://a.example.com:{secure.port}{RUN}"
    error = bench.fails(url, options=trusting(certificate))
    assert re.search(r"certificate: (Hostname mismatch|not for this host)", error.message)


def test_a_missing_ca_bundle_is_a_wrong_setting(bench: Bench, tmp_path: Path) -> None:
    options = ClientOptions(ca_bundle=str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match="does not exist"):
        bench.fetcher(options=options)


def test_a_certificate_from_the_future_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    future = make_certificate(tmp_path / "future", "20980101000000Z")
    with Mirror(future) as server:
        url = server.serve(RUN, DATA)
        error = bench.fails(url, options=trusting(future), network_wait=60)
    assert isinstance(error, FetchError)
    assert "certificate: certificate is not yet valid" in error.message
    assert error.hint == "set the node's clock"
    assert sum(bench.slept) >= 60


def test_tls_where_there_is_none(bench: Bench, mirror: Mirror) -> None:
    mirror.serve(RUN, DATA)
    error = bench.fails(mirror.url.replace("http:", "https:") + RUN)
    assert "TLS failed" in error.message
    assert bench.slept == []


def test_a_redirect_from_https_to_http_is_refused(
    bench: Bench, secure: Mirror, mirror: Mirror, certificate: Path
) -> None:
    target = mirror.serve(RUN, DATA)
    url = secure.serve(RUN, status=302, location=target.replace("//", "//user:secret@"))
    error = bench.fails(url, options=trusting(certificate))
    assert "redirected from https to plain http" in error.message
    assert "secret" not in error.message
    assert mirror.requests == []


@pytest.mark.parametrize("target", ["/a", "ftp://127.0.0.1/x", "file:///etc/hostname", "//[x"])
def test_a_redirect_that_leads_nowhere(bench: Bench, mirror: Mirror, target: str) -> None:
    error = bench.fails(mirror.serve("/a", status=302, location=target))
    assert isinstance(error, FetchError)
    assert len(mirror.requests) <= 10


@pytest.mark.parametrize("way", ["settings", "environment"])
def test_a_proxy_is_used(
    bench: Bench, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    mirror.serve(RUN, DATA)
    proxy = mirror.url if way == "settings" else None
    if not proxy:
        monkeypatch.setenv("http_proxy", mirror.url)
    assert bench.fetch("http://a.example.com/d.run", options=ClientOptions(proxy=proxy))


def test_no_proxy_is_heeded(
    bench: Bench, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    bench.fetch(mirror.serve(RUN, DATA), options=ClientOptions(proxy="http://127.0.0.1:9"))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_proxy_that_refuses(bench: Bench, mirror: Mirror) -> None:
    """It is asked to CONNECT, which this server does not know."""
    proxy = mirror.url.replace("//", "//user:secret@")
    error = bench.fails("https://a.example.com/d.run", options=ClientOptions(proxy=proxy))
    assert isinstance(error, FetchError)
    assert "the proxy refused: 501" in error.message
    assert "secret" not in error.message + error.hint + bench.reporter.text
    # http.client of Python 3.11 leaves the proxy's connection to the garbage collector.
    del error
    gc.collect()


@pytest.mark.parametrize(
    "more", [{}, {"known": None}, {"known": None, "allow_unverified": True}]
)
def test_passwords_and_tokens_are_never_shown(
    bench: Bench, mirror: Mirror, more: dict[str, Any]
) -> None:
    mirror.serve("/a", fail=1, status=403)
    mirror.serve(RUN, DATA, cuts=[700_000], fail=1)
    host = mirror.url.replace("//", "//user:secret@")
    shown = repr(bench.fails(f"{host}/a?token=secret", known=None).args) + bench.reporter.text
    shown += bench.fails("http://user:secret@:1/x", "http://user:secret@[::1]:x/").message
    with Recorded(bench, shown) as recorded:
        recorded.shown += repr(bench.fetch(f"{host}{RUN}?token=secret", **more))
    assert mirror.requests[-1].headers["Authorization"]


class Recorded:
    """Checks all that was said while its ``with`` lasted, and in an error that ended it."""

    def __init__(self, bench: Bench, shown: str) -> None:
        self.bench = bench
        self.shown = shown

    def __enter__(self) -> Recorded:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        said = self.shown + repr(error) + self.bench.reporter.text
        for path in self.bench.downloads.glob(".part-*.json"):
            said += path.read_text()
        assert "secret" not in said
        return isinstance(error, IntegrityError)
