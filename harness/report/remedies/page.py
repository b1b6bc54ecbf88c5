"""A table of remedies as a page: one HTML file that needs nothing else, with the symptom drawn for each remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.remedies.lines import amount, headline, in_order, left, scale

if TYPE_CHECKING:
    from harness.desk.table import RemedyTable, Row

AS_IT_IS, CONTROL, TOGETHER = "as it is", "without the cause", "the safe ones together"
LONGEST_NAME = 33


def render(table: RemedyTable) -> str:
    """The page; everything in it is escaped, as files may be anybody's."""
    from harness.report.page import templates

    template = templates().get_template("remedies.html.jinja")
    return template.render(
        table=table, rows=in_order(table), headline=headline(table), scale=scale(table), drawing=drawing(table),
        amount=amount, left=left, value=value,
    )  # fmt: skip


def drawing(table: RemedyTable) -> list[str]:
    """Bars: what was left of the symptom, by remedy; and of each effect that differs among them."""
    from harness.report.plots import Curve, draw

    tried = [(_name(row, table), row) for row in in_order(table) if row.after is not None]
    symptom = [(AS_IT_IS, table.before), (CONTROL, table.control), *((name, row.after or 0.0) for name, row in tried)]
    curves = [Curve("symptom", "", table.symptom, "remedy", table.unit, tuple(symptom))]
    for effect in table.effects:
        points = [(AS_IT_IS, effect.value), *((name, value(row, effect.what) or 0.0) for name, row in tried)]
        if len({height for _, height in points}) > 1:
            # Apart from others in the same unit: the axis tells what it is.
            axis = f"{effect.unit} ({effect.what})"
            curves.append(Curve("side effect", "", effect.what, "remedy", axis, tuple(points)))
    return draw(curves)


def value(row: Row, what: str) -> float | None:
    """How much of an effect there was with a remedy; None where it was not measured."""
    return next((effect.value for effect in row.effects if effect.what == what), None)


def _name(row: Row, table: RemedyTable) -> str:
    """A name that an axis has room for."""
    name = TOGETHER if row is table.together else row.remedy
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
