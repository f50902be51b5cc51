"""A small signed package archive on loopback, in the shape of a distribution's own."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support import headertrees
from tests.support.headertrees import write

COMPONENT = "main"


class SigningKey:
    """A throw-away OpenPGP key."""

    def __init__(self) -> None:
        # gpg-agent's socket must have a short path.
        self._home = tempfile.mkdtemp(prefix="gpg.", dir="/tmp")
        self._gpg(
            "--passphrase", "", "--quick-gen-key", "Archive <archive@example.com>", "ed25519"
        )

    def public(self, into: Path) -> None:
        """Writes the public key as a keyring."""
        into.parent.mkdir(parents=True, exist_ok=True)
        self._gpg("--output", str(into), "--export")

    def sign(self, text: Path, into: Path) -> None:
        """Writes ``text`` clear-signed."""
        self._gpg("--yes", "--output", str(into), "--clear-sign", str(text))

    def close(self) -> None:
        """Ends the agent and forgets the key."""
        subprocess.run(["gpgconf", "--homedir", self._home, "--kill", "all"], check=True)
        # The agent takes its sockets away itself, maybe at the same time.
        shutil.rmtree(self._home, ignore_errors=True)

    def _gpg(self, *arguments: str) -> None:
        command = ["gpg", "--homedir", self._home, "--batch", "--quiet", *arguments]
        subprocess.run(command, check=True, capture_output=True)


class Archive:
    """Packages below ``folder``; ``publish`` writes the signed lists of what is there.

    They are found as ``suite``, by default the ``codename``; ``fields`` are put into the
    Release file, or replaced there.
    """

    def __init__(
        self, folder: Path, codename: str, key: SigningKey, *, suite: str = ""
    ) -> None:
        self.folder = folder
        self.fields: dict[str, str] = {}
        self._suite = suite or codename
        self._codename = codename
        self._key = key
        self._stanzas: dict[str, str] = {}
        self._published = 0

    def add(
        self,
        name: str,
        version: str = "1.0-1",
        *,
        depends: str = "",
        tree: Path | None = None,
        scripts: Mapping[str, str] | None = None,
    ) -> Path:
        """Builds a package; it replaces one of the same name in the lists."""
        with tempfile.TemporaryDirectory() as scratch:
            work = Path(scratch, "package")
            if tree:
                shutil.copytree(tree, work, symlinks=True)
            control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n"
            control += "Maintainer: A <a@example.com>\nDescription: x\n"
            control += f"Depends: {depends}\n" if depends else ""
            write(work / "DEBIAN/control", control)
            for script, text in (scripts or {}).items():
                write(work / "DEBIAN" / script, text, 0o755)
            work.chmod(0o755)
            path = self.folder / "pool" / f"{name}_{version}_amd64.deb"
            path.parent.mkdir(parents=True, exist_ok=True)
            command = ["dpkg-deb", "-Znone", "--root-owner-group", "-b", str(work), str(path)]
            subprocess.run(command, check=True, capture_output=True)
        data = path.read_bytes()
        self._stanzas[name] = (
            f"{control}Filename: pool/{path.name}\nSize: {len(data)}\n"
            f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
        )
        return path

    def publish(self) -> None:
        """Writes and signs the lists; packages no longer in them are removed."""
        named = {
            line.rpartition("/")[2]
            for stanza in self._stanzas.values()
            for line in stanza.splitlines()
            if line.startswith("Filename")
        }
        for path in (self.folder / "pool").glob("*.deb"):
            if path.name not in named:
                path.unlink()
        dist = self.folder / "dists" / self._suite
        packages = write(
            dist / COMPONENT / "binary-amd64/Packages", "\n".join(self._stanzas.values())
        )
        data = packages.read_bytes()
        listed = f"{hashlib.sha256(data).hexdigest()} {len(data)}"
        fields = {
            "Origin": "Test",
            "Suite": self._suite,
            "Codename": self._codename,
            "Date": date(0),
            "Architectures": "amd64",
            "Components": COMPONENT,
            **self.fields,
        }
        release = write(
            dist / "Release",
            "".join(f"{name}: {value}\n" for name, value in fields.items())
            + f"SHA256:\n {listed} {COMPONENT}/binary-amd64/Packages\n",
        )
        self._key.sign(release, dist / "InRelease")
        # Clients ask for what is newer by the second; each publication is a second younger.
        self._published += 1
        when = time.time() - 1000 + self._published
        for path in dist.rglob("*"):
            os.utime(path, (when, when))


def date(days: float) -> str:
    """The time in ``days``, as a Release file has it."""
    return time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime(time.time() + days * 86400))


def add_headers_of(archive: Archive, release: str, *, package: str = "") -> None:
    """A kernel's headers in one package, as other makers have them."""
    with tempfile.TemporaryDirectory() as scratch:
        headertrees.single(Path(scratch), release)
        archive.add(package or f"linux-headers-{release}", tree=Path(scratch))


def add_headers(archive: Archive, base: Path, version: str = "6.1.27-1") -> None:
    """The packages of one kernel's headers as Debian splits them, image and all."""
    root = base / f"unpacked-{version}"
    headertrees.debian(root)
    write(root / f"usr/src/linux-headers-{headertrees.RELEASE}/include/version.h", version)
    flavour, common, kbuild = (base / f"{name}-{version}" for name in ("a", "c", "k"))
    for part, path in (
        (flavour, f"usr/src/linux-headers-{headertrees.RELEASE}"),
        (flavour, "lib/modules"),
        (common, "usr/src/linux-headers-6.1.0-99-common"),
        (kbuild, "usr/lib/linux-kbuild-6.1"),
    ):
        shutil.copytree(root / path, part / path, symlinks=True)
    archive.add(
        f"linux-headers-{headertrees.RELEASE}",
        version,
        depends=f"linux-headers-6.1.0-99-common (= {version}), "
        f"linux-kbuild-6.1 (>= {version}), linux-image-{headertrees.RELEASE} (= {version})",
        tree=flavour,
        scripts={"postinst": "#!/bin/sh\ntouch /modulus-ran-a-script\n"},
    )
    archive.add("linux-headers-6.1.0-99-common", version, tree=common)
    archive.add("linux-kbuild-6.1", version, tree=kbuild)
    archive.add(f"linux-image-{headertrees.RELEASE}", version)


def add_tools(archive: Archive, base: Path, names: tuple[str, ...]) -> None:
    """Stand-ins for the packages of a toolchain, the last alternative of each name."""
    for name in names:
        tree = base / f"tool-{name}"
        program = "make" if name == "make" else f"program-{name}"
        write(tree / "usr/bin" / program, "#!/bin/sh\n", 0o755)
        archive.add(name.rpartition("|")[2], tree=tree)


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder on loopback; ``requests`` has what was asked, ``delay`` is per .deb."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.requests: list[str] = []
        self.delay = 0.0

        class Handler(http.server.SimpleHTTPRequestHandler):
            server: Server

            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments, directory=str(folder))

            def do_GET(self) -> None:
                self.server.requests.append(self.path)
                if self.path.startswith("http://"):
                    self.path = "/" + self.path.split("/", 3)[3]
                if self.path.endswith(".deb"):
                    time.sleep(self.server.delay)
                # A client that is killed meanwhile is part of some tests.
                with contextlib.suppress(ConnectionError):
                    super().do_GET()

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def debs(self) -> list[str]:
        """The packages asked for so far."""
        return [os.path.basename(path) for path in self.requests if path.endswith(".deb")]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server for ``folder`` in a thread of its own."""
    with Server(folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
