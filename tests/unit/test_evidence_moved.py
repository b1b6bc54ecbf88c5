"""The number that moved: in one line, what a run measured first that had to be something else."""

from __future__ import annotations

import pytest

from harness.evidence.moved import LONGEST, moved
from harness.evidence.types import Comparison, Judgement, Outcome, Result, Run, Verdict, wanted_of
from harness.evidence.values import value_of
from harness.laws.ranges import at_least
from tests.unit.evidence_of_a_run import a_phase, a_run, checked

HOLDS, REFUTED, NOT_APPLICABLE = Verdict.HOLDS, Verdict.REFUTED, Verdict.NOT_APPLICABLE


def judged(measured: int, document: object, kernel: object, result: Result, what: str = "waiting") -> Judgement:
    seen = value_of(measured)
    return Judgement(what, seen, wanted_of(document, seen), wanted_of(kernel, seen), result)


def run_with(*comparisons: Comparison, outcome: Outcome, verdict: Verdict | None = None, expected: Verdict) -> Run:
    phase = a_phase(*comparisons)  # type: ignore[arg-type]
    return a_run(phases=(phase,), outcome=outcome, verdict=verdict, expected=expected, reason="why: it is so\nmore")


AS_DOCUMENT = judged(9, 9, 10, Result.DOCUMENT)
AS_KERNEL = judged(10, 9, 10, Result.KERNEL)
AS_NOBODY = judged(8, 9, 10, Result.NEITHER)
AS_BOTH = judged(3, 3, 3, Result.DOCUMENT, "refused")


@pytest.mark.parametrize(
    ("comparisons", "expected", "line"),
    [
        ([AS_NOBODY], REFUTED, "waiting: 8, must be 10"),
        ([AS_NOBODY], HOLDS, "waiting: 8, must be 9"),
        ([AS_NOBODY], NOT_APPLICABLE, "waiting: 8, must be 9 or 10"),
        ([AS_KERNEL, AS_BOTH, judged(2, 3, 3, Result.NEITHER, "refused")], HOLDS, "refused: 2, must be 3"),
    ],
)
def test_what_nobody_predicted(comparisons: list[Comparison], expected: Verdict, line: str) -> None:
    assert moved(run_with(*comparisons, outcome=Outcome.UNEXPLAINED, expected=expected)) == line


@pytest.mark.parametrize(
    ("comparisons", "verdict", "expected", "line"),
    [
        ([AS_BOTH, AS_DOCUMENT], HOLDS, REFUTED, "waiting: 9, must be 10"),
        ([AS_BOTH, AS_KERNEL], REFUTED, HOLDS, "waiting: 10, must be 9"),
        ([AS_BOTH], HOLDS, REFUTED, "verdict: holds, must be refuted"),
        ([], NOT_APPLICABLE, HOLDS, "verdict: not applicable, must be holds"),
    ],
)
def test_a_verdict_that_was_not_expected(
    comparisons: list[Comparison], verdict: Verdict, expected: Verdict, line: str
) -> None:
    run = run_with(*comparisons, outcome=Outcome.UNEXPECTED, verdict=verdict, expected=expected)
    assert moved(run) == line


def test_a_condition_of_the_experiment() -> None:
    broken = a_run(phases=(checked(3, at_least(4), "SYNs"),), outcome=Outcome.BROKEN, reason="effect 'x': SYNs: …")
    assert moved(broken) == "SYNs: 3, must be at least 4"


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("NotReady: waiting: 7, must be 8; not so within 20 s", "waiting: 7, must be 8; not so within 20 s"),
        ("AssertionError: assert 5 == 6\n  where", "assert 5 == 6"),
        ("OSError: [Errno 22] Invalid argument", "OSError: [Errno 22] Invalid argument"),
    ],
)
def test_what_ended_a_run_before_it_was_measured(reason: str, line: str) -> None:
    assert moved(a_run(phases=(checked(1, 1),), outcome=Outcome.FAILED, reason=reason)) == line


def test_nothing_moved_in_a_run_as_it_should_be() -> None:
    as_expected = run_with(AS_KERNEL, outcome=Outcome.EXPECTED, verdict=REFUTED, expected=REFUTED)
    assert moved(as_expected) == ""
    assert moved(a_run(outcome=Outcome.UNSETTLED, reason="not on this kernel")) == ""
    # Another verdict is asked for than the expected one.
    assert moved(as_expected, HOLDS) == "waiting: 10, must be 9"


def test_what_a_program_printed_is_cut() -> None:
    (phase,) = (checked("x" * 500, "y"),)
    assert len(moved(a_run(phases=(phase,), outcome=Outcome.BROKEN))) < 2 * LONGEST
