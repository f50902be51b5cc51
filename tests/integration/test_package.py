"""The Debian package: what is in it, lintian's word on it, the same bits every time."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import packages
from tests.support.checkout import ROOT, copy_checkout, set_version
from tests.support.cloudinit import schema_errors
from tests.unit.core.test_userdata import EXAMPLES, rendered

pytestmark = pytest.mark.integration


def build(checkout: Path, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "scripts/package", folder],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    # Others may work on the checkout meanwhile; all tests see one state of it.
    done = build(copy_checkout(folder / "checkout"), folder / "dist")
    assert done.returncode == 0, done.stderr
    (found,) = (folder / "dist").iterdir()
    assert done.stdout == f"{found}\n"
    return found


def listing(deb: Path) -> dict[str, str]:
    """The package's files with their modes and owners."""
    text = subprocess.run(
        ["dpkg-deb", "--contents", deb], capture_output=True, text=True, check=True
    ).stdout
    lines = [line.split(maxsplit=5) for line in text.splitlines()]
    return {line[5].removeprefix("."): f"{line[0]} {line[1]}" for line in lines}


def control(deb: Path, name: str) -> list[str]:
    """The lines of one of the package's control files."""
    done = subprocess.run(
        ["dpkg-deb", "--info", deb, name], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_lintian_finds_nothing(deb: Path) -> None:
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", deb],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_same_checkout_gives_the_same_bits(deb: Path, tmp_path: Path) -> None:
    """Wherever it lies, whatever its modes and times, whoever makes it."""
    other = copy_checkout(tmp_path / "other")
    for path in other.rglob("*"):
        os.utime(path, (1, 1))
        if path.suffix in (".py", ".yaml", ".md"):
            path.chmod(0o600)
    done = build(other, tmp_path / "dist", TZ="Asia/Tokyo", LC_ALL="C.UTF-8")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == deb.read_bytes()


def test_all_of_modulus_is_in_it(deb: Path) -> None:
    found = listing(deb)
    home = "/usr/lib/python3/dist-packages/modulus"
    checkout = deb.parents[1] / "checkout"
    wanted = {
        f"{home}/{path.relative_to(checkout / 'modulus')}"
        for pattern in ("**/*.py", "templates/*", "payload/*", "py.typed")
        for path in (checkout / "modulus").glob(pattern)
    }
    assert {path for path in found if path.startswith(home) and path[-1] != "/"} == wanted
    profiles = {f"/usr/share/modulus/profiles/{path.name}" for path in ROOT.glob("profiles/*")}
    assert profiles <= set(found)
    for unit in (checkout / "units").iterdir():
        assert any(Path(path).stem == unit.stem for path in found), unit
    # A link is none of ours, and what root runs nobody else writes.
    modes = {words.split()[0] for words in found.values()}
    assert modes == {"drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x"}
    assert {words.split()[1] for words in found.values()} == {"root/root"}
    hooks = {f"/etc/kernel/{kind}.d/modulus" for kind in ("postinst", "header_postinst")}
    programs = {path for path, words in found.items() if words.startswith("-rwx")}
    assert programs == {
        "/usr/bin/modulus",
        "/usr/lib/kernel/install.d/90-modulus.install",
        *hooks,
    }
    assert control(deb, "conffiles") == sorted(hooks)
    summed = {f"/{line.split(maxsplit=1)[1]}" for line in control(deb, "md5sums")}
    files = {path for path in found if path[-1] != "/"}
    assert summed == files - hooks, "who changed a hook is no fault in the package"


def test_a_version_without_its_changelog_is_refused(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    set_version(checkout, "9.9")
    entry = (ROOT / "scripts/deb/changelog").read_text()
    (checkout / "scripts/deb/changelog").write_text(entry)
    done = build(checkout, tmp_path / "dist")
    assert done.returncode == 1
    assert "package: error: modulus/__init__.py says 9.9" in done.stderr
    assert "package: hint: " in done.stderr


def test_a_unit_without_a_place_is_refused(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    (checkout / "units/modulus.strange").touch()
    done = build(checkout, tmp_path / "dist")
    assert done.returncode == 1
    assert "units/modulus.strange has no place" in done.stderr


@pytest.mark.parametrize("name", EXAMPLES)
def test_cloud_init_takes_what_is_rendered(name: str, tmp_path: Path) -> None:
    file = tmp_path / "user-data"
    file.write_text(rendered(*EXAMPLES[name]))
    assert check(file) == ""
    assert check(ROOT / "docs/examples" / name) == ""


def test_cloud_init_takes_what_the_docs_add(tmp_path: Path) -> None:
    text = (ROOT / "docs/cloud-init.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        file = tmp_path / "user-data"
        file.write_text(f"{rendered(*EXAMPLES['fleet.yaml'])}\n{block}")
        assert check(file) == ""


def test_cloud_init_takes_every_setting(tmp_path: Path) -> None:
    file = tmp_path / "user-data"
    settings = ["proxy=http://u:p'x@proxy:3128", "metrics_dir='/a: {b}'", "build.jobs=4"]
    file.write_text(rendered(settings, EXAMPLES["node.yaml"][1]))
    assert check(file) == ""


def test_cloud_init_would_say_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "user-data"
    file.write_text(f"{rendered([])}\nwrite_files: [{{content: x}}]\n")
    assert "write_files" in check(file)


def check(file: Path) -> str:
    try:
        return schema_errors(file)
    except packages.UnavailableError as error:
        pytest.skip(str(error))
