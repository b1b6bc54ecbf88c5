"""The machine's wall clock was set while a test ran: packets have its times, and what is counted from them is wrong."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

# In seconds. NTP slews both clocks alike (kernel/time/timekeeping.c), so that what lies between them changes only when
# the wall clock is set. Less than this may be that each of so many readings was interrupted.
SET, READINGS = 0.02, 10
WAS_SET = (
    "Meanwhile this machine's wall clock was set by {:+.2f} s, as it is by an operator, by NTP or where a virtual "
    "machine was stopped or moved. Packets have its times: what is measured from one to the next is wrong by as much."
)


@contextmanager
def shown_in_failures(item: pytest.Item) -> Iterator[None]:
    """When a test fails while the wall clock was set, say so in the failure."""
    before = _ahead()
    try:
        yield
    except BaseException:  # pytest.fail() raises no Exception
        if abs(by := _ahead() - before) > SET:
            item.add_report_section("call", "machine", WAS_SET.format(by))
        raise


def _ahead() -> float:
    """How far the wall clock is ahead of the one that only goes on, in seconds, by the quickest of some readings."""
    return min(_reading() for _ in range(READINGS))[1]


def _reading() -> tuple[float, float]:
    """How long a reading of both clocks took, in seconds, and how far the wall clock was ahead in the middle of it."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    wall = time.time()
    after = time.clock_gettime(time.CLOCK_BOOTTIME)
    return after - before, wall - (before + after) / 2
