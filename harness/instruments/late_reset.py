"""An RST that outlives its connection: what it does to TIME-WAIT, and to the next connection between the same ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from harness.errors import NotReady
from harness.observe import counters, segments, states_between
from harness.traffic import Connection, hold
from harness.traffic.closing import leave_time_wait
from harness.traffic.raw import deliver
from harness.traffic.repair import Placed, place_both
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.observe import Capture
    from harness.traffic import Listener

# Where the new connection's numbers begin in the other direction.
SOMEWHERE = 1_000_000


class LateReset:
    """The RST of a peer that both sides' closing is over for, on its way since `sent`, on the monotonic clock.

    The peer's FIN arrives once more, as duplicates do. TIME-WAIT acknowledges it, and the peer, which knows the
    connection no more, answers with an RST of exactly the number that TIME-WAIT expects (RFC 1337, section 2.1).
    `packets` is a capture of the side that closes first.
    """

    def __init__(self, closer: Host, listener: Listener, packets: Capture) -> None:
        self.closer, self.peer = closer, listener.host
        ((self.local, self.remote),) = leave_time_wait(closer, listener, source=(closer.ip, 0))
        held = hold(closer, "R", sport=listener.port, dport=self.local[1])
        deliver(closer, self._fin(packets))
        until(lambda: held.count, what="the RST that answers the ACK of TIME-WAIT")
        self.sent = time.monotonic()
        held.lift()
        self.frame = held.held()[0]
        reset = segments.parse(self.frame, time=0, direction="in", interface="")
        assert reset is not None
        self.number = reset.seq

    @property
    def states(self) -> list[str]:
        """What the side that closed first has between the two ends."""
        return states_between(self.closer, self.local, self.remote)

    def arrive(self) -> float:
        """Let it arrive; how old it was, in seconds."""
        before, age = counters(self.closer).Tcp.InSegs, time.monotonic() - self.sent
        deliver(self.closer, self.frame)
        until(lambda: counters(self.closer).Tcp.InSegs > before, what="the RST to arrive")
        return age

    def connect_again(self) -> Connection:
        """A connection between the same ends whose next number from the peer is that of the RST.

        Both ends are real sockets that TCP_REPAIR puts there, as if 4 GB had gone by. There must be no TIME-WAIT.
        """
        ports = self.local[1], self.remote[1]
        return Connection(*place_both(self.closer, self.peer, ports, Placed(SOMEWHERE, self.number)))

    def _fin(self, packets: Capture) -> bytes:
        """The frame of the peer's FIN."""
        for packet in packets.packets():
            segment = packet.segment()
            if segment is None or "F" not in segment.flags or packet.direction != "in":
                continue
            if (segment.sport, segment.dport) == (self.remote[1], self.local[1]):
                return packet.frame
        raise NotReady(f"no FIN to port {self.local[1]} was captured at {packets.host.name}")
