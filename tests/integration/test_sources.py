"""Which of a node's apt sources packages come from, by the real apt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modulus.core.distribution.families import DEBIAN, UBUNTU
from modulus.errors import ToolchainError
from tests.support.aptworld import World, another, make_world
from tests.support.archive import SigningKey, add_headers_of, date, serving
from tests.support.headertrees import write

pytestmark = pytest.mark.integration

BACKPORT = "6.12.95+deb12-amd64"
SOURCES = "etc/apt/sources.list.d/own.sources"
KEYRING = DEBIAN.archive.keyrings[0]


def sources(world: World, text: str) -> None:
    """Gives the node ``text`` for its sources, with the server's address for URL."""
    write(world.root / SOURCES, text.replace("URL", world.server.url))


def lines(world: World, text: str) -> None:
    """As ``sources``, in the one-line style and nothing else."""
    (world.root / SOURCES).unlink()
    write(world.root / "etc/apt/sources.list", text.replace("URL", world.server.url))


def headers(world: World, release: str = BACKPORT) -> str:
    """Where the headers of ``release`` are from, provided now."""
    return world.provisioner().headers(release, world.reporter).origin


@pytest.mark.parametrize("release", [BACKPORT, "6.12.95+bpo-amd64", "7.1.1-amd64"])
def test_a_suite_that_the_node_enables_is_looked_in(
    world: World, key: SigningKey, release: str
) -> None:
    """Whatever the kernel is called: backports once had +bpo, and have +deb12."""
    world.archive.publish()
    another(world, "bookworm-backports", key, release)
    with pytest.raises(ToolchainError, match="has no linux-headers-"):
        headers(world, release)
    sources(
        world,
        "Types: deb\nURIs: URL/bookworm-backports\nSuites: bookworm-backports\n"
        "Components: main\n",
    )
    assert headers(world, release) == "packages"


@pytest.mark.parametrize("suite", ["stable", "oldstable", "testing", "whatever"])
def test_the_codename_counts_not_the_word(world: World, key: SigningKey, suite: str) -> None:
    another(world, suite, key, BACKPORT, codename="bookworm")
    sources(world, f"Types: deb\nURIs: URL/{suite}\nSuites: {suite}\nComponents: main\n")
    assert headers(world) == "packages"


@pytest.mark.parametrize("suite", ["stable", "bookworm"])
def test_a_suite_of_another_release_is_passed_over(
    world: World, key: SigningKey, suite: str
) -> None:
    another(world, suite, key, BACKPORT, codename="trixie")
    sources(world, f"Types: deb\nURIs: URL/{suite}\nSuites: {suite}\nComponents: main\n")
    with pytest.raises(ToolchainError, match=f"no apt source is .*{suite} main: of trixie"):
        headers(world)
    assert world.server.debs() == []


def test_a_suite_that_becomes_another_release(world: World, key: SigningKey) -> None:
    """One day stable is the next release: its lists of the day before are not used either."""
    archive = another(world, "stable", key, BACKPORT, codename="bookworm")
    sources(world, "Types: deb\nURIs: URL/stable\nSuites: stable\nComponents: main\n")
    assert headers(world) == "packages"
    archive.fields["Codename"] = "trixie"
    archive.publish()
    with pytest.raises(ToolchainError, match="of trixie"):
        headers(world, "6.12.96+deb12-amd64")


def test_keys_in_quotes(world: World, key: SigningKey) -> None:
    add_headers_of(world.archive, BACKPORT)
    world.archive.publish()
    lines(world, f'deb [arch=amd64 signed-by="{KEYRING}"] URL bookworm main\n')
    assert headers(world) == "packages"


def test_sources_that_apt_cannot_read(world: World) -> None:
    world.archive.publish()
    write(world.root / "etc/apt/sources.list", "deb nonsense\n")
    with pytest.raises(ToolchainError, match="apt cannot read its sources: Malformed entry 1"):
        headers(world)


def expired(world: World) -> None:
    """The archive's date has passed; the node has had nothing of it yet."""
    add_headers_of(world.archive, BACKPORT)
    world.archive.fields.update({"Date": date(-30), "Valid-Until": date(-20)})
    world.archive.publish()


def test_an_expired_archive_is_refused(world: World) -> None:
    expired(world)
    with pytest.raises(ToolchainError, match="is expired") as caught:
        headers(world)
    assert "check-valid-until=no" in caught.value.hint
    assert "network" not in caught.value.hint


@pytest.mark.parametrize("where", ["list", "sources", "apt.conf.d"])
def test_an_expired_archive_that_is_meant(world: World, where: str) -> None:
    expired(world)
    if where == "list":
        lines(world, "deb [check-valid-until=no] URL bookworm main\n")
    elif where == "sources":
        text = (world.root / SOURCES).read_text()
        write(world.root / SOURCES, text + "Check-Valid-Until: no\n")
    else:
        text = 'Acquire::Check-Valid-Until "false";\n'
        write(world.root / "etc/apt/apt.conf.d/99snapshot", text)
    assert headers(world) == "packages"
    assert "check-valid-until=no" in world.said.getvalue()


