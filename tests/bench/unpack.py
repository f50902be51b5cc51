"""Unpacking: the kernel sources by us, the whole package by itself."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from modulus.core.package.run_header import HEADER_BYTES, parse_header
from tests.bench.measure import FailedError, remove
from tests.bench.ratios import Cost, Result, Row, rounds
from tests.bench.site import Site
from tests.support import runfile

ROWS = (
    Row("unpack-zstd", "kernel sources of a .run, zstd", "`sh X.run -x`", 0.3),
    Row("unpack-xz", "kernel sources of a .run, xz", "`sh X.run -x`", 0.6),
)

# What the vendor's header does for -x, step by step: both sums over all from line 4 on, the
# payload through the decompressor to a tar that names each file, a dot for each, an owner.
STUB = """\
skip={skip}
label="{label}"
version_string={version}
targetdir={target}
echo "Creating directory $targetdir"
mkdir -p $targetdir || exit 1
printf 'Verifying archive integrity... '
sum=$(tail -n +4 "$0" | cksum | awk '{{print $1}}')
[ "$sum" = "$CRCsum" ] || {{ echo "Error in checksums $sum $CRCsum"; exit 2; }}
sum=$(tail -n +4 "$0" | md5sum | cut -b-32)
[ "$sum" = "$MD5" ] || {{ echo "Error in md5 sums $sum $MD5"; exit 2; }}
echo OK
printf 'Uncompressing %s' "$label"
cd $targetdir || exit 1
tail -n +$skip "$0" | {tool} -d | tar xvf - 2>/dev/null |
    (while read -r name; do printf .; done; echo)
chown -Rf "$(id -u):$(id -g)" .
[ -e .manifest ]
exit
"""


def results(site: Site, rows: tuple[Row, ...], pairs: int) -> list[Result]:
    """The rows that are among ``rows``."""
    return [_measure(site, row, pairs) for row in rows if row in ROWS]


def executable(source: Path, target: Path, tool: str) -> Path:
    """A copy of the .run ``source`` that unpacks itself as the vendor's does.

    Those of the tests tell on whoever executes them.
    """
    with open(source, "rb") as file:
        header = parse_header(file.read(HEADER_BYTES))
        file.seek(0)
        payload = file.read().split(b"\n", header.payload_line - 1)[-1]
    stub = STUB.format(
        skip=STUB.count("\n") + 4,
        label=header.label,
        version=header.version,
        target=header.target,
        tool=tool,
    )
    rest = stub.encode() + payload
    sums = target.with_suffix(".rest")
    sums.write_bytes(rest)
    crc = subprocess.check_output(["cksum", sums], text=True).split()[0]
    sums.unlink()
    md5 = hashlib.md5(rest, usedforsecurity=False).hexdigest()
    target.write_bytes(f"#! /bin/sh\nCRCsum={crc}\nMD5={md5}\n".encode() + rest)
    return target


def _measure(site: Site, row: Row, pairs: int) -> Result:
    tool = row.name.partition("-")[2]
    source, _ = runfile.nvidia_run(tool)
    folder = site.work / row.name
    folder.mkdir()
    run = executable(source, folder / source.name, tool)
    costs: dict[str, list[Cost]] = {"ours": [], "theirs": []}
    for name in rounds([*costs], pairs):
        target = folder / name
        target.mkdir()
        words = (
            [site.program("tests.bench.unpacker"), run, target / "kernel"]
            if name == "ours"
            else ["sh", run, "-x"]
        )
        costs[name].append(site.meter.run(*words, cwd=target))
        if not any(target.rglob("conftest.sh")):
            raise FailedError(f"{row.name}: {name} unpacked no kernel sources")
        remove(target)
    size = run.stat().st_size
    note = f"{run.name}, {size / 1e6:.0f} MB, put together of the distribution's packages"
    remove(folder)
    return Result(row, tuple(costs["ours"]), tuple(costs["theirs"]), (), (note,))
