"""A table of remedies as Markdown: for a ticket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.diagnosis.markdown import plain
from harness.report.remedies.lines import also, amount, changed, headline, in_order, left, scale

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.desk.table import RemedyTable

HEAD = ("verdict", "remedy", "type", "symptom", "why", "also measured")


def markdown(table: RemedyTable) -> str:
    """The whole document."""
    return "\n".join(_lines(table)) + "\n"


def _lines(table: RemedyTable) -> Iterator[str]:
    yield f"# {plain(headline(table))}"
    yield ""
    yield f"{plain(table.what)}. ({plain(table.diagnosis)}, at {plain(table.place)})"
    yield ""
    yield from (f"- {plain(line)}" for line in scale(table))
    yield ""
    before = (
        f"{table.symptom}: {amount(table.before, table.unit)} as it is, {amount(table.control, '')} without the cause"
    )
    yield plain(f"{before}; {also(table.effects)}")
    yield ""
    yield f"| {' | '.join(HEAD)} |"
    yield f"|{'---|' * len(HEAD)}"
    for row in in_order(table):
        void = " (known not to help)" if row.void else ""
        cells = (row.worth.value, row.remedy + void, row.type_in, left(row, table), row.why, changed(row, table))
        yield f"| {' | '.join(map(plain, cells))} |"
