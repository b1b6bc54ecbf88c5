"""How old a TIME-WAIT must be before connect() may take its port over, with tcp_tw_reuse: tcp_twsk_unique()."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.laws.boundaries import since

if TYPE_CHECKING:
    from harness.laws.kernel import KernelVersion

# include/uapi/linux/time.h; the coarse clocks stand still within a tick, as the kernel's count of seconds does.
CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE = 5, 6
SECOND, MILLISECOND = 1_000_000_000, 1_000_000
# What tcp_tw_reuse_delay is unless set, in milliseconds; there is none before tw-reuse-delay-can-be-set.
USUAL_DELAY = 1000
# At this age, in seconds, every kernel lets a TIME-WAIT be taken over: two seconds had to begin before 4.19.
OLD_ENOUGH = 2.05


@dataclass(frozen=True)
class TakeOver:
    """It may be taken over once a clock has counted more than so many units since it was entered.

    `clock` is the number of the clock for clock_gettime(), `unit` its unit in nanoseconds.
    """

    clock: int
    unit: int
    more_than: int

    def now(self) -> int:
        """What the clock reads, in its units."""
        return time.clock_gettime_ns(self.clock) // self.unit

    def phase(self) -> float:
        """How far into its second the clock is, in seconds."""
        return time.clock_gettime_ns(self.clock) % SECOND / SECOND

    def age(self, phase: float) -> float:
        """The age, in seconds, from which on a TIME-WAIT can be taken over that was entered `phase` s into a second."""
        return (self.more_than + 1) * self.unit / SECOND - phase % (self.unit / SECOND)

    def remaining(self, entered: int) -> int:
        """Nanoseconds from now until one is old enough that was entered when the clock read `entered` units."""
        return (entered + self.more_than + 1) * self.unit - time.clock_gettime_ns(self.clock)

    def allows(self, passed: tuple[int, int]) -> bool | None:
        """Whether connect() may take over what was entered (at least, at most) so many units ago; None: either way."""
        at_least, at_most = passed
        if at_least > self.more_than:
            return True
        return False if at_most <= self.more_than else None


def take_over(delay: int = USUAL_DELAY, *, kernel: KernelVersion | None = None) -> TakeOver:
    """The rule of a kernel, the running one unless given; `delay` is tcp_tw_reuse_delay, where it has that.

    Milliseconds are compared since 6.14; before, whole seconds: of the monotonic clock since 4.19, of the wall clock
    before that, and of these more than one.
    """
    if since("tw-reuse-by-milliseconds", kernel):
        return TakeOver(time.CLOCK_MONOTONIC, MILLISECOND, delay)
    if since("tw-reuse-by-monotonic-seconds", kernel):
        return TakeOver(CLOCK_MONOTONIC_COARSE, SECOND, 0)
    return TakeOver(CLOCK_REALTIME_COARSE, SECOND, 1)
