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
# Looking costs: the kernel goes through its whole table of connections for one look at its sockets. So the longer a
# wait has lasted, the longer is the pause: 3 % of the time that has passed, up to a fifth of a second.
PAUSE = 0.02
SHARE = 0.03
LONGEST_PAUSE = 0.2

# A wait is told of once it has taken so long, and then this often, in seconds.
LONG_WAIT, TOLD_EVERY = 2.0, 1.0

# Who wants to know of long waits: called with what is waited for, how long already, and how much longer at most, in
# seconds; a wait that is over has less than nothing left.
listener: Callable[[str, float, float], None] | None = None

_GROWING = tenacity.wait_exponential(multiplier=SHORTEST_PAUSE, max=PAUSE)


def until(
    condition: Callable[[], T],
    *,
    deadline: float = PATIENCE,
    what: str = "the condition",
    longest_pause: float = LONGEST_PAUSE,
) -> T:
    """Call `condition` until it returns something true, and return that.

    `deadline` is in seconds; between calls the pause grows from half a millisecond to 20 ms, later to 3 % of the time
    waited, so that a condition met at once costs nothing and a long wait leaves the processor to those it waits for.
    It is no longer than `longest_pause` seconds: for a condition that does something, and must not do it late.
    Raises NotReady, with `what` and the last value, when the deadline has passed.
    """
    begun = time.monotonic()
    first = condition()
    if first:
        return first
    last: list[T] = [first]
    wait = _Wait(what, deadline)

    def attempt() -> T:
        last[:] = [condition()]
        wait.goes_on()
        return last[0]

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda value: not value),
        stop=lambda _: time.monotonic() - begun >= deadline,
        wait=lambda state: min(pause(state), longest_pause),
    )
    select.select([], [], [], SHORTEST_PAUSE)
    try:
        return retrying(attempt)
    except tenacity.RetryError:
        raise NotReady(f"{what}: not met within {deadline:g} s (last seen: {last[0]!r})") from None
    finally:
        wait.is_over()


def until_equal(measure: Callable[[], T], wanted: T, *, what: str, deadline: float = PATIENCE) -> T:
    """Wait until what is measured is `wanted`, and return it; NotReady begins with `what` and both values."""
    return _until(measure, lambda seen: seen == wanted, what, repr(wanted), deadline)


def until_at_least(measure: Callable[[], int], wanted: int, *, what: str, deadline: float = PATIENCE) -> int:
    """Wait until a number has reached `wanted`, and return it; NotReady begins with `what` and both numbers."""
    return _until(measure, lambda seen: seen >= wanted, what, f"at least {wanted}", deadline)


def _until(measure: Callable[[], T], is_met: Callable[[T], bool], what: str, wanted: str, deadline: float) -> T:
    seen: list[T] = []

    def met() -> bool:
        seen[:] = [measure()]
        return is_met(seen[0])

    try:
        until(met, deadline=deadline, what=f"{what} to be {wanted}")
    except NotReady:
        raise NotReady(f"{what}: {seen[0]!r}, must be {wanted}; not so within {deadline:g} s") from None
    return seen[0]


def pause(state: tenacity.RetryCallState) -> float:
    """How long to wait before looking once more, in seconds."""
    passed = time.monotonic() - state.start_time
    return max(_GROWING(state), min(SHARE * passed, LONGEST_PAUSE))


def let_pass(seconds: float, *, what: str = "time to pass") -> None:
    """Let so many seconds pass, because the experiment is about time; `what` says what for."""
    let_clock_reach(time.monotonic() + seconds, what=what)


def let_clock_reach(moment: float, *, what: str = "a moment that its rate demands") -> None:
    """Let the monotonic clock reach a moment, in seconds: the kernel's own timer, through an empty select()."""
    remaining = moment - time.monotonic()
    if remaining <= 0:
        return
    wait = _Wait(what, remaining)
    while (remaining := moment - time.monotonic()) > 0:
        select.select([], [], [], remaining if listener is None else min(remaining, TOLD_EVERY))
        wait.goes_on()
    wait.is_over()


class _Wait:
    """One wait, as the listener is told of it."""

    def __init__(self, what: str, deadline: float) -> None:
        self._what, self._deadline = what, deadline
        self._began = time.monotonic()
        self._next = self._began + LONG_WAIT
        self._told = False

    def goes_on(self) -> None:
        """Tell of it, if it is a long one and it is time to."""
        if listener is None or (now := time.monotonic()) < self._next:
            return
        self._next, self._told = now + TOLD_EVERY, True
        since = now - self._began
        listener(self._what, since, max(0.0, self._deadline - since))

    def is_over(self) -> None:
        """Tell that it has ended, if it was told of."""
        if listener is not None and self._told:
            listener(self._what, time.monotonic() - self._began, -1.0)
