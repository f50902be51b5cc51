"""Brings a driver's package into ``downloads/`` from the first place that has it.

A file counts as whole and right only once its hash matches. Failures that may pass are tried
again, and a broken transfer continues where it stopped, in this process or in the next.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modulus.core.profile.sources import Candidate, beside, counts, filename, sha256_for
from modulus.errors import FetchError, IntegrityError, ModulusError
from modulus.host.fetch.failure import Kind, TransferError
from modulus.host.fetch.http import Client, ClientOptions
from modulus.host.fetch.partial import Partial, held
from modulus.host.fetch.retry import Pace
from modulus.host.fetch.transfer import Transfer, local_path, page
from modulus.host.files.digest import hash_file
from modulus.host.files.full_disk import is_full
from modulus.host.files.regular import open_regular
from modulus.host.report.notify import ask_for_time
from modulus.host.report.reporter import Reporter
from modulus.redact import redact

UNVERIFIED = "nothing (allow_unverified)"
"""Who vouches for a download that was taken as it came."""


@dataclass(frozen=True)
class Checksum:
    """What a file's sha256 must be, and who says so: "settings", "profile" or a URL."""

    sha256: str
    origin: str


@dataclass(frozen=True)
class Download:
    """A file that is there, whole and right.

    ``size`` is in bytes. ``url`` is redacted, or the path of a file that was there before.
    """

    path: Path
    sha256: str
    size: int
    url: str
    format: str
    verified_by: str


