"""What flakes, by the definitions of NIPA, the CI of Linux's network developers (github.com/linux-netdev/nipa).

A result is pass, fail or skip. A *flake* is a test that fails at its first attempt and passes when it is run again,
with no crash (contest/backend/query.py, flaky_tests()); they are counted by week, of the last four weeks. *Flips* are
how often a test's result is another than in the run before, from the newest run back, where a flake is a result of its
own and the newest run is held against a pass; the *streak* is how many of the newest runs passed without a break
(ui/flakes.js). What has passed more than fifteen times in a row is *passing* (contest/results-collector.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from harness.evidence.types import NOT_SETTLED, WRONG
from harness.report.history.model import attempts, crash_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.evidence.types import Run
    from harness.report.history.model import Course, Line

PASS, FAIL, SKIP, FLAKE = "pass", "fail", "skip", "flake"
WEEKS = 4
WEEK = 7 * 24 * 3600.0
# So many passes in a row, and one more, make a test a stable one.
STABLE = 15


def result(run: Run) -> str:
    """What an attempt came to: pass if it is as expected, whatever the verdict is; skip if it could not be made."""
    if run.said == NOT_SETTLED:
        return SKIP
    return FAIL if run.said in WRONG else PASS


def first_result(run: Run) -> str:
    """What the first attempt came to."""
    return result(next(attempts(run)))


def retry(run: Run) -> str | None:
    """What the last attempt came to, where there was more than the first."""
    return result(run) if run.earlier else None


def is_flake(run: Run) -> bool:
    """Whether it failed first, passed when it was run again, and nothing crashed."""
    crashed = any(crash_of(attempt) for attempt in attempts(run))
    return first_result(run) == FAIL and retry(run) == PASS and not crashed


def state(run: Run) -> str:
    """What NIPA's page of flakes shows of a run: its first result, or that it is a flake."""
    return FLAKE if first_result(run) == FAIL and retry(run) == PASS else first_result(run)


@dataclass(frozen=True)
class Flakiness:
    """How steady a test is: flips, the streak, flakes in each of the last four weeks from the newest, runs in all.

    `turns` is how often its result changed between two runs: one less than `flips` where the newest did not pass.
    """

    test: Course
    flips: int
    turns: int
    streak: int
    flakes: tuple[int, ...]
    runs: int

    @property
    def is_flaky(self) -> bool:
        """Whether it flaked, or its result came back: one that changed once and stayed was broken, or mended."""
        return self.turns > 1 or any(self.flakes)


@dataclass(frozen=True)
class Stability:
    """Passes and others of a test, as NIPA's table of stability has them: in all, the longest row, the present row.

    `passing` is when it had passed more than fifteen times in a row for the first time, in seconds since the epoch.
    """

    passed: int
    failed: int
    longest: tuple[int, int]
    present: tuple[int, int]
    passing: float | None


def flakiness(test: Course, line: Line, newest: float) -> Flakiness:
    """How steady a test is; its weeks are those before `newest`, in seconds since the epoch."""
    states = [state(run) for _, run in reversed(test.seen)]
    flips = sum(before != now for before, now in zip([PASS, *states], states, strict=False))
    turns = sum(before != now for before, now in pairwise(states))
    streak = next((number for number, each in enumerate(states) if each != PASS), len(states))
    weeks = by_week((number for number, run in test.seen if is_flake(run)), line, newest)
    return Flakiness(test, flips, turns, streak, weeks, len(states))


def by_week(sessions: Iterable[int], line: Line, newest: float) -> tuple[int, ...]:
    """How many of these sessions began in each of the last four weeks before `newest`, the newest week first."""
    weeks = [0] * WEEKS
    for number in sessions:
        week = int((newest - line.sessions[number].began) // WEEK)
        if 0 <= week < WEEKS:
            weeks[week] += 1
    return tuple(weeks)


def flaky(line: Line, newest: float) -> list[Flakiness]:
    """The tests that are flaky, those that flipped most first."""
    every = (flakiness(test, line, newest) for test in line.tests)
    listed = [each for each in every if each.is_flaky]
    return sorted(listed, key=lambda each: (-each.flips, -sum(each.flakes), each.test.claim, each.test.name))


def stability(passes: Sequence[bool], times: Sequence[float]) -> Stability:
    """How often and how long in a row something passed; `times` are those of the runs, from the oldest."""
    rows, longest = [0, 0], [0, 0]
    passing: float | None = None
    for passed, time in zip(passes, times, strict=True):
        ours, other = (0, 1) if passed else (1, 0)
        rows[ours], rows[other] = rows[ours] + 1, 0
        longest[ours] = max(longest[ours], rows[ours])
        if passing is None and rows[0] > STABLE:
            passing = time
    total = sum(passes)
    return Stability(total, len(passes) - total, (longest[0], longest[1]), (rows[0], rows[1]), passing)
