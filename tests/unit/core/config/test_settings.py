# ruff: noqa: E501
from __future__ import annotations

from typing import Any

import pytest

from modulus.core.config.fields import SHA256, url
from modulus.core.config.layers import SettingsSource, merge, place
from modulus.core.config.schema_types import Problems
from modulus.core.config.settings import (
    DEFAULTS,
    GENERAL,
    SCHEMA,
    BuildSettings,
    ExtraStore,
    Mirror,
    Settings,
)

HASH = "0123456789abcdef" * 4


def settings(*layers: dict[str, Any], driver: str | None = "one") -> Settings:
    """Merged from one source per layer, with their numbers as origins."""
    return merge([[SettingsSource(str(n), layer)] for n, layer in enumerate(layers, 1)], driver)


def problems_of(value: object) -> list[str]:
    lines: list[str] = []
    SCHEMA.check(value, "", Problems("", lines))
    return lines


def test_the_defaults_are_complete_and_right() -> None:
    assert DEFAULTS.keys() == GENERAL.fields.keys()
    assert problems_of(dict(DEFAULTS)) == []
    bare = settings()
    assert bare.build == BuildSettings(container="auto", jobs=None, memory_max=None)
    assert bare.boot_hold == 900.0
    assert bare.components == ("compute", "utility", "graphics", "video", "display")
    assert bare.modules is None
    assert set(bare.origins.values()) == {"default"}


def test_every_key_has_its_type() -> None:
    found = settings(
        {
            "mirrors": ["https://a.example.com/{arch}", {"url": "file:///m", "trusted": True}],
            "proxy": "http://proxy.example.com:3128",
            "ca_bundle": "/etc/ca.pem",
            "network_wait": "90s",
            "checksums": {"x-1.run": HASH.upper()},
            "build": {"container": "none", "jobs": 3, "memory_max": "8G"},
            "modules": ["a-b"],
            "module_options": {"a": {"X": 1, "y": True, "z": "t=1;u"}},
            "stores": ["/mnt"],
            "metrics_dir": "/var/lib/metrics",
        }
    )
    assert found.mirrors == (
        Mirror("https://a.example.com/{arch}"),
        Mirror("file:///m", trusted=True),
    )
    assert found.network_wait == 90.0
    assert found.checksums == {"x-1.run": HASH}
    assert found.build == BuildSettings("none", 3, 8 << 30)
    assert found.modules == ("a-b",)
    assert found.module_options == {"a": {"X": "1", "y": "1", "z": "t=1;u"}}
    assert found.stores == (ExtraStore("/mnt"),)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"remote": {}}, "remote: unknown key"),
        ({"sign": True}, "sign: unknown key"),
        ({"jobs": 1}, "jobs: unknown key, did you mean build.jobs?"),
        ({"drivers": {"one": {"flavor": "open"}}}, "drivers.one.flavor: unknown key, did you mean drivers.one.flavour?"),
        ({"drivers": {"one": {"drivers": {}}}}, "drivers.one.drivers: unknown key"),
        ({"drivers": {"One": {}}}, "drivers.One: must be the name of a driver, in lower case, not 'One'"),
        ({"boot_hold": "long"}, "boot_hold: must be a duration, such as 90s, 15min or 1h 30min, not 'long'"),
        ({"build": {"memory_max": "8GB"}}, "build.memory_max: must be a size, such as 512M or 8G, not '8GB'"),
        ({"build": {"jobs": 0}}, "build.jobs: must be a number from 1 to 4096, or auto, not 0"),
        ({"checksums": {"a/b": HASH}}, "checksums.a/b: must be the name of a file, without a folder, not 'a/b'"),
        ({"checksums": {"a": HASH[1:]}}, f"checksums.a: must be a sha256 of 64 hexadecimal digits, not '{HASH[1:57]}..."),
        ({"stores": ["mnt"]}, "stores[0].path: must be an absolute path, not 'mnt'"),
        ({"modules": ["../x"]}, "modules[0]: must be the name of a kernel module, not '../x'"),
        ({"modules": ["-r"]}, "modules[0]: must be the name of a kernel module, not '-r'"),
        ({"module_options": {"a": {"b": "1\ninstall x"}}}, r"module_options.a.b: must be a value for a module's parameter, on one line, not '1\ninstall x'"),
        ({"components": ["compute", "grafics"]}, "components[1]: must be one of compute, utility, graphics, video, display (did you mean graphics?), not 'grafics'"),
    ],
)  # fmt: skip
def test_problems(value: object, line: str) -> None:
    assert problems_of(value) == [line]


@pytest.mark.parametrize(
    "value",
    [
        "ftp://x/a", "x.run", "https:", "https://x/{release}", "https://x/{arch", "https://x/a b",
        "apt:x", "/mnt/x.run", 5, "https://x/{arch!r}", "https://x/{}",
    ],
)  # fmt: skip
def test_bad_mirrors(value: object) -> None:
    assert len(problems_of({"mirrors": [value]})) == 1


