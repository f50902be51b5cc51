"""User-data for cloud-init: what it holds, what it does on a node, what the docs show."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modulus.cli.parser import make_parser
from modulus.core.config.schema_types import Problems
from modulus.core.config.settings import SCHEMA
from modulus.core.instance import parse_instance
from modulus.core.userdata import Package, parse_package, user_data
from modulus.errors import UsageError
from modulus.host.config.load import load_settings
from tests.unit.test_readme import commands

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
INSTANCE = "nvidia-535.309.01"
DIGEST = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
PACKAGE = Package("https://files.example.com/modulus_0.1.0_all.deb", DIGEST)
MIRROR = "https://mirror.example.com/nvidia/{version}/NVIDIA-Linux-{arch}-{version}.run"

# What the documented examples were rendered from.
EXAMPLES: dict[str, tuple[list[str], Package | None]] = {
    "node.yaml": ([], PACKAGE),
    "fleet.yaml": ([f'mirrors=["{MIRROR}"]', "stores=[/srv/modulus]"], None),
}


def rendered(assignments: list[str], package: Package | None = None) -> str:
    settings = load_settings(
        Path("/nonexistent"), config=None, environ={}, assignments=assignments, driver="nvidia"
    )
    return user_data(parse_instance(INSTANCE, ""), settings, package)


def parsed(assignments: list[str], package: Package | None = None) -> dict[str, Any]:
    text = rendered(assignments, package)
    assert text.startswith("#cloud-config\n")
    value: dict[str, Any] = yaml.safe_load(text)
    return value


def settings_file(value: dict[str, Any]) -> dict[str, Any]:
    (file,) = value["write_files"]
    assert file["path"] == "/etc/modulus/modulus.yaml"
    assert file["owner"] == "root:root"
    content: dict[str, Any] = yaml.safe_load(file["content"])
    return content


def test_the_unit_is_enabled_then_started_and_not_waited_for() -> None:
    unit = f"modulus@{INSTANCE}.service"
    value = parsed([])
    assert value["packages"] == ["modulus"]
    assert value["runcmd"] == [
        "set -e",
        ["systemctl", "enable", unit],
        ["systemctl", "start", "--no-block", unit],
    ]


def test_a_node_without_settings_gets_no_file() -> None:
    assert "write_files" not in parsed([])


def test_a_package_from_a_url_needs_no_repository() -> None:
    value = parsed([], PACKAGE)
    assert "packages" not in value
    assert value["package_update"] is True
    assert len(value["runcmd"]) == 4


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["build.jobs=4"], {"build": {"jobs": 4}}),
        (["build={jobs: 4, memory_max: 8G}"], {"build": {"jobs": 4, "memory_max": "8G"}}),
        ([f"checksums.a.b-1.run={DIGEST}"], {"checksums": {"a.b-1.run": DIGEST}}),
        (
            ["module_options.nvidia.a.b=x y", "module_options.nvidia-uvm={c: '1'}"],
            {"module_options": {"nvidia": {"a.b": "x y"}, "nvidia-uvm": {"c": "1"}}},
        ),
        (["drivers.nvidia.flavour=open"], {"flavour": "open"}),
        (["drivers.other.flavour=open", "numa_fix=true"], {"numa_fix": True}),
        (["on_no_gpu=fail"], {"on_no_gpu": "fail"}),
        (["stores=[/srv/a b, '/srv/: x']"], {"stores": ["/srv/a b", "/srv/: x"]}),
    ],
)
def test_what_was_set_is_what_the_node_gets(
    assignments: list[str], expected: dict[str, Any]
) -> None:
    assert settings_file(parsed(assignments)) == expected


@given(
    st.dictionaries(
        st.from_regex(r"[^/\s\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,20}", fullmatch=True),
        st.just(DIGEST),
        min_size=1,
        max_size=3,
    ),
    st.from_regex(r"/[^\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]{0,100}", fullmatch=True),
)
def test_any_text_survives(checksums: dict[str, str], path: str) -> None:
    wanted = {"checksums": checksums, "metrics_dir": path}
    problems = Problems()
    SCHEMA.check(wanted, "", problems)
    assert not problems
    text = yaml.safe_dump(wanted)
    assert settings_file(parsed([f"{key}={_flow(wanted[key])}" for key in wanted])) == (
        yaml.safe_load(text)
    )


def _flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=2**31)


@pytest.mark.parametrize(
    ("assignment", "permissions"),
    [
        ("proxy=http://proxy:3128", "0644"),
        ("proxy=http://user:secret@proxy:3128", "0600"),
        ("mirrors=[{url: 'http://u:p@10.0.0.2/{version}.run', trusted: true}]", "0600"),
        ("drivers.nvidia.mirrors=['https://m.example.com/{version}.run?token=x']", "0600"),
    ],
)
def test_a_password_is_for_root_only(assignment: str, permissions: str) -> None:
    (file,) = parsed([assignment])["write_files"]
    assert file["permissions"] == permissions


@pytest.mark.parametrize(
    ("url", "sha256"),
    [
        (None, DIGEST),
        ("https://files.example.com/x.deb", None),
        ("https://files.example.com/x.deb", DIGEST[1:]),
        ("/tmp/x.deb", DIGEST),
        ("https://files.example.com/x y.deb", DIGEST),
        ("https://files.example.com/x\n.deb", DIGEST),
    ],
)
def test_a_package_that_cannot_be_verified_is_refused(
    url: str | None, sha256: str | None
) -> None:
    with pytest.raises(UsageError, match="--package"):
        parse_package(url, sha256)


def test_a_package_has_both() -> None:
    assert parse_package(None, None) is None
    assert parse_package(PACKAGE.url, DIGEST.upper()) == PACKAGE


class Machine:
    """Runs runcmd as cloud-init does, with tools that only note what they are asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        for tool in ("apt-get", "systemctl"):
            self._tool(tool, f'echo {tool} "$@" >>{self.log}')
        # The last words are the URL and the file.
        self._tool("apt-helper", 'for word; do file=$word; done; echo data >"$file"')

    def run(self, runcmd: list[Any]) -> tuple[int, list[str]]:
        """The status, and the calls of apt-get and systemctl."""
        # As cloudinit.util.shellify: text as it is, lists with each word quoted.
        lines = [
            word if isinstance(word, str) else " ".join(f"'{part}'" for part in word)
            for word in runcmd
        ]
        script = "\n".join(lines).replace("/usr/lib/apt/apt-helper", "apt-helper")
        done = subprocess.run(
            ["sh", "-c", script],
            env={"PATH": f"{self.bin}:{os.environ['PATH']}", "TMPDIR": str(self.folder)},
            capture_output=True,
            check=False,
        )
        said = self.log.read_text().splitlines() if self.log.exists() else []
        return done.returncode, [line.split(" -o ")[0].split(" /")[0] for line in said]

    def _tool(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)


