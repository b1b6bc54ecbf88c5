"""The verdict of several runs of a claim."""

from __future__ import annotations

from harness.claims.verdicts import verdict_of
from harness.evidence.types import Outcome, Verdict
from tests.unit.evidence_of_a_run import a_run


def test_the_verdict_of_several_runs() -> None:
    holds = a_run(verdict=Verdict.HOLDS)
    failed = a_run(outcome=Outcome.FAILED)
    assert [verdict_of(runs) for runs in ([holds], [holds, failed], [])] == ["holds", "failed and holds", "nothing"]
