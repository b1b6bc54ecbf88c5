"""What a capture of packets tells of connections: which SYNs were answered, repeated, reset."""

from __future__ import annotations

import msgspec

from harness.evidence.types import Endpoint
from harness.incident.facts import Source


class Attempts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Attempts to connect to one endpoint, a first SYN each.

    `answered` had a SYN-ACK, `reset` an RST in its place, the rest nothing. `completed` had the ACK of the SYN-ACK too.
    `repeated` SYNs and `repeated_answers` (SYN-ACKs) are packets beyond the first. `broken` were reset after they were
    complete. `retransmitted` segments with data were seen twice, of `data`. `clients` distinct addresses tried.
    `without_timestamps` SYNs had no timestamp option.
    """

    service: Endpoint
    tried: int
    clients: int
    answered: int = 0
    reset: int = 0
    completed: int = 0
    repeated: int = 0
    repeated_answers: int = 0
    broken: int = 0
    data: int = 0
    retransmitted: int = 0
    without_timestamps: int = 0

    @property
    def unanswered(self) -> int:
        """Attempts that got neither SYN-ACK nor RST."""
        return self.tried - self.answered - self.reset


class Captured(msgspec.Struct, frozen=True, omit_defaults=True):
    """A capture: how many packets, how many of TCP, from when to when (seconds since the epoch), and the attempts."""

    source: Source
    packets: int
    segments: int
    first: float
    last: float
    attempts: tuple[Attempts, ...]
    left_out: int = 0
