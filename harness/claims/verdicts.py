"""What the runs of a claim came to, and what two sets of runs measured differently."""

from __future__ import annotations

import json
from typing import Any


def verdict_of(evidence: dict[str, Any]) -> str:
    """The verdict of all runs of a claim on one kernel; what became of them where they differ or have none."""
    verdicts = sorted({str(run["verdict"] or run["outcome"]) for run in evidence["runs"]})
    return " and ".join(verdicts) or "nothing"


def side_by_side(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What was measured on two kernels, a line for each measurement that differs between them."""
    left, right = measurements(before), measurements(after)
    return [
        f"{what}: {_spelled(left.get(what))} -> {_spelled(right.get(what))}"
        for what in dict.fromkeys([*left, *right])
        if left.get(what) != right.get(what)
    ]


def measurements(evidence: dict[str, Any]) -> dict[str, Any]:
    """Everything that the runs of a claim compared, by the address family, phase and name."""
    found = {}
    for run in evidence["runs"]:
        family = run["params"].split("-")[0]
        for phase in run.get("phases", ()):
            for one in phase["comparisons"]:
                found[f"{family}: {phase['title']}: {one['what']}"] = one["measured"]
    return found


def _spelled(value: object) -> str:
    return "-" if value is None else json.dumps(value, ensure_ascii=False)
