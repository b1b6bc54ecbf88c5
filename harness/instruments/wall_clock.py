"""The machine's time of day, set otherwise for a while; only in a kernel of our own."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.errors import GlobalSysctl
from harness.lab import machine

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def time_of_day_stepped(seconds: float) -> Iterator[None]:
    """Within, the clock with the time of day is so many seconds ahead of what it would be.

    Nobody else's lab is open meanwhile. GlobalSysctl where the kernel is not ours alone.
    """
    if not machine.is_ours():
        raise GlobalSysctl("the time of day belongs to the whole machine; it can be set in a kernel of its own")
    machine.turns.alone()
    _step(seconds)
    try:
        yield
    finally:
        _step(-seconds)


def _step(seconds: float) -> None:
    time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME) + seconds)
