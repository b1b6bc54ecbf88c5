"""A table of remedies as lines for a terminal."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from harness import screen
from harness.desk.table import Worth

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.desk.experiment import Effect
    from harness.desk.table import RemedyTable, Row

WIDTH = 116
# The columns of worth and of what is left of the symptom.
WORTH, LEFT = 14, 18
# What the worth looks like at a terminal.
MEANINGS = {Worth.SAFE: screen.GOOD, Worth.HARMFUL: screen.BAD, Worth.USELESS: screen.DOUBT}


def lines(table: RemedyTable) -> Iterator[str]:
    """What was tried on, what it is about, and a part for each remedy, the best first."""
    yield from _item(headline(table), "")
    yield from _item(f"{table.what}.", "  ")
    yield f"  {table.diagnosis}, at {table.place}"
    for line in scale(table):
        yield from _item(line, "  - ")
    yield ""
    yield from _item(
        f"{table.symptom}: {amount(table.before, table.unit)} as it is, {amount(table.control, '')} without the cause",
        "  ",
    )
    yield from _item(also(table.effects), "  ") if table.effects else ()
    for row in in_order(table):
        yield ""
        yield from _row(row, table)
    if table.others:
        yield ""
        yield from _item(f"The files show more (--finding NAME): {'; '.join(table.others)}", "  ")


def headline(table: RemedyTable) -> str:
    """How many remedies were tried, where, in which time; and which are safe."""
    safe = [row.remedy for row in table.rows if row.worth.value == "safe"]
    found = f"safe: {', '.join(safe)}" if safe else "none of them is safe and helps"
    tried = f"{len(table.rows)} remedies for {table.diagnosis}, tried on Linux {table.kernel} in {table.seconds:.0f} s"
    return f"{tried}; {found}"


def scale(table: RemedyTable) -> list[str]:
    """The machine's numbers and those of the desk, and what else is to be known."""
    numbers = [
        f"{each.what}: {each.here} on the desk"
        + (f", {each.there} on the machine" if each.there else ", not known of the machine")
        for each in table.scale
    ]
    kernel = [f"the machine's kernel: Linux {table.machine}"] if table.machine else []
    return [*kernel, *numbers, *table.notes]


def in_order(table: RemedyTable) -> list[Row]:
    """All together first, then the safe ones, the useless and the harmful, and what could not be tried."""
    rows = sorted(table.rows, key=lambda row: (row.worth.rank, row.after or 0.0))
    return [*([table.together] if table.together else []), *rows]


def left(row: Row, table: RemedyTable) -> str:
    """Before and after."""
    return "-" if row.after is None else f"{table.before:g} -> {row.after:g} {table.unit}"


def amount(value: float, unit: str) -> str:
    """A number with its unit."""
    return f"{value:g} {unit}".strip()


def also(effects: tuple[Effect, ...]) -> str:
    """What else was measured."""
    return "; ".join(f"{effect.what}: {amount(effect.value, effect.unit)}" for effect in effects)


def changed(row: Row, table: RemedyTable) -> str:
    """What else is not as before, with what it was before."""
    before = {effect.what: effect.value for effect in table.effects}
    return "; ".join(
        f"{effect.what}: {before.get(effect.what, 0.0):g} -> {amount(effect.value, effect.unit)}"
        for effect in row.effects
        if effect.value != before.get(effect.what, 0.0)
    )


def in_colour(line: str) -> str:
    """The same line with the worth of a remedy in its colour."""
    for worth, meaning in MEANINGS.items():
        if line.startswith(start := f"  {worth.value.upper()} "):
            return screen.coloured(start, meaning) + line.removeprefix(start)
    return line


def _row(row: Row, table: RemedyTable) -> Iterator[str]:
    void = " (known not to help)" if row.void else ""
    yield from _item(f"{row.remedy}{void}", f"  {row.worth.value.upper():<{WORTH}}")
    indent = " " * (WORTH + 2)
    yield from _item(f"{left(row, table)}: {row.why}" if row.after is not None else row.why, indent)
    if more := changed(row, table):
        yield from _item(more, f"{indent}also: ")
    yield from _item(row.type_in, f"{indent}type: ")
    if row.claim:
        yield from _item(row.claim, f"{indent}claim: ")


def _item(text: str, start: str) -> Iterator[str]:
    yield from textwrap.wrap(
        text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip
