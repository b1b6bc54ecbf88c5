"""Whether simulated time tells lies: the same timed claims, on the same kernel, in simulated and in real time.

    python -m bench.simulated [KERNEL]

Real time without KVM needs a quiet machine: the guest's own work takes ten times as long as outside, and what it is
late with, a round trip or an acknowledgement, is in its timers. So a claim that differs is run once more, alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.evidence.codec import read
from harness.evidence.values import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.evidence.types import EvidenceFile
    from harness.evidence.values import Value

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
    command += ["--tcp-kernel", kernel, "--tcp-evidence", str(place)]
    command += [word for claim in claims for word in ("--tcp-claim", claim)]
    started = time.perf_counter()
    subprocess.run(command, cwd=PROJECT, check=False, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def durations(evidence: EvidenceFile) -> dict[tuple[object, ...], tuple[str, float]]:
    """What clocks measured, by test and place: what it is called, and seconds."""
    measured: dict[tuple[object, ...], tuple[str, float]] = {}
    for run in evidence.runs:
        for place, phase in enumerate(run.phases):
            for number, comparison in enumerate(phase.comparisons):
                for part, duration in enumerate(clocks(comparison.measured)):
                    what = f"{phase.title}: {comparison.what}" + (f" ({part + 1})" if part else "")
                    if duration >= SHORTEST:
                        measured[run.test, place, number, part] = what, duration
    return measured


def clocks(value: Value) -> Iterator[float]:
    """What a clock read, in a value and in its parts."""
    if value.kind is Kind.SECONDS and isinstance(value.value, (int, float)):
        yield float(value.value)
    for part in (*value.parts, *value.fields.values()):
        yield from clocks(part)


def compare(claim: str, simulated: Path, real: Path) -> list[str]:
    """Print a row for each duration of a claim; what differs by more than a step of its timer."""
    files = [place / f"{claim}.json" for place in (simulated, real)]
    if not all(file.exists() for file in files):
        return [f"{claim}: no evidence"]
    left, right = (durations(read(file)) for file in files)
    worst = []
    for place, (what, a) in left.items():
        _, b = right.get(place, (what, float("nan")))
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
            run(kernel, CLAIMS, real, "--tcp-real-time", "-n", str(len(CLAIMS) // 2)),
        )
        print(f"{kernel}: {seconds[0]:.0f} s in simulated time, {seconds[1]:.0f} s in real time\n")
        print("| claim | what | simulated | real | differ |\n|---|---|---|---|---|")
        differ = [claim for claim in CLAIMS if compare(claim, simulated, real)]
        worst: list[str] = []
        if differ:
            print("\n| once more, alone | what | simulated | real | differ |\n|---|---|---|---|---|")
            for claim in differ:
                run(kernel, [claim], alone, "--tcp-real-time", "-n", "1")
                worst += compare(claim, simulated, alone)
    for line in worst:
        print(line, file=sys.stderr)
    return 1 if worst else 0


if __name__ == "__main__":
    sys.exit(main())