def test_no_date_does_for_a_wrong_signature(world: World, stranger: SigningKey) -> None:
    expired(world)
    lines(world, "deb [check-valid-until=no] URL bookworm main\n")
    folder = world.archive.folder / "dists/bookworm"
    stranger.sign(folder / "Release", folder / "InRelease")
    with pytest.raises(ToolchainError) as caught:
        headers(world)
    assert "signed" in caught.value.hint


def test_a_date_that_counts_is_not_told(world: World) -> None:
    """Where checks are off, but the archive is as new as it should be, all is well."""
    add_headers_of(world.archive, BACKPORT)
    world.archive.fields["Valid-Until"] = date(7)
    world.archive.publish()
    lines(world, "deb [check-valid-until=no] URL bookworm main\n")
    assert headers(world) == "packages"
    assert "valid until" not in world.said.getvalue()


def test_a_clock_that_is_not_set(world: World) -> None:
    add_headers_of(world.archive, BACKPORT)
    world.archive.fields["Date"] = date(30)
    world.archive.publish()
    with pytest.raises(ToolchainError, match="not valid yet") as caught:
        headers(world)
    assert "the clock is not set" in caught.value.hint


PROXIED = "Types: deb\nURIs: http://mirror.example.com\nSuites: bookworm\nComponents: main\n"


@pytest.mark.parametrize(
    "conf",
    [
        'Acquire::http::Proxy "URL";',
        'Acquire::http::Proxy "http://127.0.0.1:9"; '
        'Acquire::http::Proxy::mirror.example.com "URL";',
        'acquire { http { proxy "http://me:secret@HOST"; }; };',
    ],
)
def test_the_proxy_of_the_nodes_apt(world: World, conf: str) -> None:
    add_headers_of(world.archive, BACKPORT)
    world.archive.publish()
    sources(world, PROXIED)
    text = conf.replace("URL", world.server.url).replace("HOST", world.server.url[7:])
    write(world.root / "etc/apt/apt.conf.d/90proxy", text)
    assert headers(world) == "packages"
    assert all(path.startswith("http://mirror.example.com/") for path in world.server.requests)
    assert len(world.server.debs()) == 1
    assert "secret" not in world.said.getvalue()
    for path in (world.cache / "apt").rglob("*"):
        if path.is_file() and "secret" in path.read_text(errors="replace"):
            assert path.stat().st_mode & 0o077 == 0


def test_a_host_without_the_proxy(world: World) -> None:
    add_headers_of(world.archive, BACKPORT)
    world.archive.publish()
    conf = (
        'Acquire::http::Proxy "http://127.0.0.1:9"; Acquire::http::Proxy::127.0.0.1 "DIRECT";'
    )
    write(world.root / "etc/apt/apt.conf.d/90proxy", conf)
    assert headers(world) == "packages"


def test_the_setting_comes_before_the_nodes_proxy(world: World) -> None:
    add_headers_of(world.archive, BACKPORT)
    world.archive.publish()
    sources(world, PROXIED)
    write(
        world.root / "etc/apt/apt.conf.d/90proxy", 'Acquire::http::Proxy "http://127.0.0.1:9";'
    )
    provisioner = world.provisioner(proxy=world.server.url)
    assert provisioner.headers(BACKPORT, world.reporter).origin == "packages"


@pytest.fixture
def esm(tmp_path: Path, key: SigningKey, stranger: SigningKey) -> Iterator[World]:
    """An Ubuntu node with an archive of Ubuntu Pro, which has a key of its own."""
    with serving(tmp_path / "archive") as server:
        world = make_world(tmp_path, key, server, UBUNTU, "jammy")
        world.archive.publish()
        another(world, "fips", stranger, "5.15.0-91-fips", codename="jammy")
        write(
            world.root / "etc/apt/apt.conf.d/90proxy",
            f'Acquire::http::Proxy::esm.ubuntu.com "{server.url}"; '
            f'Acquire::http::Proxy::esm.example.com "{server.url}";',
        )
        yield world


PRO = "usr/share/keyrings/ubuntu-pro-fips.gpg"


@pytest.mark.parametrize("place", [PRO, "etc/apt/trusted.gpg.d/ubuntu-pro-fips.gpg"])
def test_ubuntu_pro(esm: World, stranger: SigningKey, place: str) -> None:
    stranger.public(esm.root / place)
    signed_by = f"[signed-by=/{PRO}] " if place == PRO else ""
    write(
        esm.root / "etc/apt/sources.list.d/ubuntu-fips.list",
        f"deb {signed_by}http://esm.ubuntu.com/fips fips main\n",
    )
    assert headers(esm, "5.15.0-91-fips") == "packages"


def test_the_keys_of_ubuntu_pro_are_for_its_archive_alone(
    esm: World, stranger: SigningKey
) -> None:
    stranger.public(esm.root / PRO)
    write(
        esm.root / "etc/apt/sources.list.d/ubuntu-fips.list",
        f"deb [signed-by=/{PRO}] http://esm.example.com/fips fips main\n",
    )
    with pytest.raises(ToolchainError, match=r"jammy has no linux-headers-5\.15\.0-91-fips"):
        headers(esm, "5.15.0-91-fips")
    assert esm.server.debs() == []
