"""Asks web servers for files; the only module that imports ``requests``.

Bodies come as the bytes on the wire, whatever their Content-Encoding. The module works with
requests 2.28 (Debian 12) on urllib3 1.26 and with the newest on urllib3 2; the two report a
broken connection differently.
"""

from __future__ import annotations

import contextlib
import email.utils
import functools
import http.client
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urljoin, urlsplit

from modulus import __version__
from modulus.core.profile.sources import scheme
from modulus.errors import ConfigError
from modulus.host.fetch.failure import Kind, TransferError, failures
from modulus.redact import redact

_CHUNK = 1 << 20
_REDIRECTS = 10
_MOST_DIGITS = 18


@dataclass(frozen=True)
class ClientOptions:
    """How to reach the network; times in seconds.

    A transfer that brings less than 1 KiB/s over ``slow_timeout`` counts as broken.
    """

    proxy: str | None = None
    ca_bundle: str | None = None
    connect_timeout: float = 10
    read_timeout: float = 60
    slow_timeout: float = 60


class Response:
    """The answer to one request; its body is not read yet."""

    def __init__(self, answer: Any, slow_timeout: float) -> None:
        self._answer = answer
        self._slow_timeout = slow_timeout
        self.status: int = answer.status_code
        self.headers: Mapping[str, str] = answer.headers
        length = self.headers.get("Content-Length", "")
        coding = self.headers.get("Content-Encoding", "").strip().lower()
        self.coding = "" if coding == "identity" else coding
        self.chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        self.length = None if self.chunked else number(length)

    def chunks(self) -> Iterator[bytes]:
        """The body's bytes as they come, at most 1 MiB at once; TransferError on a break.

        A body may end before ``length``; the caller checks that.
        """
        raw = self._answer.raw
        # read1 gives what is there; read would lose the bytes before a break, and would not
        # return from a trickle. urllib3 1.26 has no read1, but http.client below it has.
        options = {"decode_content": False} if hasattr(raw, "read1") else {}
        read1 = raw.read1 if options else raw._fp.read1
        left, since, got = self.length, time.monotonic(), 0
        while left is None or left > 0:
            with failures():
                chunk: bytes = read1(_CHUNK if left is None else min(_CHUNK, left), **options)
            if not chunk:
                return
            left = None if left is None else left - len(chunk)
            got += len(chunk)
            yield chunk
            spent = time.monotonic() - since
            if spent >= self._slow_timeout:
                if got < 1024 * spent:
                    raise TransferError(Kind.PASSING, f"only {got} bytes in {spent:.0f} s")
                since, got = time.monotonic(), 0


class Client:
    """Keeps connections, proxy and certificates for several requests."""

    def __init__(self, options: ClientOptions) -> None:
        if options.ca_bundle and not os.path.exists(options.ca_bundle):
            raise ConfigError(
                f"ca_bundle: {options.ca_bundle} does not exist", "correct `ca_bundle`"
            )
        self._options = options

    @functools.cached_property
    def _session(self) -> Any:
        session = _requests().Session()
        # ``get`` follows redirects: requests would read their bodies whole, however long.
        session.get_redirect_target = lambda _: None
        return session

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if session := self.__dict__.pop("_session", None):
            session.close()

    @contextlib.contextmanager
    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[Response]:
        """GETs ``url``, following redirects but never from https to http.

        Yields answers of 200, 206 and 416; all others raise TransferError.
        """
        secure = False
        for _ in range(_REDIRECTS):
            if scheme(url) not in ("http", "https"):
                raise TransferError(
                    Kind.REFUSED, "not an http, https or file URL", "correct the URL"
                )
            if secure and scheme(url) == "http":
                raise TransferError(
                    Kind.REFUSED,
                    f"redirected from https to plain http ({redact(url)})",
                    "use a mirror that stays on https",
                )
            secure = scheme(url) == "https"
            with failures():
                answer = self._ask(url, headers or {})
            try:
                target = answer.headers.get("Location")
                if not answer.is_redirect:
                    _check(answer)
                    yield Response(answer, self._options.slow_timeout)
                    return
            finally:
                answer.close()
            # Header bytes come as Latin-1; some servers send UTF-8.
            url = _redirected(url, target.encode("latin-1").decode("utf-8", "replace"))
        raise TransferError(Kind.REFUSED, "redirected in circles", "use another mirror")

    def _ask(self, url: str, headers: Mapping[str, str]) -> Any:
        utils = _requests().utils
        proxy = self._options.proxy
        direct = proxy is None or utils.should_bypass_proxies(url, no_proxy=None)
        return self._session.get(
            url,
            headers={
                "User-Agent": f"modulus/{__version__}",
                # A compressed body has another hash than the file.
                "Accept-Encoding": "identity",
                **headers,
            },
            # Both are set here: on the session, the environment would win over them.
            proxies={} if direct else {"http": proxy, "https": proxy},
            verify=self._options.ca_bundle,
            timeout=(self._options.connect_timeout, self._options.read_timeout),
            stream=True,
            allow_redirects=False,
        )


def _requests() -> Any:
    with warnings.catch_warnings():
        # requests warns of unknown versions of urllib3; all have what is used here.
        warnings.simplefilter("ignore")
        import requests
    return requests


def _redirected(url: str, target: str) -> str:
    """Where ``target`` leads from ``url``; user and password go along to the same host only."""
    try:
        old, new = urlsplit(url), urlsplit(urljoin(url, target))
    except ValueError:
        raise TransferError(
            Kind.REFUSED, "redirected to what is no URL", "use another mirror"
        ) from None
    user, at, host = old.netloc.rpartition("@")
    if at and (old.scheme, host) == (new.scheme, new.netloc):
        new = new._replace(netloc=f"{user}@{host}")
    return new.geturl()


def _check(answer: Any) -> None:
    status = answer.status_code
    if status in (200, 206, 416):
        return
    cause = f"{status} {http.client.responses.get(status, '')}".strip()
    if status in (404, 410):
        hint = "check the version, or add a mirror that has it under `mirrors`"
        raise TransferError(Kind.ABSENT, cause, hint, status=status)
    if status in (408, 425, 429) or status >= 500:
        wait = _retry_after(answer.headers.get("Retry-After", ""))
        raise TransferError(Kind.PASSING, cause, status=status, retry_after=wait)
    hint = "check user, password and proxy" if status in (401, 403, 407) else "check the URL"
    raise TransferError(Kind.REFUSED, cause, hint, status=status)


def number(text: str) -> int | None:
    """The number that a header spells in decimal digits; None for anything else, and for one
    that no file or pause is as large as."""
    plain = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return int(text) if plain else None


def _retry_after(value: str) -> float:
    """The seconds that a Retry-After asks for; it holds seconds or a date (RFC 9110)."""
    seconds = number(value.strip())
    if seconds is not None:
        return float(seconds)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0
