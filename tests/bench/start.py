"""What is done often and has to be quick: a warm ``up``, and the command itself."""

from __future__ import annotations

import os
from pathlib import Path

from tests.bench.measure import FailedError
from tests.bench.ratios import Cost, Result, Row, rounds
from tests.bench.site import Site
from tests.support.fakedriver import NODES, FakeNode

WARM = Row("warm", "warm `up` to READY, without the modprobes", "a ten-line shell script", 3.5)
HELP = Row("help", "`-h`", "`/usr/bin/python3 -c pass`", 6)
ROWS = (WARM, HELP)

_TIMES = 20
"""Of what takes milliseconds one measurement is the mean of this many runs."""

_MODULE_BYTES = 62 << 20
"""What the largest module of the real driver has, which a warm start hashes."""

_PROBES = """\
for module in helper gpu gpu-uvm; do
    modprobe -d {root}/opt/drivers/gpu --ignore-install "$module" || exit
done
"""
# No more than modprobe and mknod, as one would write it for a node that one knows.
_BARE = f"""\
major() {{{{ awk -v name="$1" '$2 == name {{{{ print $1 }}}}' {{root}}/proc/devices; }}}}
{_PROBES}uvm=$(major gpu-uvm)
gpu=$(major gpu)
mknod -m 666 {{root}}/dev/gpuctl c "$gpu" 255
mknod -m 666 {{root}}/dev/gpu0 c "$gpu" 0
mknod -m 666 {{root}}/dev/gpu-uvm c "$uvm" 0
"""


def results(site: Site, rows: tuple[Row, ...], pairs: int) -> list[Result]:
    """The rows that are among ``rows``."""
    measured = {WARM: _warm, HELP: _help}
    return [measured[row](site, pairs) for row in rows if row in measured]


def _warm(site: Site, pairs: int) -> Result:
    """On a root of our own with stand-ins for modprobe and the kernel, the same for both."""
    folder = site.work / "warm"
    folder.mkdir()
    node = FakeNode(folder)
    node.stock(padding=_MODULE_BYTES)
    env = {"PATH": node.path}
    scripts = {"theirs": _BARE, "modprobes": _PROBES}
    commands: dict[str, list[str | Path]] = {
        name: ["sh", "-c", script.format(root=node.root)] for name, script in scripts.items()
    }
    commands["ours"] = [site.program(), "up", "gpu-1.0", "--root", node.root]
    # What only a warm start has is there once it has been up twice.
    for _ in range(2):
        site.meter.work(*commands["ours"], env=env)
        node.reboot()
    costs: dict[str, list[Cost]] = {name: [] for name in ("ours", "theirs", "modprobes")}
    for name in rounds([*costs], pairs):
        total = Cost()
        with site.meter.alone():
            for _ in range(_TIMES):
                node.reboot()
                total += site.meter.run(*commands[name], env=env)
                if name != "modprobes" and set(node.nodes()) != set(NODES):
                    raise FailedError(f"warm: {name} made the nodes {sorted(node.nodes())}")
        costs[name].append(total / _TIMES)
    ours, theirs, bare = costs["ours"], costs["theirs"], costs["modprobes"]
    rest = [one - other for one, other in zip(ours, bare, strict=True)]
    others = [one - other for one, other in zip(theirs, bare, strict=True)]
    strict = Result(WARM, tuple(rest), tuple(others))
    notes = (
        f"each is the mean of {_TIMES} runs, on a root of its own with a module of "
        f"{_MODULE_BYTES >> 20} MiB and stand-ins for modprobe and the kernel",
        f"with the modprobes taken off the script too: {strict.ratio.median:.2f}",
    )
    return Result(WARM, tuple(rest), tuple(theirs), (), notes)


def _help(site: Site, pairs: int) -> Result:
    commands: dict[str, list[str | Path]] = {
        "ours": [site.program(), "-h"],
        "theirs": ["/usr/bin/python3", "-c", "pass"],
    }
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    quiet = Path(os.devnull)
    for name in rounds([*costs], pairs):

        def work(name: str = name) -> None:
            for _ in range(_TIMES):
                site.meter.work(*commands[name], output=quiet)

        costs[name].append(site.meter.call(work) / _TIMES)
    notes = (f"each is the mean of {_TIMES} runs",)
    return Result(HELP, tuple(costs["ours"]), tuple(costs["theirs"]), (), notes)
