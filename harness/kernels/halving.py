"""Where a verdict changed: the two neighbouring kernels of the catalogue between which it did, found by halving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.kernels.catalogue import Kernel


@dataclass(frozen=True)
class Neighbours:
    """Two neighbours with different verdicts, and how many kernels were run to find them."""

    before: Kernel
    after: Kernel
    verdicts: tuple[str, str]
    runs: int


def halve(kernels: Sequence[Kernel], verdict: Callable[[Kernel], str]) -> Neighbours:
    """The neighbours among kernels, oldest first, between which the verdict of the first one ends.

    BadInput if first and last have the same verdict: there may be no boundary between them, or several.
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
        raise BadInput(f"the verdict is {at(low)} on both {kernels[low].release} and {kernels[high].release}")
    while high - low > 1:
        middle = (low + high) // 2
        if at(middle) == at(low):
            low = middle
        else:
            high = middle
    return Neighbours(kernels[low], kernels[high], (at(low), at(high)), len(seen))
