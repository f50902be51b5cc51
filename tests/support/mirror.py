"""A real web server on the loopback that misbehaves on demand."""

from __future__ import annotations

import email.utils
import fcntl
import hashlib
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_PIECE = 1 << 16


@dataclass
class Resource:
    """What one path answers, and how badly.

    ``cuts``: after how many bytes of body the connection ends, request by request; ``reset``
    ends it by RST. ``fail``: how many first requests get ``fail_status``. ``length``: a false
    Content-Length; ``framing`` "length", "chunked" or "close". ``pause``: seconds before each
    ``piece`` of body.
    """

    data: bytes | Path = b""
    content_type: str = "application/octet-stream"
    etag: str | None = "hash"
    modified: float | None = None
    ranges: bool = True
    if_range: bool = True
    cuts: list[int] = field(default_factory=list)
    reset: bool = False
    fail: int = 0
    fail_status: int = 500
    retry_after: str | None = None
    status: int = 200
    location: str | None = None
    encoding: str | None = None
    length: int | None = None
    framing: str = "length"
    pause: float = 0
    piece: int = _PIECE
    answer_delay: float = 0

    @property
    def size(self) -> int:
        return self.data.stat().st_size if isinstance(self.data, Path) else len(self.data)

    def validator(self) -> str | None:
        if self.etag != "hash":
            return self.etag
        data = self.data.read_bytes() if isinstance(self.data, Path) else self.data
        return f'"{hashlib.sha256(data).hexdigest()[:16]}"'


@dataclass(frozen=True)
class Request:
    path: str
    headers: Mapping[str, str]


class Mirror:
    """Serves ``resources`` (by path) until its ``with`` ends; keeps each request it got.

    Also answers what is meant for a proxy (``GET http://host/path``).
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.resources: dict[str, Resource] = {}
        self.requests: list[Request] = []
        mirror = self

        class Handler(_Handler):
            @property
            def mirror(self) -> Mirror:
                return mirror

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.resets = set()
        self._scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # The handshake is done by the thread of the connection.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self._scheme = "https"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    def __enter__(self) -> Mirror:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def serve(self, path: str, data: bytes | Path = b"", **faults: Any) -> str:
        """Puts a resource there and returns its URL."""
        self.resources[path] = Resource(data, **faults)
        return self.url + path

    def serve_checksum(self, path: str) -> str:
        """The right ``.sha256sum`` beside what is served at ``path``."""
        data = self.resources[path].data
        content = data.read_bytes() if isinstance(data, Path) else data
        line = f"{hashlib.sha256(content).hexdigest()}  {path.rpartition('/')[2]}\n"
        return self.serve(f"{path}.sha256sum", line.encode(), content_type="text/plain")

    def reset(self, connection: object) -> None:
        """Has a connection end by RST."""
        self._server.resets.add(connection)

    def count(self, path: str) -> int:
        return sum(request.path == path for request in self.requests)

    def ranges(self, path: str) -> list[str | None]:
        """The Range of each request for ``path``."""
        return [seen.headers.get("Range") for seen in self.requests if seen.path == path]


def _drain(connection: socket.socket) -> None:
    """Waits until the other side has all that was sent, which an RST would throw away."""
    deadline = time.monotonic() + 10
    while fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)) != bytes(4):
        if time.monotonic() > deadline:
            raise TimeoutError("what was sent does not arrive")
        time.sleep(0.001)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    resets: set[object]

    def shutdown_request(self, request: Any) -> None:
        """Ends a connection: with FIN first, or by RST alone."""
        if request in self.resets:
            self.resets.discard(request)
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.close()
        else:
            super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10

    @property
    def mirror(self) -> Mirror:
        raise NotImplementedError

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        headers = {name.title(): value for name, value in self.headers.items()}
        self.mirror.requests.append(Request(path, headers))
        resource = self.mirror.resources.get(path, Resource(status=404))
        time.sleep(resource.answer_delay)
        if resource.fail > 0:
            resource.fail -= 1
            self._short(resource.fail_status, resource)
        elif resource.status != 200:
            self._short(resource.status, resource)
        else:
            self._file(resource, body)

    def _short(self, status: int, resource: Resource) -> None:
        self.send_response(status)
        if resource.retry_after:
            self.send_header("Retry-After", resource.retry_after)
        if resource.location:
            self.send_header("Location", resource.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, resource: Resource, body: bool) -> None:
        validator, start = resource.validator(), 0
        asked = self.headers.get("Range") if resource.ranges else None
        guard = self.headers.get("If-Range")
        if guard and resource.if_range and guard not in (validator, self._date(resource)):
            asked = None
        if asked:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start >= resource.size:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{resource.size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        self.send_response(206 if asked else 200)
        if asked:
            span = f"bytes {start}-{resource.size - 1}/{resource.size}"
            self.send_header("Content-Range", span)
        self.send_header("Content-Type", resource.content_type)
        if validator:
            self.send_header("ETag", validator)
        if date := self._date(resource):
            self.send_header("Last-Modified", date)
        if resource.encoding:
            self.send_header("Content-Encoding", resource.encoding)
        if resource.framing == "length":
            length = resource.size if resource.length is None else resource.length
            self.send_header("Content-Length", str(length - start))
        elif resource.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.close_connection = True
        if resource.length is not None:
            self.close_connection = True
        self.end_headers()
        if body:
            self._body(resource, start)

    def _date(self, resource: Resource) -> str | None:
        modified = resource.modified
        return None if modified is None else email.utils.formatdate(modified, usegmt=True)

    def _body(self, resource: Resource, start: int) -> None:
        data = resource.data.read_bytes() if isinstance(resource.data, Path) else resource.data
        end = len(data)
        cut = resource.cuts.pop(0) if resource.cuts else None
        if cut is not None:
            end = min(end, start + cut)
        for at in range(start, end, resource.piece):
            time.sleep(resource.pause)
            piece = data[at : min(end, at + resource.piece)]
            if resource.framing == "chunked":
                piece = b"%x\r\n%s\r\n" % (len(piece), piece)
            self.wfile.write(piece)
        if cut is not None:
            self.close_connection = True
            if resource.reset:
                _drain(self.connection)
                self.mirror.reset(self.connection)
        elif resource.framing == "chunked":
            self.wfile.write(b"0\r\n\r\n")
