"""Why a transfer failed and whether that may pass, read off what the libraries raise."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import re
import socket
import ssl
from collections.abc import Iterator
from enum import IntEnum


class Kind(IntEnum):
    """What a failure means, the most telling first."""

    INTEGRITY = 0
    """Not the right bytes, or nothing to tell by."""
    REFUSED = 1
    """Will not pass by itself."""
    CLOCK = 2
    """A certificate from the future: the clock is not set yet."""
    UNREACHABLE = 3
    """No network: no name service or no route."""
    PASSING = 4
    """Worth another try."""
    ABSENT = 5
    """The server has no such file."""


class TransferError(Exception):
    """Why a transfer failed: one line of cause and one of what to do next."""

    def __init__(
        self,
        kind: Kind,
        cause: str,
        hint: str = "try again later, or add a mirror under `mirrors`",
        *,
        status: int | None = None,
        retry_after: float = 0,
    ) -> None:
        super().__init__(cause)
        self.kind = kind
        self.cause = cause
        self.hint = hint
        self.status = status
        self.retry_after = retry_after


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Turns whatever requests, urllib3, http.client and ssl raise into a TransferError.

    requests wraps errors before the body. While the body is read, errors of urllib3 and of
    the libraries below it come through. All of requests' errors are OSErrors.
    """
    import urllib3.exceptions

    try:
        yield
    except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError) as error:
        raise _explain(error, list(_chain(error))) from error


_NO_ROUTE = (errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL)
_NOT_YET_VALID = 9  # X509_V_ERR_CERT_NOT_YET_VALID of openssl's x509_vfy.h
_NETWORK = "check the node's network, its name service and `proxy`"
_TUNNEL = re.compile(r"Tunnel connection failed: ((\d)\d+[ \w]*)")


def _explain(error: BaseException, chain: list[BaseException]) -> TransferError:
    """Reads the cause off the chain: the outer errors' texts name URLs with passwords."""
    from urllib3.exceptions import TimeoutError as PoolTimeoutError

    for link in chain:
        if isinstance(link, ssl.CertificateError) or type(link).__name__ == "CertificateError":
            return _explain_certificate(link)
        if isinstance(link, socket.gaierror):
            cause = f"name not resolved ({link.strerror})"
            # "No such name" is an answer of the name service, so there is one.
            unknown = link.errno == socket.EAI_NONAME
            return TransferError(Kind.PASSING if unknown else Kind.UNREACHABLE, cause, _NETWORK)
        if match := _TUNNEL.search(str(link)):
            kind = Kind.PASSING if match[2] == "5" else Kind.REFUSED
            hint = "check `proxy`, its user and its password"
            return TransferError(kind, f"the proxy refused: {match[1].strip()}", hint)
    system = [link for link in chain if isinstance(link, OSError) and link.errno]
    for link in system:
        if link.errno in _NO_ROUTE:
            return TransferError(Kind.UNREACHABLE, _text(link), _NETWORK)
    if any(isinstance(link, TimeoutError | PoolTimeoutError) for link in chain):
        # urllib3 1.26 derives NewConnectionError from a timeout, which it is not.
        refused = next((link for link in system if isinstance(link, ConnectionError)), None)
        cause = _text(refused) if refused else "timed out"
        return TransferError(Kind.PASSING, cause, _NETWORK)
    broken = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
    if any(isinstance(link, broken) for link in chain):
        named = (_text(link) for link in system if isinstance(link, ConnectionError))
        return TransferError(Kind.PASSING, next(named, "connection broken"))
    for link in chain:
        if isinstance(link, ssl.SSLError):
            hint = "check the URL: its server may not speak TLS there"
            return TransferError(Kind.REFUSED, f"TLS failed ({link.reason})", hint)
    if isinstance(error, ValueError):
        return TransferError(Kind.REFUSED, "the URL or `proxy` is malformed", "correct it")
    return TransferError(Kind.PASSING, "connection broken")


def _explain_certificate(error: BaseException) -> TransferError:
    cause = f"certificate: {getattr(error, 'verify_message', '') or 'not for this host'}"
    if getattr(error, "verify_code", 0) == _NOT_YET_VALID:
        return TransferError(Kind.CLOCK, cause, "set the node's clock")
    hint = "set `ca_bundle` to the CA that signs the server's or proxy's certificate"
    return TransferError(Kind.REFUSED, cause, hint)


def _text(error: OSError) -> str:
    return (error.strerror or os.strerror(error.errno or 0)).lower()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and all that it wraps or was raised from, each once, outermost first."""
    seen: set[int] = set()
    todo: list[object] = [error]
    while todo:
        link = todo.pop(0)
        if isinstance(link, BaseException) and id(link) not in seen:
            seen.add(id(link))
            yield link
            reason = getattr(link, "reason", None)
            todo += [link.__cause__, link.__context__, reason, *link.args]
