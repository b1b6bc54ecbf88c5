"""How long a report takes: as many kernels and claims as there are, with evidence as large as a run's."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.measure import Row, seconds

BOUND = 12.0


def report_of_kernels(kernels: int) -> Row:
    """The page of so many kernels with 125 claims each, from evidence that is made up for it."""
    from harness.report.page import render
    from harness.report.table import read
    from tests.report.made_evidence import full_run

    with tempfile.TemporaryDirectory(prefix="tcp-harness-bench-") as directory:
        places = [Path(directory, f"6.{n}") for n in range(kernels)]
        for place in places:
            full_run(place, place.name)
        taken = seconds(lambda: render(read(places)))
    return Row(
        f"report of {kernels} kernels, 125 claims each", f"{taken:.1f} s", "", f"at most {BOUND:g} s", taken <= BOUND
    )
