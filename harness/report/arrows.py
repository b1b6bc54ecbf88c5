"""Segments on their way between two hosts, and what became of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.observe.segments import Segment

Endpoint = tuple[str, int]
# What is the same when a segment is sent again: sequence number, length, SYN, FIN.
Content = tuple[int, int, bool, bool]
WRAP = 1 << 32


class Fate(StrEnum):
    """What became of a segment, as far as the capture tells."""

    ARRIVED = ""
    TAKEN = "taken"  # a rule of the scenario dropped it on arrival, as a cable that loses it
    HELD = "held"  # a rule of the scenario dropped it on arrival, and it was delivered later
    DROPPED = "dropped"  # it reached the host whose address it bears, and had no effect there
    LOST = "lost"  # it left one captured host and never reached the other
    IGNORED = "ignored"  # a crafted peer got it and sent the same again
    UNANSWERED = "unanswered"  # it left the captured host, and the other side acted as if it had not


@dataclass(slots=True)
class Arrow:
    """A segment on its way between two hosts.

    `left` and `came` are when it was seen to leave the one and to reach the other, in seconds since the epoch; None
    where nobody looked. `again` counts how often the same was sent before; `late` is a held one that was let go.
    """

    segment: Segment
    source: str
    target: str
    left: float | None
    came: float | None
    seq: int = 0
    ack: int = 0
    fate: Fate = Fate.ARRIVED
    again: int = 0
    late: bool = False

    @property
    def time(self) -> float:
        """When it was first seen."""
        return self.left if self.left is not None else self.came or 0.0

    @property
    def must_be_acknowledged(self) -> bool:
        """Whether it takes up sequence numbers."""
        flags = self.segment.flags
        return bool(self.segment.length) or "S" in flags or "F" in flags

    @property
    def acknowledges(self) -> bool:
        """Whether it acknowledges anything; a reset ends the connection, whatever number it has."""
        return "A" in self.segment.flags and "R" not in self.segment.flags

    @property
    def content(self) -> Content:
        """What is the same when it is sent again."""
        segment = self.segment
        return segment.seq, segment.length, "S" in segment.flags, "F" in segment.flags

    @property
    def ends(self) -> tuple[Endpoint, Endpoint]:
        """Where it comes from and goes to: address and port."""
        segment = self.segment
        return (segment.src, segment.sport), (segment.dst, segment.dport)


@dataclass
class Exchange:
    """What passed between clients and one listening endpoint, in the order of time; `lanes` from left to right."""

    service: Endpoint
    arrows: list[Arrow] = field(default_factory=list)
    lanes: list[str] = field(default_factory=list)
