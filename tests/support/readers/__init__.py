"""Every reader of a file of ours, and of others' that may be damaged; here, what they share."""

from __future__ import annotations

import io

from modulus.core.kernel.identity import KernelId
from modulus.host.report.reporter import PlainReporter

RELEASE, NAME = "6.1.0-9-amd64", "gpu-1.0"
KERNEL = KernelId(RELEASE, "#1 SMP", "ab")
SHA = "ab" * 32
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
REPORTER = PlainReporter(io.StringIO())