def test_a_url_says_what_it_may_hold() -> None:
    problems = Problems()
    url("https", "apt").check("x", "url", problems)
    with pytest.raises(Exception, match=r"\(https:, apt:\) .* \{arch} \{version} \{name}"):
        problems.fail("")
    assert SHA256.check(HASH, "", problems) == HASH


@pytest.mark.parametrize(
    ("layers", "flavour", "origin"),
    [
        ([{"flavour": "open"}], "open", "1"),
        ([{"flavour": "open"}, {"flavour": "proprietary"}], "proprietary", "2"),
        # Within a layer a driver's own value wins, whatever comes first in the file.
        ([{"drivers": {"one": {"flavour": "open"}}, "flavour": "proprietary"}], "open", "1"),
        ([{"flavour": "proprietary"}, {"drivers": {"one": {"flavour": "open"}}}], "open", "2"),
        # A higher layer wins, general as it may be.
        ([{"drivers": {"one": {"flavour": "open"}}}, {"flavour": "proprietary"}], "proprietary", "2"),
        ([{"drivers": {"two": {"flavour": "open"}}}], "auto", "default"),
        ([{"drivers": {"one": None}}, {"drivers": None}], "auto", "default"),
    ],
)  # fmt: skip
def test_layers(layers: list[dict[str, Any]], flavour: str, origin: str) -> None:
    found = settings(*layers)
    assert (found.flavour, found.origins["flavour"]) == (flavour, origin)


def test_a_drop_in_does_not_hide_a_drivers_own_value_in_the_same_layer() -> None:
    main = SettingsSource("main", {"drivers": {"one": {"flavour": "open"}}})
    drop_in = SettingsSource("drop-in", {"flavour": "proprietary", "offline": True})
    found = merge([[main, drop_in]], "one")
    assert (found.flavour, found.origins["flavour"]) == ("open", "main")
    assert found.origins["offline"] == "drop-in"
    assert merge([[main, drop_in]], None).flavour == "proprietary"


def test_mappings_are_merged_and_lists_replaced() -> None:
    found = settings(
        {"checksums": {"a": HASH, "b": HASH}, "stores": ["/a", "/b"], "build": {"jobs": 2}},
        {
            "checksums": {"b": "f" * 64},
            "stores": ["/c"],
            "build": {"memory_max": 1 << 30},
            "module_options": None,
            "drivers": {"one": {"module_options": {"m": {"x": 1}}}},
        },
        {"module_options": {"m": {"y": 2}}, "build": {"jobs": "auto"}},
    )
    assert found.checksums == {"a": HASH, "b": "f" * 64}
    assert found.stores == (ExtraStore("/c"),)
    assert found.build == BuildSettings("auto", None, 1 << 30)
    assert found.module_options == {"m": {"x": "1", "y": "2"}}
    assert {key: found.origins[key] for key in found.origins if "." in key} == {
        "checksums.a": "1",
        "checksums.b": "2",
        "build.container": "default",
        "build.ids": "default",
        "build.jobs": "3",
        "build.memory_max": "2",
        "build.prove": "default",
        "module_options.m.x": "2",
        "module_options.m.y": "3",
    }


def test_null_takes_a_value_back() -> None:
    found = settings(
        {"proxy": "http://proxy:1", "modules": ["a"]}, {"proxy": None, "modules": None}
    )
    assert (found.proxy, found.modules) == (None, None)
    assert found.origins["proxy"] == "2"


def test_every_key_is_told_with_its_value_as_written_and_its_origin() -> None:
    told = {
        key: (value, origin)
        for key, value, origin in settings({"boot_hold": "1h"}).with_origins()
    }
    assert told["boot_hold"] == ("1h", "1")
    assert told["checksums"] == ({}, "default")
    assert told["build.jobs"] == ("auto", "default")
    assert "build" not in told and "drivers" not in told


@pytest.mark.parametrize(
    ("key", "separator", "placed"),
    [
        ("flavour", ".", {"flavour": 1}),
        ("build.jobs", ".", {"build": {"jobs": 1}}),
        ("BUILD__JOBS", "__", {"build": {"jobs": 1}}),
        ("checksums.x-1.2.run", ".", {"checksums": {"x-1.2.run": 1}}),
        ("drivers.one.build.jobs", ".", {"drivers": {"one": {"build": {"jobs": 1}}}}),
        ("DRIVERS__ONE__FLAVOUR", "__", {"drivers": {"one": {"flavour": 1}}}),
        ("drivers.one.checksums.a.b", ".", {"drivers": {"one": {"checksums": {"a.b": 1}}}}),
        ("module_options.m.X_y", ".", {"module_options": {"m": {"X_y": 1}}}),
        ("MODULE_OPTIONS__m__X_y", "__", {"module_options": {"m": {"X_y": 1}}}),
        ("nothing.such", ".", {"nothing": {"such": 1}}),
        ("build.jobs.more", ".", {"build": {"jobs": {"more": 1}}}),
    ],
)
def test_where_a_dotted_key_belongs(key: str, separator: str, placed: object) -> None:
    assert place(SCHEMA, key.split(separator), 1, separator) == placed