class Fetcher:
    """Fetches into ``downloads``; finished files there and in ``stores`` need no network.

    ``network_wait`` is how many seconds to wait out a missing network (no name service, no
    route) and certificates from the future (the clock is not set). ``lock_timeout`` is how
    many seconds to wait for another process that fetches the same file, None for ever.
    """

    def __init__(
        self,
        options: ClientOptions,
        downloads: Path,
        reporter: Reporter,
        *,
        stores: Sequence[Path] = (),
        offline: bool = False,
        allow_unverified: bool = False,
        network_wait: float = 0,
        lock_timeout: float | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._client = Client(options)
        self._transfer = Transfer(self._client, reporter, offline=offline)
        self._downloads = downloads
        self._reporter = reporter
        self._stores = tuple(stores)
        self._allow_unverified = allow_unverified
        self._network_wait = network_wait
        self._lock_timeout = lock_timeout
        self._pace = pace or Pace()

    def fetch(
        self,
        candidates: Sequence[Candidate],
        known: str | None,
        known_origin: str,
    ) -> Download:
        """The file, from the first of ``candidates`` that has it with the right hash.

        ``known`` is its sha256 if the settings or the profile (``known_origin``) have it; else
        the one beside the file must count. Raises FetchError, LockedError, and IntegrityError
        where a place had other bytes or no checksum for them.
        """
        checksum = Checksum(known.lower(), known_origin) if known else None
        try:
            if checksum and (path := self._stored(checksum.sha256)):
                return _finished(path, checksum, candidates)
            with self._client:
                return self._from_any(candidates, checksum)
        except OSError as error:
            raise self._unusable(error) from error

    def _from_any(self, candidates: Sequence[Candidate], known: Checksum | None) -> Download:
        """Tries the places in order, and those that were out of reach again."""
        failures: dict[Candidate, TransferError] = {}
        until = self._pace.clock() + self._network_wait
        todo, rounds = list(candidates), 0
        while todo:
            for candidate in todo:
                result = self._attempt(candidate, known)
                if isinstance(result, Download):
                    return result
                failures[candidate] = result
            rounds += 1
            todo = [
                candidate
                for candidate, failure in failures.items()
                if failure.kind in (Kind.UNREACHABLE, Kind.CLOCK)
            ]
            # If one place has answered, there is a network, and the others are just wrong.
            answered = any(failure.status for failure in failures.values())
            clock = any(failure.kind is Kind.CLOCK for failure in failures.values())
            waits = (clock or not answered) and self._pace.clock() < until
            if rounds >= self._pace.tries and not waits:
                break
            if todo and waits and rounds == 1:
                ask_for_time(self._network_wait)
            if todo:
                self._pace.pause(rounds, failures[todo[0]], self._reporter)
        raise _all_failed(failures)

    def _attempt(
        self, candidate: Candidate, known: Checksum | None
    ) -> Download | TransferError:
        try:
            return self._from(candidate, known)
        except TransferError as error:
            text = f"{redact(candidate.url)}: {error.cause}"
            if error.kind is Kind.INTEGRITY:
                self._reporter.warn(text)
            else:
                self._reporter.phase("fetch", text)
            return error

    def _from(self, candidate: Candidate, known: Checksum | None) -> Download:
        checksum = known or self._beside(candidate)
        shown = redact(candidate.url)
        ident = checksum.sha256 if checksum else hashlib.sha256(shown.encode()).hexdigest()
        with held(
            self._downloads,
            ident,
            f"the download of {filename(candidate.url)}",
            self._reporter,
            self._lock_timeout,
            resume=checksum is not None,
        ) as part:
            if checksum and (path := self._stored(checksum.sha256)):
                part.discard()
                return _finished(path, checksum, [candidate])
            self._reporter.phase("fetch", shown)
            try:
                self._complete(part, candidate, checksum)
                digest, size, path = part.sha256, part.size, part.commit()
            except OSError as error:
                if is_full(error):
                    part.discard()
                raise
        by = checksum.origin if checksum else UNVERIFIED
        return Download(path, digest, size, shown, candidate.format, by)

    def _complete(self, part: Partial, candidate: Candidate, checksum: Checksum | None) -> None:
        """Fills ``part`` with the whole file, or raises TransferError."""
        for once_more in (True, False):
            sent = self._pace.again(
                lambda: self._transfer.into(part, candidate.url, judged=checksum is not None),
                self._reporter,
                lambda: part.size,
            )
            if checksum is None or part.sha256 == checksum.sha256:
                return
            digest, pieced = part.sha256, part.pieced
            part.restart()
            if not (pieced and once_more):
                if sent.html:
                    raise page(200)
                raise _wrong(digest, sent.coding, checksum, candidate)
            self._reporter.phase("fetch", "the pieces do not fit; again from the start")

    def _beside(self, candidate: Candidate) -> Checksum | None:
        """The checksum beside the file; None without one under ``allow_unverified``."""
        url = candidate.checksum_url or beside(candidate.url)
        shown, name = redact(url), filename(candidate.url)
        text = self._pace.again(lambda: self._transfer.text(url), self._reporter)
        digest = sha256_for(text, name) if text else None
        if digest and counts(url, candidate.trusted):
            return Checksum(digest, shown)
        # Only a file that is there can lack a checksum.
        self._pace.again(lambda: self._transfer.probe(candidate.url), self._reporter)
        hint = f"put the sha256 of {name} under `checksums`"
        if digest:
            cause = (
                f"{shown} does not count: it came over plain http, not from a trusted mirror"
            )
            hint += ", or mark the mirror `trusted` if you trust the network up to it"
        elif text:
            cause = f"{shown} does not give one sha256 for {name}"
        else:
            cause = f"no checksum in the settings, in the profile, or at {shown}"
        if not self._allow_unverified:
            status = None if local_path(candidate.url) else 200
            raise TransferError(Kind.INTEGRITY, cause, hint, status=status)
        self._reporter.warn(f"{name} is used unverified (allow_unverified): {cause}")
        return None

    def _stored(self, sha256: str) -> Path | None:
        """A finished download of that hash, checked now; a bad one of ours is removed."""
        for folder in (self._downloads, *(store / "downloads" for store in self._stores)):
            path = folder / sha256
            try:
                if not path.is_file():
                    continue
                if hash_file(path) == sha256:
                    return path
            except OSError as error:
                self._reporter.warn(f"{path}: {error.strerror}")
                continue
            self._reporter.warn(f"{path} is damaged and not used")
            if folder is self._downloads:
                path.unlink()
        return None

    def _unusable(self, error: OSError) -> ModulusError:
        folder, reason = self._downloads, (error.strerror or str(error)).lower()
        if not is_full(error):
            return FetchError(f"{folder} cannot be used: {reason}", f"check {folder}")
        here = next((path for path in (folder, *folder.parents) if path.exists()), folder)
        status = os.statvfs(here)
        free = status.f_bavail * status.f_frsize / 1e6
        return FetchError(
            f"no room for the download in {folder}: {reason}",
            f"{free:.0f} MB are free there; make room, such as by `modulus cache gc`",
        )


def _finished(path: Path, checksum: Checksum, candidates: Sequence[Candidate]) -> Download:
    """A download that is there already; its source is not recorded."""
    formats = {candidate.format for candidate in candidates}
    kind = formats.pop() if len(formats) == 1 else _format(path)
    size = path.stat().st_size
    return Download(path, checksum.sha256, size, str(path), kind, checksum.origin)


def _wrong(digest: str, coding: str, checksum: Checksum, candidate: Candidate) -> TransferError:
    """The error where a file is not what ``checksum`` says; ``coding`` may be the reason."""
    hint = "do not use that file; if it was replaced on purpose, correct the checksum"
    return TransferError(
        Kind.INTEGRITY,
        f"its sha256 is {digest}{f' with Content-Encoding: {coding}' if coding else ''}, but "
        f"{checksum.origin} says {checksum.sha256}",
        "have the mirror send files as they are" if coding else hint,
        status=None if local_path(candidate.url) else 200,
    )


def _format(path: Path) -> str:
    with open_regular(path) as file:
        return "run" if file.read(2) == b"#!" else "tar"


def _all_failed(failures: dict[Candidate, TransferError]) -> ModulusError:
    if not failures:
        return FetchError("there is no place to fetch from", "add one under `mirrors`")
    name = filename(next(iter(failures)).url)
    causes = [f"{redact(place.url)}: {error.cause}" for place, error in failures.items()]
    worst = min(failures.values(), key=lambda error: error.kind)
    kind = IntegrityError if worst.kind is Kind.INTEGRITY else FetchError
    return kind(f"cannot fetch {name}: {'; '.join(causes)}", worst.hint)
