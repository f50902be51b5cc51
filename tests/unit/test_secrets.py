"""No command leaves a password or a token of the settings where anyone may find it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.core.distribution.families import DEBIAN
from modulus.host.report.journal import Journal
from modulus.host.report.reporter import JournalReporter
from tests.support.fakedriver import FakeNode
from tests.support.headertrees import write
from tests.support.mirror import Mirror

SECRET = "hunter2"
MIRRORS = (
    f"http://me:{SECRET}@a.example.com/gpu-{{version}}.tar",
    f"http://b.example.com/gpu-{{version}}.tar?token={SECRET}",
)
# Knows its sources, notes its words, as anyone sees them, and fails as apt does where its proxy
# refuses.
APT = """#!/bin/sh
[ "$1" != indextargets ] || exec cat {targets}
tr '\\0' ' ' </proc/$$/cmdline >>{log}
printenv http_proxy https_proxy >{told}
echo "E: Failed to fetch http://me:hunter2@a.example.com/x  407" >&2
exit 100
"""
TARGETS = """\
Created-By: Packages
MetaKey: main/binary-amd64/Packages
Architecture: amd64
Component: main
Release: bookworm
Repo-URI: http://archive.example.com/debian/
"""


class Listener:
    """A socket as systemd has them for its journal and for notifications; what came to it."""

    def __init__(self, path: Path) -> None:
        self.heard = ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while (data := self._socket.recv(1 << 16)) != b"":
            self.heard += data.decode()

    def close(self) -> str:
        """All that was heard."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()
        return self.heard


class Secretive:
    """A node with secrets in its settings, run as a service of systemd's."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch, proxy: Mirror) -> None:
        self.node = FakeNode(base)
        self.proxy = proxy.url.replace("//", f"//me:{SECRET}@")
        monkeypatch.setenv("PATH", self.node.path)
        self.node.stock()
        self.settings = self.node.root / "etc/modulus/modulus.yaml"
        self.node.configure(
            proxy=self.proxy,
            mirrors=list(MIRRORS),
            offline=False,
            network_wait=0,
            ready_when="nodes",
        )
        self.settings.chmod(0o600)
        self.apt, self.told = self.node.tools / "apt-log", self.node.tools / "apt-told"
        targets = write(base / "targets", TARGETS)
        for name in ("apt-get", "apt-cache"):
            text = APT.format(log=self.apt, told=self.told, targets=targets)
            write(self.node.tools / name, text, 0o755)
        write(self.node.tools / "apt-config", "#!/bin/sh\n", 0o755)
        keyring = DEBIAN.archive.keyrings[0].lstrip("/")
        write(self.node.root / keyring, "keys")
        self._listeners = [Listener(base / "journal"), Listener(base / "status")]
        self._journal = Journal(str(base / "journal"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(base / "status"))
        monkeypatch.setattr(
            "modulus.cli.make_reporter",
            lambda: JournalReporter(journal=self._journal),
        )

    def close(self) -> str:
        """What systemd was told."""
        self._journal.close()
        closing, self._listeners = self._listeners, []
        return "".join(listener.close() for listener in closing)

    def files(self) -> Iterator[Path]:
        """Every file of the node but its settings."""
        for folder, _, names in os.walk(self.node.root):
            for path in (Path(folder, name) for name in names):
                if path.is_file() and not path.is_symlink() and path != self.settings:
                    yield path


@pytest.fixture
def secretive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Secretive]:
    # A proxy that knows none of the mirrors' files.
    with Mirror() as proxy:
        made = Secretive(tmp_path, monkeypatch, proxy)
        yield made
        made.close()


COMMANDS = (
    (0, "plan gpu-1.0 -v"),
    (0, "plan gpu-1.0 --json"),
    (0, "build gpu-1.0 -v"),
    (0, "up gpu-1.0"),
    (0, "up gpu-1.0 --repair"),
    # Of another kernel: apt is asked for its headers.
    (13, "build gpu-1.0 --kernel 6.1.0-10-amd64 -v --json"),
    # Of another version: each mirror is asked for it.
    (11, "build gpu-2.0 -v --json"),
    (11, "up gpu-2.0"),
    (0, "verify"),
    (0, "status --json"),
    (0, "wait"),
    (2, "rollback gpu"),
    (0, "cache list"),
    (0, "cache verify"),
    (0, "cache gc"),
    (0, "down gpu-1.0"),
)


def test_no_command_leaves_a_secret_for_anyone_to_find(
    secretive: Secretive, capfd: pytest.CaptureFixture[str]
) -> None:
    said = ""
    for code, words in COMMANDS:
        assert (words, secretive.node.run(*words.split())) == (words, code)
        said += "".join(capfd.readouterr())
        told = [path for path in secretive.files() if SECRET in path.read_text("latin-1")]
        assert (words, told) == (words, [])
    said += secretive.close()
    assert [line for line in said.splitlines() if SECRET in line] == []
    # It was asked for with them all the same.
    assert "MESSAGE=fetch: http://***@a.example.com/gpu-2.0.tar: 404" in said
    assert "http://b.example.com/gpu-2.0.tar?***: 404" in said
    assert "Failed to fetch http://***@a.example.com/x" in said
    assert "STATUS=" in said
    assert secretive.told.read_text() == f"{secretive.proxy}\n{secretive.proxy}\n"
    for log in (secretive.apt, secretive.node.tools / "log"):
        assert SECRET not in log.read_text()


@pytest.mark.parametrize(
    "setting",
    [
        f"proxy=me:{SECRET}@127.0.0.1:9",
        f"proxy=http//me:{SECRET}@127.0.0.1:9",
        f"mirrors=[htps://me:{SECRET}@h/x]",
        f"mirrors=['http:/h/{{x}}?token={SECRET}']",
        f"mirrors=[http://me:{SECRET}@h/x, http://me:{SECRET}@h/x]",
        f"mirrors=[{{http://me:{SECRET}@h/x: true}}]",
        f"mirrors=[http://me:{SECRET * 20}@h/{{x}}]",
        f"build.jobs=http://me:{SECRET}@h/x",
        f"http://me:{SECRET}@h/x",
    ],
)
def test_a_mistake_in_a_setting_is_told_without_its_secret(
    secretive: Secretive, capfd: pytest.CaptureFixture[str], setting: str
) -> None:
    words = ("plan", "gpu-1.0", "--json", "-v", "--set", setting)
    assert secretive.node.run(*words) == 10
    said = "".join(capfd.readouterr()) + secretive.close()
    assert "modulus: error: --set: " in said
    assert SECRET not in said
