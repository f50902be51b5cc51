"""A reporter whose lines nobody reads."""

from __future__ import annotations

import io

from modulus.host.report.reporter import PlainReporter

QUIET = PlainReporter(io.StringIO())
