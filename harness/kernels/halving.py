"""Where a verdict changed: the two neighbours, of kernels in an order, between which it did, found by halving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from harness.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


@dataclass(frozen=True)
class Neighbours(Generic[T]):
    """Two neighbours with different verdicts, and how many kernels were run to find them."""

    before: T
    after: T
    verdicts: tuple[str, str]
    runs: int


def halve(kernels: Sequence[T], verdict: Callable[[T], str], name: Callable[[T], str] = str) -> Neighbours[T]:
    """The neighbours among kernels, oldest first, between which the verdict of the first one ends.

    `name` is what an error calls one. BadInput if first and last have the same verdict: there may be no boundary
    between them, or several.
    """
    seen: dict[int, str] = {}

    def at(index: int) -> str:
        if index not in seen:
            seen[index] = verdict(kernels[index])
        return seen[index]

    low, high = 0, len(kernels) - 1
    if high < 1:
        raise BadInput("to find a boundary between kernels, name two that differ")
    if at(low) == at(high):
        raise BadInput(f"the verdict is {at(low)} on both {name(kernels[low])} and {name(kernels[high])}")
    while high - low > 1:
        middle = (low + high) // 2
        if at(middle) == at(low):
            low = middle
        else:
            high = middle
    return Neighbours(kernels[low], kernels[high], (at(low), at(high)), len(seen))
