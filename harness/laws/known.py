"""How a boundary is known: measured on both of its sides, or read in the sources."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from harness.laws.boundaries import Boundary, boundary

ALWAYS = "always"


class How(StrEnum):
    """What the table of boundaries rests on."""

    MEASURED = "measured on both sides"
    READ = "read in the sources"
    # It is no change: git has nothing older.
    ALWAYS = "so since the history began"
    # Nor are these changes of the kernel's.
    PROGRAM = "a program's"
    DOCUMENT = "the word of a document"


class Knowledge(msgspec.Struct, frozen=True):
    """How a boundary is known: `before` and `after` are the kernels nearest to it that were run, or read, for it."""

    how: How
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        if not self.before:
            return str(self.how)
        words = "read in the sources of" if self.how is How.READ else "measured on"
        return f"{words} {self.before} and {self.after}"


def how_known(name: str | Boundary) -> Knowledge:
    """How the boundary of that name is known; BadInput if there is none."""
    entry = boundary(name) if isinstance(name, str) else name
    if entry.seen is not None:
        return Knowledge(How.MEASURED, *entry.seen)
    if entry.read is not None:
        return Knowledge(How.READ, *entry.read)
    if entry.name == ALWAYS:
        return Knowledge(How.ALWAYS)
    if entry.tool:
        return Knowledge(How.PROGRAM)
    return Knowledge(How.DOCUMENT if entry.document else How.READ)
