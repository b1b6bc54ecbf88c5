"""Timing two ways of doing the same thing, turn about, so that both see the same noise."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, ours, the other way, and whether it is as it must be."""

    what: str
    ours: str
    other: str
    bound: str
    met: bool


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes, in seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def turn_about(ours: Callable[[], float], other: Callable[[], float], rounds: int) -> tuple[float, float]:
    """The medians, in seconds, of two measurements taken alternately."""
    pairs = [(ours(), other()) for _ in range(rounds)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def milliseconds(value: float) -> str:
    """A duration in seconds, written in milliseconds."""
    return f"{value * 1000:.2f} ms"
