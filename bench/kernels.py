"""Other kernels in simulated time: how soon a machine is ready, how fast its waits pass, what a suite costs.

python -m bench.kernels              how soon it is ready, and waits, of the newest kernel; some minutes
python -m bench.kernels suite        and the whole suite on it
python -m bench.kernels suite all    and on one kernel of each series, two machines at a time
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import execnet

from bench.first_test import SAID
from bench.measure import Row
from harness.kernels import archive, catalogue, places, targets
from harness.kernels.project import Project
from harness.kernels.store import Store, Stored

PROJECT = Path(__file__).parents[1]
WAIT = 7200


def newest() -> Stored:
    """The newest kernel of the archive, from the cache if it is there."""
    source = archive.Archive(places.indices() / "machine", archive.machine_sources())
    source.update()
    (chosen,) = catalogue.choose(["newest"], catalogue.kernels_of(source.packages()))
    return Store(places.kernels()).fetch(chosen, source)


def machine(kernel: Stored) -> tuple[execnet.Gateway, float]:
    """A restored machine that has answered, and how many seconds that took."""
    started = time.perf_counter()
    made = execnet.makegateway(targets.archived(kernel).worker(Project(PROJECT, ("scenarios",))))
    assert made.remote_exec("channel.send(1)").receive() == 1
    return made, time.perf_counter() - started


def ready(kernel: Stored, rounds: int = 5) -> Row:
    """From nothing to a machine whose interpreter answers, warm; what pytest does before its first test comes after."""
    machine(kernel)[0].exit()
    taken = []
    for _ in range(rounds):
        made, seconds = machine(kernel)
        made.exit()
        taken.append(seconds)
    median = statistics.median(taken)
    return Row("from restoring to a machine that answers", f"{median:.2f} s", "", "at most 1 s", median <= 1)


def first_test(kernel: Stored, words: list[str], rounds: int = 5) -> Row:
    """From nothing to the beginning of the first test, warm: with pytest's own start and collection in the machine."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        *words,
        "--tcp-kernel",
        kernel.release,
        "--tcp-claim",
        "tw-reuse.default",
    ]
    command += ["-q", "-p", "no:cacheprovider", "-p", "bench.first_test"]
    taken = []
    with tempfile.TemporaryDirectory() as evidence:
        for _ in range(rounds + 1):
            ran = subprocess.run(
                [*command, "--tcp-evidence", evidence], cwd=PROJECT, check=True, capture_output=True, text=True
            )
            taken.append(float(re.findall(rf"{SAID} ([\d.]+) s", ran.stdout)[0]))
    # The first made the state that the others restored.
    median = statistics.median(taken[1:])
    return Row(
        f"from restoring to the first test of {' '.join(words)}", f"{median:.2f} s", "", "at most 1 s", median <= 1
    )


def waits(kernel: Stored) -> Row:
    """Seconds of the kernel that pass in one real second while nothing is to be done in it."""
    made, _ = machine(kernel)
    started = time.perf_counter()
    made.remote_exec(f"import time; time.sleep({WAIT}); channel.send(1)").receive()
    ratio = WAIT / (time.perf_counter() - started)
    made.exit()
    return Row("kernel seconds in an idle second", f"{ratio:.0f}", "", "at least 500", ratio >= 500)


def suite(words: list[str], bound: float) -> Row:
    """The whole suite, in real seconds: with one machine, which is one thread, no less than it takes of a core."""
    command = [sys.executable, "-m", "pytest", "scenarios/", "-q", "-p", "no:cacheprovider"]
    command += [word for kernel in words for word in ("--tcp-kernel", kernel)]
    started = time.perf_counter()
    ran = subprocess.run(command, cwd=PROJECT, check=False, capture_output=True, text=True)
    passed = time.perf_counter() - started
    summary = (re.findall(r"\d+ (?:passed|failed|error)[^=]*", ran.stdout) or ["?"])[-1].strip()
    met = passed <= bound and ran.returncode == 0
    return Row(f"the suite on {' '.join(words)} ({summary})", f"{passed:.0f} s", "", f"at most {bound:.0f} s", met)


def main() -> int:
    """Measure what was asked for, print a Markdown table, return 0 if every bound is met."""
    kernel = newest()
    rows = [ready(kernel), *(first_test(kernel, [what]) for what in ("scenarios/test_tw_reuse_when.py", "scenarios/"))]
    rows.append(waits(kernel))
    if "suite" in sys.argv:
        rows.append(suite(["newest"], 90))
        if "all" in sys.argv:
            rows.append(suite(["all"], 600))
    print(f"kernel {kernel.release} on {os.cpu_count()} cores\n")
    print("| what | here | must be | met |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.ours} | {row.bound} | {'yes' if row.met else 'NO'} |")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
