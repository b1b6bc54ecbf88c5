"""How long pytest takes to know what there is to run."""

from __future__ import annotations

import subprocess
import sys

from bench.measure import Row, milliseconds, seconds


def collect_only(rounds: int) -> Row:
    """`pytest --collect-only scenarios/` as a whole process, the median."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "scenarios/"]
    taken = sorted(
        seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)) for _ in range(rounds)
    )
    median = taken[rounds // 2]
    return Row("pytest --collect-only scenarios/", milliseconds(median), "", "at most 2 s", median <= 2)
