"""What passes between two ends, as a capture of one of their hosts shows it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.observe.capture import Capture
    from harness.observe.segments import Segment
    from harness.observe.sockets import Endpoint


@dataclass(frozen=True)
class Conversation:
    """The segments between two ends from a moment on, in seconds since the epoch: by default from now on."""

    packets: Capture
    local: Endpoint
    remote: Endpoint
    since: float = field(default_factory=time.time)

    def sent(self, flags: str | None = None) -> list[Segment]:
        """What the local end has sent: all, or what these flags mean (`harness.lab.impairment.Flags`)."""
        sent = self.packets.segments(direction="out", sport=self.local[1], dport=self.remote[1], flags=flags)
        return [segment for segment in sent if segment.time >= self.since]

    def received(self, flags: str | None = None) -> list[Segment]:
        """What the local end has got: all, or what these flags mean (`harness.lab.impairment.Flags`)."""
        received = self.packets.segments(direction="in", sport=self.remote[1], dport=self.local[1], flags=flags)
        return [segment for segment in received if segment.time >= self.since]
