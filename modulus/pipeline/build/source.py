"""The driver's package: which one, from where, and what it says of itself."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from modulus.core.package.members import Members
from modulus.core.package.vendor_manifest import VendorManifest, parse_manifest
from modulus.core.profile.sources import Candidate, candidates, filename
from modulus.core.record.json_text import parse_json
from modulus.errors import FetchError, IntegrityError, ModulusError
from modulus.host.archive.reader import Archive
from modulus.host.fetch.fetcher import UNVERIFIED, Checksum
from modulus.host.fetch.source_record import (
    PackageRecord,
    read_source,
    source_path,
    write_source,
)
from modulus.host.files.full_disk import is_full
from modulus.host.files.place import writing
from modulus.host.files.removal import set_aside
from modulus.host.report.reporter import Reporter
from modulus.pipeline.build.one_pass import TEXT_BYTES, OnePass
from modulus.pipeline.node import Node

_PACKAGE_SCHEME = "apt:"


@dataclass(frozen=True)
class DriverPackage:
    """A package at ``path``; ``verified_by`` may be ``UNVERIFIED`` where that is allowed.

    ``manifest`` lists what it installs; None where its profile knows of no list.
    """

    path: Path
    sha256: str
    format: str
    verified_by: str
    manifest: VendorManifest | None = None

    @property
    def archive(self) -> Archive:
        """Its contents."""
        kind = cast(Literal["run", "tar"], self.format)
        return Archive(self.path, kind, vouched=self.verified_by != UNVERIFIED)


def known_checksum(node: Node) -> Checksum | None:
    """The sha256 that the settings, or else the profile, give; it takes no network."""
    checksums = node.settings.checksums
    for candidate in _candidates(node):
        if digest := checksums.get(filename(candidate.url)):
            return Checksum(digest, "settings")
    digest = node.profile.sha256.get(node.instance.version)
    return Checksum(digest, "profile") if digest else None


def recorded(node: Node) -> PackageRecord | None:
    """What is known of the package without a network; None before its first download.

    An unverified package counts only while such packages are allowed.
    """
    found = where_recorded(node)
    return found[0] if found else None


def where_recorded(node: Node) -> tuple[PackageRecord, str] | None:
    """The same, and who says so: the folder of the cache or the store with the record, which
    wins over what a mirror has now, or the settings or the profile."""
    known = known_checksum(node)
    for folder in (node.site.cache, *node.site.stores):
        record = read_source(_record_path(node, folder))
        if record:
            allowed = record.verified_by != UNVERIFIED or node.settings.allow_unverified
            if allowed and (known is None or known.sha256 == record.sha256):
                return record, str(folder)
    return (PackageRecord(known.sha256, known.origin, None), known.origin) if known else None


def is_downloaded(node: Node, sha256: str) -> bool:
    """Whether a package of that hash is at hand, by its file's name."""
    return any(
        (folder / "downloads" / sha256).is_file()
        for folder in (node.site.cache, *node.site.stores)
    )


