"""A data segment that outlives its connection, and a new connection between the same ends that it meets."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import NotReady
from harness.observe import counters, segments, states_at
from harness.traffic import Connection, establish, hold
from harness.traffic.connection import endpoint, far_endpoint, peek, take, unacknowledged
from harness.traffic.raw import deliver
from harness.traffic.repair import Placed, place_both
from harness.waiting import until

if TYPE_CHECKING:
    import socket

    from harness.lab import Host
    from harness.observe import Segment
    from harness.observe.sockets import Endpoint
    from harness.traffic import Hold, Listener

OLD, NEW = b"old data", b"new"
# net/core/secure_seq.c, seq_scale(): the clock of initial sequence numbers counts up every 64 ns and has 32 bits, so it
# comes round in 275 s; here in milliseconds, as timestamps tick.
ROUND = 274_878
FAR_BELOW = 2**30


@dataclass(frozen=True)
class OldData:
    """A segment with OLD in it, of a connection that has ended since: its frame, and what is in it.

    The connection was between `client`, which has closed first, and `server`, from `local` to `remote`.
    """

    client: Host
    server: Host
    local: Endpoint
    remote: Endpoint
    frame: bytes
    segment: Segment

    def connect_again(self, *, ack_fits: bool = True) -> Connection:
        """A connection between the same ends, when the clock of initial sequence numbers has come round.

        Both ends are real sockets that TCP_REPAIR puts so that the old segment fits behind NEW; unless `ack_fits`, what
        it acknowledges lies far below what the new connection has acknowledged.
        """
        clock = None if self.segment.tsval is None else (self.segment.tsval + ROUND) % 2**32
        acknowledged = self.segment.ack + (0 if ack_fits else FAR_BELOW)
        at = Placed((self.segment.seq - len(NEW)) % 2**32, acknowledged % 2**32, clock)
        return Connection(*place_both(self.client, self.server, (self.local[1], self.remote[1]), at))

    def arrive(self) -> None:
        """Let the segment arrive at the server."""
        _arrive(self.server, self.frame)

    def arrive_behind_new(self, connection: Connection) -> bytes:
        """Let it arrive behind NEW data of a connection; what the server's application can read then."""
        connection.say(NEW)
        until(lambda: unacknowledged(connection.client) == 0, what="new data to be acknowledged")
        self.arrive()
        return peek(connection.server)


@dataclass(frozen=True)
class LateData:
    """A segment of a connection that is still open, on its way since `sent` on the monotonic clock, in seconds.

    `end` is the socket that it is for; `copies` holds what repeats it as well, `frame` is the first.
    """

    server: Host
    end: socket.socket
    copies: Hold
    frame: bytes
    sent: float

    def arrive(self) -> tuple[bytes, float]:
        """Let the first copy arrive alone: what can be read then, and how old it was, in seconds."""
        self.copies.lift()
        age = time.monotonic() - self.sent
        _arrive(self.server, self.frame)
        return peek(self.end), age


def delay_open_data(client: Host, listener: Listener) -> LateData:
    """Let a client send OLD on a connection that stays open; neither that arrives nor what repeats it."""
    connection = establish(client, listener)
    copies = hold(listener.host, "PA", sport=connection.port, dport=listener.port)
    sent = time.monotonic()
    connection.client.sendall(OLD)
    until(lambda: copies.count, what="the segment to be sent")
    return LateData(listener.host, connection.server, copies, copies.held()[0], sent)


def delay_data(client: Host, listener: Listener) -> OldData:
    """Let a client send OLD, of which a copy lingers on the way, and both sides close, the client first."""
    connection = establish(client, listener, source=(client.ip, 0))
    local, remote = endpoint(connection.client), far_endpoint(connection.client)
    copies = hold(listener.host, "PA", sport=local[1], dport=remote[1])
    connection.client.sendall(OLD)
    until(lambda: copies.count, what="the segment to be sent")
    frame = copies.held()[0]
    copies.lift()
    if take(connection.server, len(OLD)) != OLD:
        raise NotReady(f"port {remote[1]} read something else than {OLD!r}")
    connection.close()
    until(lambda: not states_at(listener.host, listener.port), what="the last ACK")
    segment = segments.parse(frame, time=0, direction="in", interface="")
    if segment is None:
        raise NotReady("what was held is no TCP segment")
    return OldData(client, listener.host, local, remote, frame, segment)


def _arrive(host: Host, frame: bytes) -> None:
    """Let a frame arrive at a host."""
    before = counters(host).Tcp.InSegs
    deliver(host, frame)
    until(lambda: counters(host).Tcp.InSegs > before, what="the segment to arrive")
