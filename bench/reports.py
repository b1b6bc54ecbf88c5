"""How long a report takes: as many kernels and claims as there are, with evidence as large as a run's."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.measure import Row

# In seconds of a processor.
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
        # It is work and nothing else: what other processes do meanwhile does not count.
        began = time.process_time()
        render(read(places))
        taken = time.process_time() - began
    return Row(
        f"report of {kernels} kernels, 125 claims each",
        f"{taken:.1f} s of a processor",
        "",
        f"at most {BOUND:g} s",
        taken <= BOUND,
    )
