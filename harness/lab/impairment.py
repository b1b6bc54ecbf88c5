"""What was done to the traffic of a lab: a rule that dropped or held segments, from when to when, and how many."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SegmentMatch:
    """Which segments a rule means: TCP flags as letters, ports, and the acknowledgement number; None matches any.

    Of the segments that match, those from the `first` (1 is the next) on, `count` of them or all.
    """

    flags: str | None = None
    sport: int | None = None
    dport: int | None = None
    ack: int | None = None
    first: int = 1
    count: int | None = None


@dataclass(frozen=True)
class Impairment:
    """A rule at a host, "drop" or "hold"; `since` and `until` in seconds since the epoch, None while it lasts.

    `dropped` counts the segments that it took; held ones were let go later.
    """

    kind: str
    host: str
    match: SegmentMatch
    since: float
    until: float | None
    dropped: int
