"""This checkout against another one, turn about in one run: processor time, seconds, and whether noise lets one tell.

    git worktree add ../before 69862b8
    python -m bench.against ../before [NAME …] [--rounds 5] [--write]

Both run by this interpreter with these libraries, each with a cache of its own; --write puts the table into
docs/performance.md. A bound is met, or not, where the middle half of the pairs agrees; otherwise it is too noisy.

Where the suite has grown since, its cost says little about what a test costs: "of the claims of both" are measures of
the scenarios of those claims that both checkouts have.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parents[1]
PAGE = HERE / "docs" / "performance.md"
BEGIN, END = "<!-- measured by bench.against -->\n", "<!-- end -->\n"
# Where a scenario says which claim it settles.
CLAIM = re.compile(r"""mark\.claim\(\s*["']([^"']+)""")
HARNESS = ("-c", "from harness.cli import main; main()")
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--{tcp}evidence", "{work}/evidence")
IN_A_LAB = "from harness.lab import Lab, pair, lan, isolation; isolation.isolate()\n"
# Run what follows in a copy of the scenarios, in which one file has another line each time.
EDIT_A_COPY = """import os, shutil, sys
copy = "{work}/copy"
if not os.path.exists(copy):
    shutil.copytree("scenarios", copy + "/scenarios", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(name, copy)
os.chdir(copy)
with open("scenarios/test_ports.py", "a") as edited:
    edited.write("# another line\\n")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
ROUNDS = 5
# Processes that outlive the command (a virtual machine ends a moment later) become children of this program
# (PR_SET_CHILD_SUBREAPER, prctl(2)) and are waited for, a minute at most: only then is their processor time counted. It
# writes when the command itself ended to the descriptor that is its first argument.
WAITS_FOR_ALL = """import ctypes, os, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
first = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
status = os.waitpid(first, 0)[1]
os.write(int(sys.argv[1]), str(time.perf_counter()).encode())
until = time.monotonic() + 60
try:
    while time.monotonic() < until:
        if os.waitpid(-1, os.WNOHANG) == (0, 0):
            time.sleep(0.002)
except ChildProcessError:
    pass
code = os.waitstatus_to_exitcode(status)
sys.exit(code if code >= 0 else 128 - code)
"""
# What a process on an idle machine may take beside what it works itself, for waits and for the disk.
BUSY = 1.5


@dataclass(frozen=True)
class Measure:
    """A command that both checkouts run, and what is wanted of it.

    `seconds` and `busy`, of a processor, are bounds of this checkout, `ratio` is one of the two's processor times.
    `without` are what is removed from the cache before each run, below it; "" is all of it. `first` runs once before,
    and then the command itself `warm` times. The other checkout runs `then`, where that is something else. In place of
    the word {claims} stand the options that select the claims of both checkouts.
    """

    argv: tuple[str, ...]
    seconds: float | None = None
    busy: float | None = None
    ratio: float | None = None
    without: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    by_name: bool = False
    warm: int = 0
    then: tuple[str, ...] | None = None


MEASURES = {
    "kernels list, cold": Measure((*HARNESS, "kernels", "list"), seconds=10, without=("",)),
    "kernels list, warm": Measure((*HARNESS, "kernels", "list"), seconds=0.5, first=(*HARNESS, "kernels", "list")),
    "first verdict, cold": Measure(
        (*PYTEST, "scenarios/", "--{tcp}kernel", "6.12", "--{tcp}claim", "tw-reuse.default"),
        seconds=90,
        without=("images", "states", "worlds"),
        first=(*HARNESS, "kernels", "fetch", "6.12"),
        by_name=True,
    ),
    "first verdict, warm": Measure(
        (*PYTEST, "scenarios/", "--{tcp}kernel", "6.12", "--{tcp}claim", "tw-reuse.default"),
        seconds=4,
        first=(*PYTEST, "scenarios/", "--{tcp}kernel", "6.12", "--{tcp}claim", "tw-reuse.default"),
    ),
    "after an edit": Measure(
        ("-c", EDIT_A_COPY, *PYTEST, "scenarios/", "--{tcp}kernel", "6.12", "--{tcp}claim", "limits.default-range"),
        first=(*HARNESS, "kernels", "fetch", "6.12"),
        warm=1,
        by_name=True,
    ),
    "collecting": Measure((*PYTEST, "scenarios/", "--collect-only")),
    "a hundred pairs": Measure(("-c", IN_A_LAB + "for _ in range(100):\n  with Lab() as lab: pair(lab)")),
    "200 hosts": Measure(("-c", IN_A_LAB + "with Lab() as lab: lan(lab, 200)")),
    "a million SYNs": Measure(
        (
            "-c",
            IN_A_LAB + "from harness.traffic import flood, listen\n"
            "with Lab() as lab:\n  n = pair(lab); n.server.sysctl['net.ipv4.tcp_syncookies'] = 0\n"
            "  flood(n.server, n.client, listen(n.server, 128), count=1_000_000).wait()",
        ),
    ),
    # So many processes as `make scenarios` has in each of them.
    "the suite natively": Measure(
        (*PYTEST, "scenarios/", "-n", "48", "--dist", "worksteal"),
        then=(*PYTEST, "scenarios/", "-n", "16", "--dist", "worksteal"),
        seconds=100,
        busy=50,
        ratio=0.45,
        by_name=True,
    ),
    "the claims of both, natively": Measure(
        (*PYTEST, "scenarios/", "-n", "48", "--dist", "worksteal", "{claims}"),
        then=(*PYTEST, "scenarios/", "-n", "16", "--dist", "worksteal", "{claims}"),
        seconds=100,
        busy=50,
        ratio=0.45,
        by_name=True,
    ),
    "the claims of both, on 6.12": Measure(
        (*PYTEST, "scenarios/", "--{tcp}kernel", "6.12", "{claims}"),
        first=(*PYTEST, "scenarios/", "--{tcp}kernel", "6.12", "--{tcp}claim", "tw-reuse.default"),
        busy=300,
        ratio=0.2,
        by_name=True,
    ),
    "the suite on 6.12": Measure(
        (*PYTEST, "scenarios/", "--{tcp}kernel", "6.12"),
        first=(*PYTEST, "scenarios/", "--{tcp}kernel", "6.12", "--{tcp}claim", "tw-reuse.default"),
        busy=300,
        ratio=0.2,
        by_name=True,
    ),
}


@dataclass(frozen=True)
class Cost:
    """What a run took: seconds, and seconds of a processor, of all its processes."""

    seconds: float
    busy: float


def claims_of_both(*checkouts: Path) -> list[str]:
    """The claims that have a scenario in each checkout, by name."""
    settled = [
        {claim for file in checkout.glob("scenarios/**/*.py") for claim in CLAIM.findall(file.read_text("utf-8"))}
        for checkout in checkouts
    ]
    return sorted(set.intersection(*settled))


@dataclass
class Side:
    """A checkout, a directory for what its runs leave, and the claims to select for {claims}."""

    checkout: Path
    work: Path
    claims: Sequence[str] = ()

    def run(self, argv: Sequence[str], without: Sequence[str] = ()) -> Cost:
        """Run a command in the checkout; CalledProcessError, with what it said, if it fails."""
        for name in without:
            shutil.rmtree(self.work / "cache" / name, ignore_errors=True)
        (self.work / "cache").mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"PYTHONPATH": str(self.checkout), "HARNESS_CACHE": str(self.work / "cache")}
        # Options were called --kernel once, and are --tcp-kernel now.
        options = self.checkout / "harness" / "plugin" / "options.py"
        tcp = "tcp-" if options.exists() and "--tcp-" in options.read_text() else ""
        ended, ends = os.pipe()
        words = [sys.executable, "-I", "-S", "-c", WAITS_FOR_ALL, str(ends), sys.executable]
        selected = [word for claim in self.claims for word in ("--{tcp}claim", claim)]
        argv = [word for given in argv for word in (selected if given == "{claims}" else [given])]
        words += [word.replace("{work}", str(self.work)).replace("{tcp}", tcp) for word in argv]
        with tempfile.TemporaryFile("w+") as said:
            began = time.perf_counter()
            with os.fdopen(ended) as reads, os.fdopen(ends, "w") as writes:
                running = subprocess.Popen(
                    words, cwd=self.checkout, env=environment, stdout=said, stderr=said, pass_fds=[ends]
                )
                writes.close()
                _, status, usage = os.wait4(running.pid, 0)
                ended_at = reads.read()
            running.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            if running.returncode:
                raise subprocess.CalledProcessError(running.returncode, words, said.read())
        return Cost(float(ended_at) - began, usage.ru_utime + usage.ru_stime)


@dataclass(frozen=True)
class Outcome:
    """What the pairs of runs say: medians, the ratio of processor times with its quartiles, and what is wanted."""

    name: str
    ours: Cost
    theirs: Cost
    ratio: tuple[float, float, float]
    verdicts: tuple[str, ...]

    @property
    def row(self) -> str:
        """A line of the table."""
        low, middle, high = self.ratio
        costs = " | ".join(f"{cost.busy:.2f} s | {cost.seconds:.2f} s" for cost in (self.theirs, self.ours))
        return f"| {self.name} | {costs} | {middle:.2f} ({low:.2f} to {high:.2f}) | {'; '.join(self.verdicts) or '-'} |"


def outcome(name: str, measure: Measure, ours: Sequence[Cost], theirs: Sequence[Cost]) -> Outcome:
    """What to make of costs that were measured in pairs."""
    ratios = quartiles([our.busy / their.busy for our, their in zip(ours, theirs, strict=True)])
    verdicts = []
    if measure.ratio is not None:
        verdicts.append(f"ratio at most {measure.ratio:g}: {judged(ratios, measure.ratio)}")
    if measure.busy is not None:
        verdicts.append(
            f"processor at most {measure.busy:g} s: {judged(quartiles([c.busy for c in ours]), measure.busy)}"
        )
    if measure.seconds is not None:
        judgement = judged(quartiles([cost.seconds for cost in ours]), measure.seconds)
        if (
            judgement == "NO"
            and middle(ours).busy <= measure.seconds
            and middle(ours).seconds > BUSY * middle(ours).busy
        ):
            judgement = "too noisy, the machine is busy"
        verdicts.append(f"at most {measure.seconds:g} s: {judgement}")
    return Outcome(name, middle(ours), middle(theirs), ratios, tuple(verdicts))


def middle(costs: Sequence[Cost]) -> Cost:
    """The medians."""
    return Cost(statistics.median(cost.seconds for cost in costs), statistics.median(cost.busy for cost in costs))


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Between the first and the last lies the middle half; of a single value it is that."""
    low, middle_one, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * [*values]
    return low, middle_one, high


def judged(spread: tuple[float, float, float], bound: float) -> str:
    """Whether a bound is met, where the middle half agrees."""
    low, _, high = spread
    return "yes" if high <= bound else "NO" if low > bound else "too noisy"


def compare(name: str, measure: Measure, ours: Side, theirs: Side, rounds: int) -> Outcome:
    """Run a command by turns in both checkouts, beginning with the one and with the other."""
    costs: dict[Path, list[Cost]] = {ours.checkout: [], theirs.checkout: []}
    try:
        for side in (ours, theirs):
            if measure.first:
                side.run(measure.first)
            for _ in range(measure.warm):
                side.run(measure.argv)
        for number in range(rounds):
            for side in (ours, theirs) if number % 2 else (theirs, ours):
                argv = measure.argv if side is ours else measure.then or measure.argv
                costs[side.checkout].append(side.run(argv, measure.without))
    except subprocess.CalledProcessError as error:
        # What was measured so far may have taken an hour.
        for checkout, seen in costs.items():
            for cost in seen:
                error.add_note(f"{name} in {checkout}: {cost.busy:.2f} s of a processor, {cost.seconds:.2f} s")
        raise
    return outcome(name, measure, costs[ours.checkout], costs[theirs.checkout])


def table(outcomes: Sequence[Outcome], theirs: Path) -> str:
    """A Markdown table."""
    words = ["git", "-C", str(theirs), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    head = f"| what | {commit}: processor | seconds | now: processor | seconds | processor, now to then | bound |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *(one.row for one in outcomes)]) + "\n"


def written(page: str, new: str) -> str:
    """The page with the rows of a new table in place of those of the same name."""
    old = page.partition(BEGIN)[2].partition(END)[0]
    rows = {name: line for line in old.splitlines() if (name := line.split("|")[1].strip() if "|" in line else "")}
    rows |= {line.split("|")[1].strip(): line for line in new.splitlines()}
    return re.sub(
        f"{re.escape(BEGIN)}.*{re.escape(END)}",
        lambda _: BEGIN + "\n".join(rows.values()) + "\n" + END,
        page,
        flags=re.S,
    )


def options() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.against", description=__doc__.partition("\n")[0])
    parser.add_argument("checkout", type=Path, help="the other checkout: a clone, a worktree")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(MEASURES)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"pairs of runs ({ROUNDS})")
    parser.add_argument("--write", action="store_true", help=f"the table goes into {PAGE.relative_to(HERE)} as well")
    return parser


def main() -> int:
    """Measure and print; 1 if a bound is not met, or a run failed: what was measured before it is said."""
    parser = options()
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in MEASURES]:
        parser.error(f"{', '.join(unknown)}: not one of {', '.join(MEASURES)}")
    if not (asked.checkout / "harness").is_dir():
        parser.error(f"{asked.checkout}: no checkout of this project, there is no harness/ in it")
    names = asked.names or [name for name, measure in MEASURES.items() if not measure.by_name]
    theirs = asked.checkout.absolute()
    claims = claims_of_both(HERE, theirs)
    if not claims and (of_both := [name for name in names if "{claims}" in MEASURES[name].argv]):
        # Without a claim to select pytest would run the whole suite.
        parser.error(f"{', '.join(of_both)}: {theirs} and {HERE} have no claim in common")
    outcomes, failed = [], False
    with tempfile.TemporaryDirectory(prefix="tcp-harness-bench-") as work:
        sides = Side(HERE, Path(work, "ours"), claims), Side(theirs, Path(work, "theirs"), claims)
        for name in names:
            try:
                outcomes.append(compare(name, MEASURES[name], *sides, asked.rounds))
            except subprocess.CalledProcessError as error:
                failed = True
                print(
                    f"{name}: a run ended with {error.returncode}",
                    *getattr(error, "__notes__", ()),
                    sep="\n",
                    file=sys.stderr,
                )
                print(error.output, file=sys.stderr, flush=True)
            else:
                print(outcomes[-1].row, flush=True)
    if asked.write and outcomes:
        PAGE.write_text(written(PAGE.read_text(), table(outcomes, asked.checkout)))
    return 1 if failed or any("NO" in verdict for one in outcomes for verdict in one.verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
