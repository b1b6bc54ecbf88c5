"""What a measurement is compared with: a value, or a range of values that reads as prose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, Protocol, runtime_checkable

LONGEST_TEXT = 2000


@runtime_checkable
class Range(Protocol):
    """Something that accepts more than one value."""

    def accepts(self, measured: Any) -> bool:
        """Whether the measurement is one of its values."""


@dataclass(frozen=True, repr=False)
class _Between:
    low: float
    high: float

    def accepts(self, measured: Any) -> bool:
        return bool(self.low <= measured <= self.high)

    def __repr__(self) -> str:
        return f"between {self.low} and {self.high}"


@dataclass(frozen=True, repr=False)
class _AtLeast:
    low: float

    def accepts(self, measured: Any) -> bool:
        return bool(measured >= self.low)

    def __repr__(self) -> str:
        return f"at least {self.low}"


@dataclass(frozen=True, repr=False)
class _AtMost:
    high: float

    def accepts(self, measured: Any) -> bool:
        return bool(measured <= self.high)

    def __repr__(self) -> str:
        return f"at most {self.high}"


@dataclass(frozen=True, repr=False)
class _OneOf:
    values: tuple[object, ...]

    def accepts(self, measured: Any) -> bool:
        return measured in self.values

    def __repr__(self) -> str:
        return f"one of {', '.join(repr(value) for value in self.values)}"


def between(low: float, high: float) -> Range:
    """Any number from `low` to `high`, both included."""
    return _Between(low, high)


def at_least(low: float) -> Range:
    """Any number from `low` up."""
    return _AtLeast(low)


def at_most(high: float) -> Range:
    """Any number up to `high`."""
    return _AtMost(high)


def one_of(*values: object) -> Range:
    """Any of these values."""
    return _OneOf(values)


def matches(wanted: object, measured: object) -> bool:
    """Whether a measurement is what was wanted; what cannot be compared (None with a number) is not."""
    if isinstance(wanted, Range):
        try:
            return wanted.accepts(measured)
        except TypeError:
            return False
    return bool(measured == wanted)


def jsonable(value: object) -> Any:
    """The value as JSON can hold it; what JSON does not know becomes its repr, cut at 2000 characters."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if is_dataclass(value) and not isinstance(value, type) and not isinstance(value, Range):
        return jsonable(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((jsonable(item) for item in value), key=repr)
    return (str(value) if isinstance(value, str) else repr(value))[:LONGEST_TEXT]


def rounded(value: object) -> object:
    """Fractions to three digits behind the point, or one where there are many before it."""
    if isinstance(value, float):
        return round(value, 3 if abs(value) < 100 else 1)
    if isinstance(value, list):
        return [rounded(one) for one in value]
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return value
