"""Whether simulated time tells lies: the same timed claims, on the same kernel, in simulated and in real time.

    python -m bench.simulated [KERNEL]

Real time without KVM needs a quiet machine: the guest's own work takes ten times as long as outside, and what it is
late with, a round trip or an acknowledgement, is in its timers. So a claim that differs is run once more, alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.claims.verdicts import measurements

if TYPE_CHECKING:
    from collections.abc import Sequence

PROJECT = Path(__file__).parents[1]
CLAIMS = (
    *("connect-timeout.default-over-a-minute", "connect-timeout.retries2", "connect-timeout.rto-bounds"),
    *("connect-timeout.sndtimeo-caps", "connect-timeout.syn-retries-table", "incidents.silent-database"),
    *("syn-queue.fewer-retries-evict-sooner", "syn-queue.retries-then-closed", "time-wait.fin-timeout-sets-it"),
    *("time-wait.lasts-60s", "time-wait.wider-range-helps", "tw-reuse.after-one-second"),
)
# A timer of the wheel ends up to an eighth later than asked for (kernel/time/timer.c), and a short one by some ticks.
STEP, TICKS = 1 / 8, 0.06
# Differences of less than this are the harness's own work, not the kernel's timers.
SHORTEST = 0.15


def run(kernel: str, claims: Sequence[str], place: Path, *more: str) -> float:
    """Run claims for IPv4; how long it took."""
    command = [sys.executable, "-m", "pytest", "scenarios/", "-q", "-p", "no:cacheprovider", "-k", "ipv4", *more]
    command += ["--kernel", kernel, "--evidence", str(place)]
    command += [word for claim in claims for word in ("--claim", claim)]
    started = time.perf_counter()
    subprocess.run(command, cwd=PROJECT, check=False, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def durations(evidence: dict[str, Any]) -> dict[str, float]:
    """The measured durations: each number with a fraction, those of a list by their place."""
    found = {}
    for what, value in measurements(evidence).items():
        for number, one in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(one, float) and one >= SHORTEST:
                found[f"{what} ({number + 1})" if isinstance(value, list) else what] = one
    return found


def compare(claim: str, simulated: Path, real: Path) -> list[str]:
    """Print a row for each duration of a claim; what differs by more than a step of its timer."""
    files = [place / f"{claim}.json" for place in (simulated, real)]
    if not all(file.exists() for file in files):
        return [f"{claim}: no evidence"]
    left, right = (durations(json.loads(file.read_text(encoding="utf-8"))) for file in files)
    worst = []
    for what, a in left.items():
        b = right.get(what, float("nan"))
        good = abs(a - b) <= max(STEP * a, TICKS)
        print(f"| {claim} | {what} | {a:.3f} | {b:.3f} | {abs(a - b):.3f}{'' if good else ' !'} |")
        worst += [] if good else [f"{claim}: {what}: {a:.3f} and {b:.3f}"]
    return worst


def main() -> int:
    """Print a table of each pair; 1 if one differs by more than a step of its timer, also when it is run alone."""
    kernel = (sys.argv[1:] or ["newest"])[0]
    with tempfile.TemporaryDirectory() as directory:
        simulated, real, alone = (Path(directory, name) for name in ("simulated", "real", "alone"))
        seconds = (
            run(kernel, CLAIMS, simulated),
            run(kernel, CLAIMS, real, "--real-time", "-n", str(len(CLAIMS) // 2)),
        )
        print(f"{kernel}: {seconds[0]:.0f} s in simulated time, {seconds[1]:.0f} s in real time\n")
        print("| claim | what | simulated | real | differ |\n|---|---|---|---|---|")
        differ = [claim for claim in CLAIMS if compare(claim, simulated, real)]
        worst: list[str] = []
        if differ:
            print("\n| once more, alone | what | simulated | real | differ |\n|---|---|---|---|---|")
            for claim in differ:
                run(kernel, [claim], alone, "--real-time", "-n", "1")
                worst += compare(claim, simulated, alone)
    for line in worst:
        print(line, file=sys.stderr)
    return 1 if worst else 0


if __name__ == "__main__":
    sys.exit(main())
