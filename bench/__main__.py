"""Run every measurement and print the table; the exit code says whether all bounds are met."""

from __future__ import annotations

import os
import sys

from bench.collecting import collect_only
from bench.desk import remedies_of_a_full_queue
from bench.floods import flood_rates
from bench.labs import hosts_in_one, labs_in_sequence, pair_released, pair_up
from bench.reports import report_of_kernels
from bench.snapshots import snapshot_of_many


def main() -> int:
    """Measure, print a Markdown table, return 0 if every bound is met."""
    rows = [
        pair_up(25),
        pair_released(25),
        labs_in_sequence(200),
        hosts_in_one(1000),
        *flood_rates(3),
        collect_only(3),
        report_of_kernels(12),
        remedies_of_a_full_queue(),
        *snapshot_of_many(200_000),
    ]
    print(f"Linux {os.uname().release}, {os.cpu_count()} cores\n")
    print("| what | here | beside it | must be | met |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.ours} | {row.other} | {row.bound} | {'yes' if row.met else 'NO'} |")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
