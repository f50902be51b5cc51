"""A node's own headers that turn out no use once they are read."""

from __future__ import annotations

import io
from pathlib import Path

from modulus.core.distribution.families import DEBIAN, Distribution
from modulus.host.distribution.provisioner import Provisioner
from modulus.host.report.reporter import PlainReporter
from tests.support import headertrees
from tests.support.fakedriver import store_entry
from tests.support.headertrees import RELEASE, write


def test_those_of_packages_are_provided_and_known_then(tmp_path: Path) -> None:
    """The facts of a build are looked up once more after it has what it takes."""
    root, store, said = tmp_path / "root", tmp_path / "store", io.StringIO()
    headertrees.single(root)
    write(root / "elsewhere/file")
    (own,) = root.glob("usr/src/*/")
    headertrees.link(own / "out", "/elsewhere")
    bookworm = Distribution(DEBIAN, "bookworm", "amd64")
    store_entry(
        store / "headers",
        {"tree/build/Module.symvers": ""},
        release=RELEASE,
        origin="packages",
        symvers_sha256="0" * 64,
        found_by=[f"packages/{bookworm}/{RELEASE}/none"],
    )
    provisioner = Provisioner(tmp_path / "cache", root, bookworm, [store], offline=True)
    assert provisioner.headers_recorded(RELEASE) is None, "the node's own goes first"
    found = provisioner.headers(RELEASE, PlainReporter(said))
    assert found.origin == "packages"
    assert "leads out of it" in said.getvalue()
    assert provisioner.headers_recorded(RELEASE) == found
