"""The metrics as Prometheus's own tool sees them."""

from __future__ import annotations

import subprocess

import pytest

from modulus.core.findings import Finding
from modulus.core.status.build_counts import BuildRecord
from modulus.core.status.metrics import metrics_text
from modulus.core.status.state import KernelReady, State
from tests.support import packages
from tests.support.promtool import promtool

pytestmark = [pytest.mark.integration, pytest.mark.required("driver")]


def test_promtool_finds_nothing_wrong() -> None:
    try:
        tool = promtool()
    except packages.UnavailableError as error:
        # Neither installed nor to be had from the archive; where "driver" is required it is.
        pytest.skip(str(error))
    state = State(
        "driver-1.0",
        "watch",
        active=True,
        findings=(Finding("id", "usable", "warning", "m", "c", "f"),),
    )
    kernels = (KernelReady("6.1.0-9-amd64", True, True), KernelReady('6.2"\\', False, False))
    record = BuildRecord(2, 1, 5, {"6.1.0-9-amd64": 104.2}, kernels)
    text = metrics_text(state, record)
    checked = subprocess.run(
        [tool, "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    broken = text.replace(
        "# TYPE modulus_builds_total counter", "# TYPE modulus_builds_total x"
    )
    refused = subprocess.run(
        [tool, "check", "metrics"], input=broken, text=True, capture_output=True
    )
    assert refused.returncode
