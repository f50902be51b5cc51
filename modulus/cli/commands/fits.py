"""``modulus fits``: says which drivers build for which kernels, as far as is known here."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from modulus.cli import output
from modulus.cli.system import make_node, make_store_site
from modulus.core.kernel.release import check_name
from modulus.host.report.reporter import Reporter
from modulus.pipeline.build.history import fits, known


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Tells of the named instance, or of all that were built; of one kernel, or of all."""
    if options.kernel is not None:
        check_name(options.kernel)
    if options.instance:
        node = make_node(options, reporter)
        node.site.tell_store_problems(reporter)
        kernels = (options.kernel,) if options.kernel else node.site.host.kernels
        found = fits(node, kernels)
    else:
        found = known(make_store_site(options, reporter))
    if options.kernel:
        found = tuple(fit for fit in found if fit.kernel == options.kernel)
    value = {"fits": [asdict(fit) for fit in found]}
    output.show(value, options.json, output.fits_text(value["fits"]))
    return 0
