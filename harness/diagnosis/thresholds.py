"""From where on something is wrong: thresholds.toml as a table, each number with its source."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from harness.diagnosis.findings import Certainty

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLE = Path(__file__).with_name("thresholds.toml")


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number, of what it is, who says so, and how sure a finding is that rests on it alone."""

    at: float
    unit: str
    source: str
    sure: Certainty = Certainty.CERTAIN

    def reached(self, number: float) -> bool:
        """Whether a number is as high."""
        return number >= self.at


def _read() -> Mapping[str, Threshold]:
    with TABLE.open("rb") as file:
        return MappingProxyType(msgspec.convert(tomllib.load(file), dict[str, Threshold]))


THRESHOLDS = _read()
