"""Every setting: its type and its default (docs/reference.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modulus.core.config.fields import (
    COMPONENTS,
    DRIVER_NAME,
    MODULE_NAME,
    OPTIONS,
    SHA256,
    url,
)
from modulus.core.config.schema_types import (
    BOOLEAN,
    ListOf,
    MapOf,
    Maybe,
    Misplaced,
    Record,
    Scalar,
    Schema,
    choice,
    integer,
    text,
)
from modulus.core.config.units import parse_duration, parse_size
from modulus.core.ids import DEFAULT as DEFAULT_IDS
from modulus.core.ids import Ids, parse_ids


@dataclass(frozen=True)
class Mirror:
    """A template of full URLs, tried before a profile's own.

    ``trusted``: a checksum it serves over plain http counts too.
    """

    url: str
    trusted: bool = False


@dataclass(frozen=True)
class ExtraStore:
    """The folder of a read-only store, seen from the root.

    ``trusted``: the store is believed, whoever may write to it.
    """

    path: str
    trusted: bool = False


@dataclass(frozen=True)
class BuildSettings:
    """Where and with what a build runs; ``memory_max`` in bytes.

    None leaves the choice to Modulus: as many jobs as CPUs and GiB of memory allow, nine tenths
    of the node's memory. A build takes users and groups from ``ids`` that nobody else has.
    """

    container: str = "auto"
    jobs: int | None = None
    memory_max: int | None = None
    prove: str = "idle"
    ids: Ids = DEFAULT_IDS


@dataclass(frozen=True)
class Settings:
    """All settings for one driver; durations in seconds, None for the profile's choice.

    ``values`` and ``origins`` hold what was written and where (``default``, a file, a
    variable, ``--set``) by dotted key, ``warnings`` what a person should know of it.
    """

    mirrors: tuple[Mirror, ...]
    proxy: str | None
    ca_bundle: str | None
    kernel_sources: tuple[str, ...]
    offline: bool
    network_wait: float
    checksums: Mapping[str, str]
    allow_unverified: bool
    build: BuildSettings
    flavour: str
    modules: tuple[str, ...] | None
    module_options: Mapping[str, Mapping[str, str]]
    components: tuple[str, ...]
    on_no_gpu: str
    ready_when: str
    require_all_gpus: bool
    numa_fix: bool
    rivals_unbind: bool
    initramfs: str
    boot_hold: float
    hold_reboot: float
    switch_busy: str
    auto_fallback: bool
    cache_dir: str
    stores: tuple[ExtraStore, ...]
    metrics_dir: str | None
    values: Mapping[str, Any]
    origins: Mapping[str, str]
    warnings: tuple[str, ...]

    def with_origins(self) -> Iterator[tuple[str, Any, str]]:
        """Every dotted key with its value as written and where that came from."""
        for key, value in self.values.items():
            yield key, value, self.origins[key]


_MIRROR_URL = url("https", "http", "file")
_PATH = text(r"/[^\x00-\x1f\x7f]*", "an absolute path")
_DURATION = Scalar(parse_duration)

_FIELDS: dict[str, Schema] = {
    "mirrors": ListOf(
        Record({"url": _MIRROR_URL, "trusted": BOOLEAN}, ("url",), short="url", make=Mirror),
        lone=True,
    ),
    "proxy": Maybe(text(r"[a-z0-9]+://\S+", "a proxy's URL, such as http://proxy:3128")),
    "ca_bundle": Maybe(_PATH),
    "kernel_sources": ListOf(
        text(r"[A-Za-z0-9._-]+\.(list|sources)", "a file of apt's sources: x.sources, x.list"),
        lone=True,
    ),
    "offline": BOOLEAN,
    "network_wait": _DURATION,
    "checksums": MapOf(text(r"[^/\s\x00]+", "the name of a file, without a folder"), SHA256),
    "allow_unverified": BOOLEAN,
    "build": Record(
        {
            "container": choice("auto", "nspawn", "podman", "docker", "none"),
            "jobs": Maybe(integer(1, 4096, "a number from 1 to 4096, or auto"), "auto"),
            "memory_max": Maybe(Scalar(parse_size)),
            "prove": choice("idle", "before-use", "never"),
            "ids": Scalar(parse_ids),
        },
        make=BuildSettings,
    ),
    "flavour": choice("auto", "open", "proprietary"),
    "modules": Maybe(ListOf(MODULE_NAME)),
    "module_options": OPTIONS,
    "components": ListOf(choice(*COMPONENTS)),
    "on_no_gpu": choice("fail", "wait", "build-only"),
    "ready_when": choice("loaded", "nodes", "usable"),
    "require_all_gpus": BOOLEAN,
    "numa_fix": BOOLEAN,
    "rivals_unbind": BOOLEAN,
    "initramfs": choice("auto", "never"),
    "boot_hold": _DURATION,
    "hold_reboot": _DURATION,
    "switch_busy": choice("refuse", "wait"),
    "auto_fallback": BOOLEAN,
    "cache_dir": _PATH,
    "stores": ListOf(
        Record({"path": _PATH, "trusted": BOOLEAN}, ("path",), short="path", make=ExtraStore)
    ),
    "metrics_dir": Maybe(_PATH),
}

GENERAL = Record(_FIELDS)
"""What may stand outside of ``drivers``, and but for the cache's place, which is one for all,
for each driver below it."""

_OF_ALL = Misplaced("counts for all drivers; put it outside of drivers")

SCHEMA = Record(
    {**_FIELDS, "drivers": MapOf(DRIVER_NAME, Record({**_FIELDS, "cache_dir": _OF_ALL}))}
)

RENAMED: Mapping[str, str] = {"nouveau_unbind": "rivals_unbind"}
"""Settings by their old names, which are still accepted."""

DEFAULTS: Mapping[str, Any] = {
    "mirrors": [],
    "proxy": None,
    "ca_bundle": None,
    "kernel_sources": [],
    "offline": False,
    "network_wait": "2min",
    "checksums": {},
    "allow_unverified": False,
    "build": {
        "container": "auto",
        "jobs": "auto",
        "memory_max": None,
        "prove": "idle",
        "ids": str(DEFAULT_IDS),
    },
    "flavour": "auto",
    "modules": None,
    "module_options": {},
    "components": list(COMPONENTS),
    "on_no_gpu": "fail",
    "ready_when": "usable",
    "require_all_gpus": False,
    "numa_fix": False,
    "rivals_unbind": False,
    "initramfs": "auto",
    "boot_hold": "15min",
    "hold_reboot": "0s",
    "switch_busy": "refuse",
    "auto_fallback": True,
    "cache_dir": "/var/cache/modulus",
    "stores": [],
    "metrics_dir": None,
}