def provide(
    node: Node,
    reporter: Reporter,
    one_pass: OnePass | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> DriverPackage:
    """The package, downloaded if need be, checked for the version asked for, and recorded.

    Where the package has to be read for that, ``one_pass`` reads it. ``sleep`` waits between
    the tries of a download.
    """
    source = _fetch(node, reporter, sleep)
    with discarding(node, source):
        text, gpus = _known(node, source) or _describe(node, reporter, source, one_pass)
        manifest = None if text is None else parse_manifest(text)
    if manifest and manifest.version != node.instance.version:
        raise IntegrityError(
            f"the package is {manifest.description} {manifest.version}, "
            f"not {node.instance.version}",
            f"correct the mirror's URL, or ask for {node.instance.profile}-{manifest.version}",
        )
    write_source(
        _record_path(node, node.site.cache),
        PackageRecord(source.sha256, source.verified_by, gpus, text),
    )
    return replace(source, manifest=manifest)


def members(node: Node, flavour: str) -> Members:
    """The members that are the sources of ``flavour``."""
    return Members(tuple(node.profile.flavours[flavour].folders(node.instance.version)))


def sources_text(node: Node, flavour: str) -> str:
    """What the journal calls the sources of ``flavour``."""
    return f"the {flavour} sources of {node.instance}"


def may_come_beside_apt(node: Node) -> bool:
    """Whether the source may be fetched beside apt: no package of the distribution can be the
    source. apt gets such a package, headers and toolchain one after the other."""
    # With a hash that is known only a file of that hash will do.
    return known_checksum(node) is not None or not any(map(_is_packaged, _candidates(node)))


@contextlib.contextmanager
def discarding(node: Node, source: DriverPackage) -> Iterator[None]:
    """Moves a package of our own that turns out to be bad to ``bad/``, so that a mended one is
    fetched the next time."""
    try:
        yield
    except IntegrityError as error:
        if not source.path.is_relative_to(node.site.cache):
            raise
        with writing(node.site.cache / "bad"):
            aside = set_aside(node.site.cache, source.path)
            _record_path(node, node.site.cache).unlink(missing_ok=True)
        raise IntegrityError(
            f"{error.message} (now {aside}; {source.verified_by} vouched for it)",
            "have whoever publishes it mend it, then run the same command again",
        ) from error


def _fetch(node: Node, reporter: Reporter, sleep: Callable[[float], None]) -> DriverPackage:
    known, record = known_checksum(node), recorded(node)
    if known is None and record and is_downloaded(node, record.sha256):
        known = Checksum(record.sha256, record.verified_by)
    errors: list[ModulusError] = []
    groups = itertools.groupby(_candidates(node), key=_is_packaged)
    for packaged, places in groups:
        try:
            if packaged and known is None:
                return _from_packages(node, reporter, next(places).url)
            # With a hash that is known only a file of that hash will do.
            return _download(node, reporter, tuple(places), known, sleep)
        except (FetchError, IntegrityError) as error:
            if is_full(error):
                raise
            errors.append(error)
    if not errors:
        raise FetchError(
            f"there is no place to fetch {node.instance} from", "add one under `mirrors`"
        )
    raise _joined(errors)


def _joined(errors: Sequence[ModulusError]) -> ModulusError:
    """One error that names every place; wrong bytes weigh more than none."""
    worst = next((error for error in errors if isinstance(error, IntegrityError)), errors[-1])
    return type(worst)("; ".join(error.message for error in errors), worst.hint)


def _is_packaged(place: Candidate) -> bool:
    return place.url.startswith(_PACKAGE_SCHEME)


def _from_packages(node: Node, reporter: Reporter, url: str) -> DriverPackage:
    package = node.provisioner.source_package(
        url.removeprefix(_PACKAGE_SCHEME), node.instance.version, reporter
    )
    return DriverPackage(package.path, package.sha256, "tar", "the distribution")


def _download(
    node: Node,
    reporter: Reporter,
    places: Sequence[Candidate],
    known: Checksum | None,
    sleep: Callable[[float], None],
) -> DriverPackage:
    digest, origin = (known.sha256, known.origin) if known else (None, "")
    found = node.fetcher(reporter, sleep).fetch(places, digest, origin)
    return DriverPackage(found.path, found.sha256, found.format, found.verified_by)


def _candidates(node: Node) -> tuple[Candidate, ...]:
    return candidates(
        node.settings.mirrors,
        node.profile.sources,
        name=node.instance.profile,
        version=node.instance.version,
        arch=node.arch,
    )


def _known(node: Node, source: DriverPackage) -> tuple[str, Any] | None:
    """What ``_describe`` found and recorded when it read this package, which takes seconds.

    Other stores' records are not used; their packages are.
    """
    record = read_source(_record_path(node, node.site.cache))
    if record is None or record.sha256 != source.sha256 or record.manifest is None:
        return None
    if record.gpus is not None or not node.profile.gpu_list:
        with contextlib.suppress(IntegrityError):  # A damaged record says nothing.
            parse_manifest(record.manifest)
            return record.manifest, record.gpus
    return None


def _describe(
    node: Node, reporter: Reporter, source: DriverPackage, one_pass: OnePass | None
) -> tuple[str | None, Any]:
    """The installer's manifest and the list of GPUs, as far as the profile names them."""
    profile = node.profile
    manifest_name = profile.installer.manifest if profile.installer else None
    list_name = profile.gpu_list.path if profile.gpu_list else None
    names = tuple(name for name in (manifest_name, list_name) if name)
    if not names:
        return None, None
    if one_pass:
        found = one_pass.read(source.archive, names, manifest_name, reporter)
    else:
        found = source.archive.read(names, TEXT_BYTES)
    if manifest_name and manifest_name not in found:
        raise IntegrityError(
            f"the package of {node.instance} has no {manifest_name}",
            "check what the mirror serves; it is not a package of this driver",
        )
    text = found[manifest_name].decode("utf-8", "replace") if manifest_name else None
    return text, _json(found.get(list_name)) if list_name else None


def _json(data: bytes | None) -> Any:
    try:
        return parse_json(data) if data else None
    except ValueError:
        return None


def _record_path(node: Node, cache: Path) -> Path:
    return source_path(cache, node.instance, node.arch)
