"""Timestamps of RFC 7323 in Linux: how fast their clock ticks, where it begins, and which are too old."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.laws.boundaries import before, since, uncertain
from harness.laws.ranges import one_of

if TYPE_CHECKING:
    from harness.laws.kernel import KernelVersion

MICROSECONDS = 1_000_000
# TCP_PAWS_WINDOW (include/net/tcp.h), in ticks: what is older by no more than that is let pass. What is 2^31 older is
# newer (tcp_paws_check()).
TOLERATED = 1
TOO_OLD = (TOLERATED + 1, 1000, 1_000_000, 2**31 - 1)
# How long the last timestamp of an address was kept, with tcp_tw_recycle, in seconds: TCP_PAWS_MSL.
KEPT = 60


def ticks_a_second(kernel: KernelVersion | None = None) -> tuple[int, ...]:
    """What a second may be in ticks: milliseconds, or the jiffies of whatever the kernel was built with."""
    return (1000,) if since("timestamps-tick-in-milliseconds", kernel) else (100, 250, 300, 1000)


def offsets_to_one_address(connections: int, kernel: KernelVersion | None = None) -> object:
    """How many offsets from the clock so many connections to one address have with tcp_timestamps 1.

    One, until each had its own for a release; then one of the pair of hosts, and again each its own. A value, or a
    range where it is not known. net/core/secure_seq.c, secure_tcp_ts_off().
    """
    random_for_each = since("timestamp-offset-is-random", kernel) and before("timestamp-offset-per-host-pair", kernel)
    if random_for_each or since("timestamp-offset-by-ports", kernel):
        return connections
    return one_of(1, connections) if uncertain("timestamp-offset-by-ports", kernel) else 1


def keeps_its_offset(kernel: KernelVersion | None = None) -> bool:
    """Whether a connection that takes over a TIME-WAIT has the offset of the one before it.

    For a release each had an offset of its own, and one that took over a TIME-WAIT none at all.
    """
    return before("timestamp-offset-is-random", kernel) or since("timestamp-offset-survives-take-over", kernel)
