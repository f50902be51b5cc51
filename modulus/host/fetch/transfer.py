"""Gets one URL or path, once: its bytes into a partial file, or its text."""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from urllib.parse import unquote, urlsplit

from modulus.core.profile.sources import scheme
from modulus.host.fetch.failure import Kind, TransferError
from modulus.host.fetch.http import Client, Response, number
from modulus.host.fetch.partial import (
    HEAD,
    Origin,
    Partial,
    looks_like_html,
    looks_like_package,
)
from modulus.host.files.regular import open_regular
from modulus.host.report.reporter import Reporter
from modulus.redact import redact

_CHUNK = 1 << 20
_TEXT_MAX = 1 << 20


@dataclass(frozen=True)
class Sent:
    """What a server said of the bytes it sent: the coding it has put on them unasked, such as
    gzip, or ""; and whether it called them a page."""

    coding: str = ""
    html: bool = False


class Transfer:
    """Gets files over the network (never if ``offline``) or from the local file system.

    All methods raise TransferError for a fault of the source; an OSError is a fault of the
    file's target.
    """

    def __init__(self, client: Client, reporter: Reporter, *, offline: bool) -> None:
        self._client = client
        self._reporter = reporter
        self._offline = offline

    def into(self, part: Partial, url: str, *, judged: bool) -> Sent:
        """Fills ``part`` with all of ``url``, continuing from what it holds if possible.

        ``judged`` says that a known sha256 will judge the result, whatever is said of it.
        """
        path = local_path(url)
        if path is None:
            return self._download(part, url, judged)
        self._copy(part, path)
        return Sent()

    def text(self, url: str) -> str | None:
        """The small text at ``url``, or None where there is none."""
        path = local_path(url)
        try:
            if path is not None:
                _, chunks = _open_file(path)
                return _text(chunks)
            with self._get(url) as response:
                _refuse_coding(response)
                text = _text(response.chunks())
            return None if looks_like_html(text.encode()) else text
        except TransferError as error:
            # Object stores answer 403 for files they do not have.
            if error.kind is Kind.ABSENT or error.status == 403:
                return None
            raise

    def probe(self, url: str) -> None:
        """Raises TransferError where ``url`` cannot be fetched; reads at most 1 MiB."""
        path = local_path(url)
        if path is not None:
            _open_file(path)
            return
        with self._get(url) as response:
            _refuse_page(response, next(response.chunks(), b""), judged=False)

    @contextlib.contextmanager
    def _get(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[Response]:
        if self._offline:
            hint = "unset `offline`, or add a file:// mirror under `mirrors`"
            raise TransferError(Kind.REFUSED, "not asked for, being offline", hint)
        with self._client.get(url, headers) as response:
            yield response

    def _download(self, part: Partial, url: str, judged: bool) -> Sent:
        shown = redact(url)
        headers: dict[str, str] = {}
        if part.size and part.origin:
            same = part.origin.url == shown
            if judged and part.size == part.origin.size:
                return Sent()  # The last run was killed just before its commit.
            if same and part.origin.etag:
                headers["If-Range"] = part.origin.etag
            if headers or judged:
                headers["Range"] = f"bytes={part.size}-"
        with self._get(url, headers) as response:
            chunks = response.chunks()
            if not judged:
                _refuse_coding(response)
            if response.status == 200:
                # Before anything is lost of what is there.
                head = _head(chunks)
                _refuse_page(response, head, judged=judged)
                chunks = itertools.chain([head], chunks)
                part.restart()
                total = response.length
            elif "Range" in headers and _continues(response, part):
                total = _content_range(response)[1]
            else:
                part.restart()
                raise TransferError(
                    Kind.PASSING,
                    f"{response.status}, not the rest of the file",
                    status=response.status,
                )
            part.describe(Origin(shown, _validator(response), total))
            self._receive(part, chunks, total)
            if total is None and not response.chunked and not judged:
                raise TransferError(
                    Kind.REFUSED,
                    "the server does not say how long the file is, and no checksum does",
                    "put its sha256 under `checksums`",
                    status=response.status,
                )
            return Sent(response.coding, _is_html(response))

    def _copy(self, part: Partial, path: Path) -> None:
        total, chunks = _open_file(path)
        part.restart()
        self._receive(part, chunks, total)

    def _receive(self, part: Partial, chunks: Iterator[bytes], total: int | None) -> None:
        for chunk in chunks:
            part.append(chunk)
            self._reporter.progress("fetch", part.size, total or 0, "B")
        if total is not None and part.size != total:
            size = part.size
            if size > total:
                part.restart()
            raise TransferError(Kind.PASSING, f"ended after {size} of {total} bytes")
        if not part.size:
            raise TransferError(Kind.REFUSED, "the file is empty")


def local_path(url: str) -> Path | None:
    """The file that an absolute path or a file:// URL names, None for any other URL."""
    if url.startswith("/"):
        return Path(url)
    if scheme(url) != "file":
        return None
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        hint = "write file:///folder/file"
        raise TransferError(Kind.REFUSED, "a file URL must name a local file", hint)
    return Path(unquote(parts.path))


def _open_file(path: Path) -> tuple[int, Iterator[bytes]]:
    """The size and the bytes of a regular file."""
    with _reading(path):
        status = path.stat()
        if not S_ISREG(status.st_mode):
            raise TransferError(Kind.REFUSED, "not a regular file", "correct the path")
    return status.st_size, _read_file(path)


def _read_file(path: Path) -> Iterator[bytes]:
    with contextlib.ExitStack() as stack:
        with _reading(path):
            file = stack.enter_context(open_regular(path))
        while True:
            with _reading(path):
                chunk = file.read(_CHUNK)
            if not chunk:
                return
            yield chunk


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        gone = error.errno in (errno.ENOENT, errno.ENOTDIR)
        cause = (error.strerror or "cannot be read").lower()
        raise TransferError(
            Kind.ABSENT if gone else Kind.REFUSED, cause, f"check {path} and what holds it"
        ) from error


def _text(chunks: Iterator[bytes]) -> str:
    text = b""
    for chunk in chunks:
        text += chunk
        if len(text) > _TEXT_MAX:
            raise TransferError(Kind.REFUSED, "too big for a checksum file", "correct the URL")
    return text.decode("utf-8", "replace")


def _head(chunks: Iterator[bytes]) -> bytes:
    """The first bytes of a body: enough to tell a page by."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= HEAD:
            break
    return head


def _refuse_page(response: Response, head: bytes, *, judged: bool) -> None:
    """Raises TransferError for a page that begins with ``head``.

    Servers call packages text/html whose name they do not know. So the bytes decide: here,
    where no hash will (``judged``), by being those of a package.
    """
    unlike = _is_html(response) and not judged and not looks_like_package(head)
    if unlike or looks_like_html(head):
        raise page(response.status)


def _is_html(response: Response) -> bool:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return kind in ("text/html", "application/xhtml+xml")


def _refuse_coding(response: Response) -> None:
    if response.coding:
        raise TransferError(
            Kind.REFUSED,
            f"it comes with Content-Encoding: {response.coding}, which was not asked for",
            "have the mirror send files as they are, or put the sha256 of what it sends under "
            "`checksums`",
            status=response.status,
        )


def page(status: int | None = None) -> TransferError:
    """The error where a page came in place of a file."""
    return TransferError(
        Kind.REFUSED,
        "a page of HTML came, not a driver",
        "a captive portal or a proxy may answer in the server's place: set `proxy`, or log in",
        status=status,
    )


def _validator(response: Response) -> str | None:
    """What If-Range may name: a strong ETag, else the date (RFC 9110, 13.1.5)."""
    etag = response.headers.get("ETag", "")
    if etag.startswith('"'):
        return etag
    return response.headers.get("Last-Modified") or None


def _continues(response: Response, part: Partial) -> bool:
    """Whether ``response`` is a 206 with just the bytes that ``part`` lacks."""
    start, total = _content_range(response)
    origin = part.origin
    if response.status != 206 or origin is None or start != part.size:
        return False
    return total is None or origin.size is None or total == origin.size


def _content_range(response: Response) -> tuple[int | None, int | None]:
    """First byte and whole size of ``Content-Range: bytes 5-9/10``, None where not given."""
    unit, _, value = response.headers.get("Content-Range", "").partition(" ")
    span, _, total = value.partition("/")
    start = span.partition("-")[0]
    if unit.lower() != "bytes" or number(start) is None:
        return None, None
    return number(start), number(total)
