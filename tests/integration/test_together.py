"""The vendor's tests of the kernel and objects, compiled together, beside the vendor's way."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import (
    PROFILES,
    Whole,
    build_open,
    build_vendors,
    build_whole,
    vendors_kept,
)
from tests.support.kernels import Kernels
from tests.support.system import Node
from tests.support.together import write_files

pytestmark = [pytest.mark.integration, pytest.mark.required("nspawn", "driver")]

REFUSED = 15


def answers(built: Whole) -> list[str]:
    """What the tests found; make prints the files that it makes of it, in no order."""
    return sorted(re.findall(r"^#(?:define|undef) .*", built.log, re.MULTILINE))


def all_of(log: str, what: str) -> int:
    """How many were compiled together, if a line of the log says that all were; else 0."""
    said = re.search(rf"^{what}: (\d+) of (\d+) (?:compiles|objects)\b", log, re.MULTILINE)
    return int(said[1]) if said and said[1] == said[2] else 0


def compare(together: Whole, alone: Whole) -> None:
    assert all_of(together.log, "conftest") > 150
    assert all_of(together.log, "batch") > 150
    assert not re.search("^(conftest|batch): ", alone.log, re.MULTILINE)
    assert len(answers(alone)) > 200
    assert answers(together) == answers(alone)
    assert together.digests == alone.digests


def test_answers_and_modules_are_the_vendors(
    whole: Whole, driver: str, mirrors: list[Any], tmp_path: Path
) -> None:
    compare(whole, vendors_kept(tmp_path / "node", driver, whole.release, mirrors=mirrors))


def test_the_open_flavours_are_the_vendors_too(
    opened: Whole, open_driver: str, mirrors: list[Any], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"mirrors": mirrors, "flavour": "open"}
    alone = vendors_kept(tmp_path / "node", open_driver, opened.release, **settings)
    compare(opened, alone)


# A module beside v4l2loopback's with events in a header of its own.
TRACED = {
    "traced.mk": """
obj-m += v4l2traced.o
v4l2traced-y := traced-points.o traced.o
ccflags-y += -I$(src)
""",
    "traced.patch": """\
--- /dev/null
+++ b/traced-events.h
@@ -0,0 +1,18 @@
+#undef TRACE_SYSTEM
+#define TRACE_SYSTEM v4l2traced
+#if !defined(TRACED_EVENTS_H) || defined(TRACE_HEADER_MULTI_READ)
+#define TRACED_EVENTS_H
+#include <linux/tracepoint.h>
+TRACE_EVENT(v4l2traced_xid,
+	TP_PROTO(u32 xid),
+	TP_ARGS(xid),
+	TP_STRUCT__entry(__field(u32, xid)),
+	TP_fast_assign(__entry->xid = xid;),
+	TP_printk("xid %u", __entry->xid)
+);
+#endif
+#undef TRACE_INCLUDE_PATH
+#undef TRACE_INCLUDE_FILE
+#define TRACE_INCLUDE_PATH .
+#define TRACE_INCLUDE_FILE traced-events
+#include <trace/define_trace.h>
--- /dev/null
+++ b/traced-points.c
@@ -0,0 +1,3 @@
+#include <linux/module.h>
+#define CREATE_TRACE_POINTS
+#include "traced-events.h"
--- /dev/null
+++ b/traced.c
@@ -0,0 +1,10 @@
+#include <linux/module.h>
+#include "traced-events.h"
+
+static int __init traced_init(void)
+{
+	trace_v4l2traced_xid(__LINE__);
+	return 0;
+}
+module_init(traced_init);
+MODULE_LICENSE("GPL");
""",
}


def small_node(folder: Path, release: str, *, batch: bool, traced: bool) -> Node:
    """A node with a profile of its own of the small driver, perhaps with the traced module."""
    profile = yaml.safe_load((PROFILES / "v4l2loopback.yaml").read_text())
    profile["make"]["batch"] = batch
    files = {}
    if traced:
        profile["build"].append("v4l2traced")
        profile["files"] = [{"file": "traced.mk", "append_to": "Makefile"}]
        profile["patches"] = [{"file": "traced.patch"}]
        files = TRACED
    node = Node(folder, release)
    own = {**files, "v4l2loopback.yaml": yaml.safe_dump(profile)}
    write_files(folder / "etc/modulus/profiles", own)
    return node


def build_small(node: Node, instance: str, release: str) -> tuple[str, dict[str, str]] | None:
    """The log and the modules' digests; None if the kernel is not one for this driver."""
    done = node.run("build", instance, "--json")
    if done.status == REFUSED:
        return None
    assert done.status == 0, done.stderr
    (result,) = done.json["results"]
    return Path(result["path"], "build.log").read_text(), node.digests(release)


def compare_small(folder: Path, instance: str, release: str, *, traced: bool) -> Node | None:
    """The node that built together, with the same modules as one that did not."""
    nodes = [
        small_node(folder / f"{release}-{batch}", release, batch=batch, traced=traced)
        for batch in (True, False)
    ]
    together, alone = (build_small(node, instance, release) for node in nodes)
    if together is None or alone is None:
        assert together == alone
        return None
    assert all_of(together[0], "batch") == (3 if traced else 1)
    assert "batch: " not in alone[0]
    assert together[1] == alone[1]
    assert len(together[1]) == (2 if traced else 1)
    return nodes[0]


def test_a_driver_keeps_its_events(kernels: Kernels, instance: str, tmp_path: Path) -> None:
    for release in (kernels.newest(), *kernels.others()):
        node = compare_small(tmp_path, instance, release, traced=True)
        assert node is not None
        module = node.modules(release)["v4l2traced.ko"]
        sections = subprocess.run(
            ["readelf", "-SW", module], check=True, capture_output=True, text=True
        ).stdout
        assert {"_ftrace_events", "__tracepoints"} <= set(sections.split())


@pytest.mark.full
def test_the_small_driver_is_the_same_for_each_kernel(
    kernels: Kernels, instance: str, tmp_path: Path
) -> None:
    built = {
        release: compare_small(tmp_path, instance, release, traced=False) is not None
        for release in kernels.newest_of_each()
    }
    # Cloud kernels have no video devices.
    assert built == {release: "-cloud-" not in release for release in built}


@pytest.mark.full
@pytest.mark.parametrize(
    ("of", "flavour"),
    [("driver", "proprietary"), ("open_driver", "open")],
)
def test_the_vendors_driver_is_the_same_for_each_kernel(
    of: str,
    flavour: str,
    kernels: Kernels,
    mirrors: list[Any],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    version = request.getfixturevalue(of)
    settings: dict[str, Any] = {"mirrors": mirrors, "flavour": flavour}
    for release in kernels.newest_of_each():
        if "-rt-" in release:
            continue  # The vendor refuses them, and so does the profile.
        folder = tmp_path / release
        build = build_open if flavour == "open" else build_whole
        together = build(folder / "together", version, release, **settings)
        alone = build_vendors(folder / "vendors", version, release, **settings)
        compare(together, alone)
