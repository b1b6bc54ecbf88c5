"""Measurements as JSON of schema 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from harness.laws.ranges import Range

LONGEST_TEXT = 2000


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
