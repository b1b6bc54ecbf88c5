"""A measured value as it is stored: what kind of thing it is, and the thing.

value_of() makes one of whatever a scenario measured; harness.evidence.kinds has the words for what is no plain count,
number, text or flag.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Any

import msgspec

from harness.evidence import kinds

LONGEST_TEXT = 2000
LARGEST = 1 << 63

Plain = bool | int | float | str | None


class Kind(StrEnum):
    """What a value is; this, and never a word in a label, decides how two values are compared."""

    COUNT = "count"
    NUMBER = "number"
    SECONDS = "seconds"
    TICKS = "ticks"
    BYTES = "bytes"
    PORT = "port"
    DRAWN = "drawn"
    ADDRESS = "address"
    STATE = "state"
    TEXT = "text"
    OUTPUT = "output"
    FLAG = "flag"
    NOTHING = "nothing"
    SEVERAL = "several"
    NAMED = "named"


# What the value of each kind is; a fraction that is none (NaN) is null in JSON.
_FRACTION = (int, float, type(None))
_THING_OF: dict[Kind, tuple[type, ...]] = {
    **dict.fromkeys((Kind.COUNT, Kind.BYTES, Kind.PORT, Kind.DRAWN), (int,)),
    **dict.fromkeys((Kind.NUMBER, Kind.SECONDS, Kind.TICKS), _FRACTION),
    **dict.fromkeys((Kind.ADDRESS, Kind.STATE, Kind.TEXT, Kind.OUTPUT), (str,)),
    Kind.FLAG: (bool,),
    **dict.fromkeys((Kind.NOTHING, Kind.SEVERAL, Kind.NAMED), (type(None),)),
}


class Value(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="value"):
    """A value of a kind.

    `value` is the thing itself; several values are `parts`, values by name are `fields`. `unit` names what is counted.
    """

    kind: Kind
    value: Plain = None
    parts: tuple[Value, ...] = ()
    fields: dict[str, Value] = {}
    unit: str = ""

    def __post_init__(self) -> None:
        """ValueError for a kind that its value is none of: evidence of a run never has that, other files may."""
        if not isinstance(self.value, _THING_OF[self.kind]) or (
            isinstance(self.value, bool) and self.kind is not Kind.FLAG
        ):
            raise ValueError(f"{self.value!r:.80} is no {self.kind}")
        if isinstance(self.value, int) and abs(self.value) > LARGEST:
            raise ValueError(f"a {self.kind} of more than 63 bits")

    def plain(self) -> Any:
        """The value as JSON would have it, without its kinds."""
        if self.kind is Kind.SEVERAL:
            return [part.plain() for part in self.parts]
        if self.kind is Kind.NAMED:
            return {name: field.plain() for name, field in self.fields.items()}
        return self.value

    def __str__(self) -> str:
        return spell(self.plain())


# What a scenario marks, and what is stored of it. A subclass stands before its class.
_MARKED: tuple[tuple[type, Kind], ...] = (
    (kinds.Seconds, Kind.SECONDS),
    (kinds.Ticks, Kind.TICKS),
    (kinds.Bytes, Kind.BYTES),
    (kinds.Port, Kind.PORT),
    (kinds.Drawn, Kind.DRAWN),
    (kinds.Address, Kind.ADDRESS),
    (kinds.State, Kind.STATE),
    (kinds.Output, Kind.OUTPUT),
)
_KIND_OF = dict(_MARKED)
NOTHING = Value(Kind.NOTHING)


def value_of(measured: object, unit: str = "") -> Value:
    """A measured value as it is stored; what is of no kind becomes its repr, and texts are cut at 2000 characters."""
    if measured is None:
        return NOTHING
    if isinstance(measured, Value):
        return measured
    if isinstance(measured, Enum):
        return value_of(measured.value, unit)
    if isinstance(measured, (bool, int, float, str, bytes)):
        return _scalar(measured, unit)
    return _compound(measured, unit)


def _compound(measured: object, unit: str) -> Value:
    if (fields := _fields_of(measured)) is not None:
        return Value(Kind.NAMED, fields={name: value_of(field, unit) for name, field in fields.items()})
    if isinstance(measured, (list, tuple)):
        return Value(Kind.SEVERAL, parts=tuple(value_of(part, unit) for part in measured))
    if isinstance(measured, (set, frozenset)):
        return Value(Kind.SEVERAL, parts=tuple(sorted((value_of(part, unit) for part in measured), key=repr)))
    return Value(Kind.TEXT, storable(repr(measured)))


def _scalar(measured: bool | int | float | str | bytes, unit: str) -> Value:
    marked = _KIND_OF.get(type(measured))
    if isinstance(measured, bool):
        return Value(Kind.FLAG, measured)
    if isinstance(measured, int):
        if abs(measured) >= LARGEST:
            return Value(Kind.TEXT, str(int(measured)))
        return Value(marked or Kind.COUNT, int(measured), unit=unit)
    if isinstance(measured, float):
        return Value(marked or Kind.NUMBER, float(measured), unit=unit)
    text = measured.decode(errors="backslashreplace") if isinstance(measured, bytes) else str(measured)
    return Value(marked or Kind.TEXT, storable(text))


def _fields_of(measured: object) -> dict[str, object] | None:
    """What has fields, by their names; None for what has none."""
    if isinstance(measured, Mapping):
        return {storable(str(name)): field for name, field in measured.items()}
    if dataclasses.is_dataclass(measured) and not isinstance(measured, type):
        return {field.name: getattr(measured, field.name) for field in dataclasses.fields(measured) if field.repr}
    if isinstance(measured, msgspec.Struct):
        return {name: getattr(measured, name) for name in measured.__struct_fields__}
    if isinstance(measured, tuple) and hasattr(measured, "_fields"):
        return {name: getattr(measured, name) for name in measured._fields}
    return None


def storable(text: str) -> str:
    """A text as JSON can hold it: lone surrogates written out, cut at 2000 characters."""
    return text.encode(errors="backslashreplace").decode()[:LONGEST_TEXT]


def spell(plain: object) -> str:
    """A plain value in a sentence or a cell: text as it is, numbers rounded, the rest as JSON."""
    if isinstance(plain, str):
        return plain
    return msgspec.json.format(msgspec.json.encode(rounded(plain)), indent=0).decode()


def rounded(plain: object) -> object:
    """Fractions to three digits behind the point, or one where there are many before it."""
    if isinstance(plain, float):
        return round(plain, 3 if abs(plain) < 100 else 1)
    if isinstance(plain, list):
        return [rounded(part) for part in plain]
    if isinstance(plain, dict):
        return {name: rounded(field) for name, field in plain.items()}
    return plain
