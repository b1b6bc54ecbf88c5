"""The verdict of several runs, and what two sets of runs measured differently."""

from __future__ import annotations

from typing import Any

from harness.claims.verdicts import side_by_side, verdict_of


def evidence(measured: int, verdict: str | None = "holds") -> dict[str, Any]:
    comparisons = [{"what": "waiting", "measured": measured}, {"what": "limit", "measured": 10}]
    phases = [{"title": "nobody accepts", "comparisons": comparisons}]
    return {"runs": [{"params": "ipv4-6.1", "verdict": verdict, "outcome": "failed", "phases": phases}]}


def test_what_was_measured_differently_stands_side_by_side() -> None:
    assert side_by_side(evidence(10), evidence(11)) == ["ipv4: nobody accepts: waiting: 10 -> 11"]
    assert side_by_side(evidence(10), {"runs": []})[0] == "ipv4: nobody accepts: waiting: 10 -> -"


def test_the_verdict_of_several_runs() -> None:
    both = {"runs": [*evidence(1)["runs"], *evidence(1, None)["runs"]]}
    nothing: dict[str, Any] = {"runs": []}
    assert [verdict_of(one) for one in (evidence(1), both, nothing)] == ["holds", "failed and holds", "nothing"]
