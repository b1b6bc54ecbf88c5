"""What a measurement may be, where it need not be one value: ranges, as data.

A range is what was predicted, so it stands in the evidence as it is: its bounds, not a sentence about them.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import msgspec


@runtime_checkable
class Range(Protocol):
    """Something that accepts more than one value."""

    def accepts(self, measured: Any) -> bool:
        """Whether the measurement is one of its values."""


class Bounded(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of the ranges that are stored: `type` says which range it is."""


class Between(Bounded, frozen=True, tag="between"):
    """Any number from `low` to `high`, both included."""

    low: int | float
    high: int | float

    def accepts(self, measured: Any) -> bool:
        """Whether it lies between them."""
        return bool(self.low <= measured <= self.high)

    def __repr__(self) -> str:
        return f"between {self.low} and {self.high}"


class AtLeast(Bounded, frozen=True, tag="at-least"):
    """Any number from `low` up."""

    low: int | float

    def accepts(self, measured: Any) -> bool:
        """Whether it is not below."""
        return bool(measured >= self.low)

    def __repr__(self) -> str:
        return f"at least {self.low}"


class AtMost(Bounded, frozen=True, tag="at-most"):
    """Any number up to `high`."""

    high: int | float

    def accepts(self, measured: Any) -> bool:
        """Whether it is not above."""
        return bool(measured <= self.high)

    def __repr__(self) -> str:
        return f"at most {self.high}"


class OneOf:
    """Any of these values."""

    def __init__(self, *values: object) -> None:
        self.values = values

    def accepts(self, measured: Any) -> bool:
        """Whether it is one of them."""
        return measured in self.values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OneOf) and self.values == other.values

    def __hash__(self) -> int:
        return hash(self.values)

    def __repr__(self) -> str:
        return f"one of {', '.join(repr(value) for value in self.values)}"


def between(low: float, high: float) -> Between:
    """Any number from `low` to `high`, both included."""
    return Between(low, high)


def at_least(low: float) -> AtLeast:
    """Any number from `low` up."""
    return AtLeast(low)


def at_most(high: float) -> AtMost:
    """Any number up to `high`."""
    return AtMost(high)


def one_of(*values: object) -> OneOf:
    """Any of these values."""
    return OneOf(*values)


def matches(wanted: object, measured: object) -> bool:
    """Whether a measurement is what was wanted; what cannot be compared (None with a number) is not."""
    if isinstance(wanted, Range):
        try:
            return wanted.accepts(measured)
        except TypeError:
            return False
    return bool(measured == wanted)
