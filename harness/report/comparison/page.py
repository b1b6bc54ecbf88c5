"""What changed, as a page: one HTML file that needs nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.page import templates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.comparison.changes import Changes


def render(changes: Changes, missing: Sequence[str] = ()) -> str:
    """The page that shows what differs between two kernels or runs; `missing` says what did not run, a line each."""
    return templates().get_template("comparison.html.jinja").render(changes=changes, missing=missing)
