"""What flakes, by NIPA's definitions, and which numbers have moved beyond their spread."""

from __future__ import annotations

import msgspec
import pytest

from harness.evidence.types import Kernel, Outcome, Run, Verdict
from harness.report.history.flakes import (
    WEEK,
    Flakiness,
    Stability,
    flakiness,
    flaky,
    is_flake,
    result,
    stability,
    state,
)
from harness.report.history.model import Course, Line, Session, crash_of
from harness.report.history.numbers import Moved, Room, moves, numbers
from tests.unit.evidence_of_a_run import a_run, checked

PASSED = a_run(verdict=Verdict.HOLDS)
FAILED = a_run(outcome=Outcome.BROKEN)
SKIPPED = a_run(outcome=Outcome.UNSETTLED)
LOST = a_run(outcome=Outcome.FAILED, reason="WorkerLost: the test was not finished: the kernel panicked")


def again(*attempts: Run) -> Run:
    """A run of which these are the attempts, the last one last."""
    return msgspec.structs.replace(attempts[-1], earlier=attempts[:-1])


FLAKED = again(FAILED, PASSED)
RUNS = {"P": PASSED, "F": FAILED, "S": SKIPPED, "~": FLAKED, "·": None}


def a_line(*histories: str, apart: float = 1.0) -> Line:
    """A line of kernels with a test for each history, whose runs begin so far apart, in seconds."""
    kernel = Kernel("6.1", "6.1")
    sessions = tuple(Session(kernel, "", 1e9 + n * apart, 1e9, "out", "1") for n in range(len(histories[0])))
    tests = [
        Course("queue.limit", f"test_{n}", [RUNS[sign] for sign in history], [""] * len(history))
        for n, history in enumerate(histories)
    ]
    return Line("6.1", sessions, tuple(tests))


def steady(history: str, apart: float = 1.0) -> Flakiness:
    line = a_line(history, apart=apart)
    return flakiness(line.tests[0], line, line.sessions[-1].began)


def test_a_result_is_pass_fail_or_skip_whatever_the_verdict() -> None:
    refuted = a_run(verdict=Verdict.REFUTED)
    assert [result(run) for run in (PASSED, refuted, FAILED, SKIPPED)] == ["pass", "pass", "fail", "skip"]


def test_a_flake_fails_first_and_passes_when_it_is_run_again_without_a_crash() -> None:
    assert is_flake(FLAKED)
    assert is_flake(again(FAILED, FAILED, PASSED))
    assert not is_flake(PASSED)
    assert not is_flake(again(FAILED, FAILED))
    assert not is_flake(again(FAILED, SKIPPED))
    # The machine died in the first attempt: it is shown as a flake, and does not count as one (NIPA: crashes IS NULL).
    crashed = again(LOST, PASSED)
    assert crash_of(LOST) == "the test was not finished: the kernel panicked"
    assert (is_flake(crashed), state(crashed)) == (False, "flake")


@pytest.mark.parametrize(
    ("history", "flips", "streak", "listed"),
    [
        ("PPPP", 0, 4, False),
        ("FFFF", 1, 0, False),  # NIPA holds the newest run against a pass
        ("PPFF", 2, 0, False),  # broken, and stayed so
        ("FFPP", 1, 2, False),  # mended, and stayed so
        ("PFPP", 2, 2, True),
        ("PFPF", 4, 0, True),
        ("PS·P", 2, 1, True),
        ("P·PP", 0, 3, False),
        ("PP~P", 2, 1, True),
        ("~", 1, 0, True),
    ],
)
def test_flips_and_the_streak_are_counted_from_the_newest_run_back(
    history: str, flips: int, streak: int, listed: bool
) -> None:
    found = steady(history)
    assert (found.flips, found.streak, found.is_flaky) == (flips, streak, listed)
    assert found.runs == len(history.replace("·", ""))


def test_flakes_are_counted_by_week_of_the_last_four() -> None:
    assert steady("~~~~~~~", apart=WEEK).flakes == (1, 1, 1, 1)
    assert steady("~P~~", apart=WEEK / 2).flakes == (2, 1, 0, 0)
    assert not steady("~PPPPPP", apart=WEEK).is_flaky


def test_those_that_flip_most_are_first() -> None:
    line = a_line("PPPP", "PFPP", "PFPF", "PPFF")
    assert [each.test.name for each in flaky(line, line.sessions[-1].began)] == ["test_2", "test_1"]


def test_more_than_fifteen_passes_in_a_row_make_a_test_stable() -> None:
    passes = [True] * 3 + [False] * 2 + [True] * 17
    times = [float(n) for n in range(len(passes))]
    assert stability(passes, times) == Stability(20, 2, (17, 2), (17, 0), 20.0)
    assert stability(passes[:20], times[:20]).passing is None


EXACT = Room(0.05, 0.0)


@pytest.mark.parametrize(
    ("values", "moved"),
    [
        ([9, 9, 9, 9, 8, 8], [Moved(4, 9, 9, 8, repeated=True)]),
        ([9, 9, 9, 9, 8], [Moved(4, 9, 9, 8, repeated=False)]),
        ([9, 9, 9, 9, 8, 9, 9], []),  # once, and not again
        ([9, 9, 9, 8, 8, 8], []),  # too few runs to know how it spreads
        ([9, None, 9, 9, None, 9, 8, None, 8], [Moved(6, 9, 9, 8, repeated=True)]),
        ([1.0, 1.2, 1.1, 1.2, 1.4, 1.3], []),  # outside, and by less than the spread is wide
        ([1.0, 1.2, 1.1, 1.2, 1.5, 1.5], [Moved(4, 1.0, 1.2, 1.5, repeated=True)]),
        ([1.0, 1.2, 1.1, 1.2, 1.5, 0.7, 1.1], []),  # the next one lies on the other side
        ([100, 100, 100, 100, 104, 104], []),  # less than a twentieth of it
        ([9, 9, 9, 9, 8, 8, 8, 8, 9, 9], [Moved(4, 9, 9, 8, repeated=True), Moved(8, 8, 8, 9, repeated=True)]),
        ([], []),
    ],
)
def test_a_number_has_moved_when_it_lies_beyond_its_spread_twice(
    values: list[float | None], moved: list[Moved]
) -> None:
    assert moves(values, EXACT) == moved


def test_what_moves_by_less_than_clocks_do_has_not_moved() -> None:
    assert moves([0.001] * 4 + [0.0025] * 2, Room(0.05, 0.002)) == []
    assert len(moves([0.001] * 4 + [0.0035] * 2, Room(0.05, 0.002))) == 1


def test_the_numbers_of_a_test_are_followed_by_their_places() -> None:
    runs = [
        a_run(
            phases=(checked(9, 9, "waiting"), checked([1, 2], [1, 2], "gaps"), checked("a", "a"), checked(True, True))
        ),
        None,
        a_run(phases=(checked(8, 9, "waits"), checked([1, 3], [1, 2], "gaps"))),
    ]
    test = Course("queue.limit", "test_it", list(runs), [""] * 3)
    found = [(each.place, each.what, each.values, each.low, each.median, each.high) for each in numbers(test)]
    assert found == [
        ("effect 1: cause", "waits", (9, None, 8), 8, 8, 9),
        ("effect 2: cause", "gaps [1]", (1, None, 1), 1, 1, 1),
        ("effect 2: cause", "gaps [2]", (2, None, 3), 2, 2, 3),
    ]