@pytest.mark.parametrize("url", ["http://x/a.deb", "http://x/$(touch${IFS}hacked)';'.deb"])
def test_a_good_package_is_installed_before_the_unit_starts(url: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    package = Package(url, hashlib.sha256(b"data\n").hexdigest())
    value = parsed(["proxy=http://u:p'x@proxy:3128"], package)
    status, calls = machine.run(value["runcmd"])
    assert status == 0
    unit = f"modulus@{INSTANCE}.service"
    assert calls == [
        "apt-get -q -y",
        f"systemctl enable {unit}",
        f"systemctl start --no-block {unit}",
    ]
    assert sorted(path.name for path in machine.folder.iterdir()) == ["bin", "log"]


def test_a_package_with_another_hash_ends_it(tmp_path: Path) -> None:
    status, calls = Machine(tmp_path / "machine").run(parsed([], PACKAGE)["runcmd"])
    assert (status != 0, calls) == (True, [])


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_is_what_is_rendered(name: str) -> None:
    text = (DOCS / "examples" / name).read_text()
    assert text.startswith(rendered(*EXAMPLES[name]))
    yaml.safe_load(text)


def test_every_example_is_known_and_linked() -> None:
    text = (DOCS / "cloud-init.md").read_text()
    linked = re.findall(r"\]\(examples/([^)]+)\)", text)
    assert sorted(linked) == sorted(EXAMPLES)
    assert sorted(path.name for path in (DOCS / "examples").iterdir()) == sorted(EXAMPLES)


def test_the_commands_of_the_docs_are_understood() -> None:
    found = list(commands((DOCS / "cloud-init.md").read_text()))
    named = [words[1:] for words in found if words[0] == "modulus"]
    assert named
    for words in named:
        options = make_parser().parse_args(words)
        if getattr(options, "instance", None):
            parse_instance(options.instance, "")
    assert all(shutil.which(words[0]) for words in found if "/" in words[0])
