"""Waiting for a condition, or for a moment that a rate demands."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, TypeVar

import tenacity

from harness.errors import NotReady

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# How long a condition may take, in seconds, on a machine with more to do than it can: a deadline, not a measurement.
PATIENCE = 20.0
SHORTEST_PAUSE = 0.0005
LONGEST_PAUSE = 0.02


def until(condition: Callable[[], T], *, deadline: float = PATIENCE, what: str = "the condition") -> T:
    """Call `condition` until it returns something true, and return that.

    `deadline` is in seconds; between calls the pause grows from half a millisecond to 20 ms, so that a
    condition met at once costs nothing and a long wait leaves the processor to those it waits for.
    Raises NotReady, with `what` and the last value, when the deadline has passed.
    """
    last: list[T] = []

    def attempt() -> T:
        last[:] = [condition()]
        return last[0]

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda value: not value),
        stop=tenacity.stop_after_delay(deadline),
        wait=tenacity.wait_exponential(multiplier=SHORTEST_PAUSE, max=LONGEST_PAUSE),
    )
    try:
        return retrying(attempt)
    except tenacity.RetryError:
        raise NotReady(f"{what}: not met within {deadline:g} s (last seen: {last[0]!r})") from None


def let_clock_reach(moment: float) -> None:
    """Let the monotonic clock reach a moment, in seconds: the kernel's own timer, through an empty select()."""
    remaining = moment - time.monotonic()
    if remaining > 0:
        select.select([], [], [], remaining)
