"""What the runs of a claim came to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.evidence.types import Run


def verdict_of(runs: Iterable[Run]) -> str:
    """The verdict of all runs of a claim on one kernel; what became of them where they differ or have none."""
    return " and ".join(sorted({str(run.verdict or run.outcome) for run in runs})) or "nothing"
