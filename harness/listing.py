"""Many things as a failed assertion shows them: the first three, and how many more."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN = 3

Row = TypeVar("Row")


class Listing(list[Row]):
    """A list that prints its first rows and the number of the others."""

    def __repr__(self) -> str:
        return shown(self)


def shown(rows: Sequence[object]) -> str:
    """The first rows, and the number of the others."""
    return f"[{first(rows)}]"


def first(rows: Sequence[object]) -> str:
    """The first rows and "and 297 more", without brackets; words stand without quotes."""
    words = [row if isinstance(row, str) else repr(row) for row in rows[:SHOWN]]
    left = len(rows) - SHOWN
    return f"{', '.join(words)}{f', and {left} more' if left > 0 else ''}"
