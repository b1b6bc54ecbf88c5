"""What came of trying remedies, as types: a RemedyTable has rows, each with its verdict.

`harness remedy --json` prints one RemedyTable, schema 1; docs/remedies.schema.json is made from these types. What is
empty is left out of the JSON.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

import msgspec

from harness.desk.experiment import Effect, Setting

SCHEMA: Final = 1


class Worth(StrEnum):
    """What a remedy is worth, by what was measured."""

    SAFE = "safe"
    USELESS = "useless"
    HARMFUL = "harmful"
    NO_SUCH_KNOB = "no such knob"
    NOT_TRIED = "not tried"

    @property
    def rank(self) -> int:
        """0 for the best."""
        return list(Worth).index(self)


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """A remedy: what one would type, what was left of the symptom, what else was measured, and what that makes of it.

    `after` is missing where it could not be tried. `void` says that it is advice which is known not to help, `claim`
    which claim says so.
    """

    remedy: str
    type_in: str
    worth: Worth
    why: str
    after: float | None = None
    effects: tuple[Effect, ...] = ()
    void: bool = False
    claim: str = ""


class RemedyTable(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that was tried of a finding: the symptom as the machine has it (`before`), without the cause (`control`).

    `kernel` is the one that it was tried on, `machine` that of the files. `together` is the row of
    the best ones at once.
    """

    schema: Literal[1]
    harness: str
    diagnosis: str
    what: str
    place: str
    kernel: str
    symptom: str
    unit: str
    before: float
    control: float
    rows: tuple[Row, ...]
    seconds: float
    effects: tuple[Effect, ...] = ()
    scale: tuple[Setting, ...] = ()
    notes: tuple[str, ...] = ()
    machine: str = ""
    together: Row | None = None
    others: tuple[str, ...] = ()


def as_json(table: RemedyTable) -> str:
    """A table for programs."""
    return msgspec.json.format(msgspec.json.encode(table), indent=1).decode() + "\n"
