"""When a segment that is lost is sent again, and how a connection comes to an RTO other than its network's."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

from harness.errors import CounterMissing, NotReady
from harness.observe import socket_of, ss
from harness.traffic import RawPeer, drop
from harness.traffic.connection import endpoint, far_endpoint
from harness.traffic.timestamps import stamp, stamps_of
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scapy.layers.inet import TCP

    from harness.lab import Host
    from harness.observe import Capture, Delta
    from harness.observe.sockets import Endpoint
    from harness.traffic import Listener


def transmissions(seen: Capture, sender: Endpoint, payload: bytes | None = None) -> list[float]:
    """When data, or a SYN, was sent from an address and port, first and again, in seconds since the epoch.

    With `payload`, only when that was sent. Hosts choose their ports by themselves: two may choose the same.
    """
    own = [segment for segment in seen.segments() if (segment.src, segment.sport) == sender]
    if payload is not None:
        return [segment.time for segment in own if segment.payload == payload]
    return [segment.time for segment in own if segment.length or segment.flags.strip("EC") == "S"]


def gaps(moments: Sequence[float]) -> list[float]:
    """The seconds between one moment and the next."""
    return [round(later - earlier, 3) for earlier, later in pairwise(moments)]


def first_retransmissions(seen: Capture, connection: socket.socket, n: int = 1, *, deadline: float = 60) -> list[float]:
    """Lose a byte, sent on a connection to the host of the capture, and all that follows.

    Returns the seconds between one transmission and the next, up to the n-th repetition; NotReady after `deadline`.
    """
    sender = endpoint(connection)
    with drop(seen.host, sport=sender[1]):
        connection.send(b"x")
        until(lambda: len(transmissions(seen, sender)) > n, deadline=deadline, what=f"{n} retransmissions")
        return gaps(transmissions(seen, sender))[:n]


def loss_probes(moved: Delta) -> int:
    """How many tail loss probes there were, which look like retransmissions and are none of the RTO's (since 3.10)."""
    try:
        return int(moved.TcpExt.TCPLossProbes)
    except CounterMissing:
        return 0


def ss_rto(host: Host, connection: socket.socket) -> float:
    """The RTO as `ss --info` prints it, in seconds."""
    here, there = endpoint(connection)[1], far_endpoint(connection)[1]
    return ss.row(host, "--tcp", "--numeric", "--info", f"sport = :{here} and dport = :{there}").numbers["rto"] / 1000


def prefer_short_rto(host: Host, to: Host, seconds: float) -> None:
    """Let a host's connections to another have this as the least RTO, through a route with rto_min.

    See "route-may-have-a-least-rto" of the table of boundaries.
    """
    device = next(iter(host.interfaces))
    host.run("ip", "route", "add", _prefix(to), "dev", device, "rto_min", f"{round(seconds * 1000)}ms")


@contextmanager
def short_rto(host: Host, to: Host, seconds: float) -> Iterator[None]:
    """prefer_short_rto() for as long as the `with`: the RTO of a connection follows its route."""
    prefer_short_rto(host, to, seconds)
    try:
        yield
    finally:
        host.run("ip", "route", "del", _prefix(to))


def _prefix(host: Host) -> str:
    return f"{host.ip}/{32 if host.family == socket.AF_INET else 128}"


class FarAway:
    """A raw peer that claims, by the timestamps that it echoes, to be `seconds` away: a round trip takes so long.

    A round trip is measured by the echo when a segment was retransmitted (tcp_ack_update_rtt()). Without SACK there is
    no tail loss probe, so that what is sent again is sent by the RTO. `server` is the listener's end of the connection.
    """

    CLOCK = 1000  # a second, since timestamps-tick-in-milliseconds; HZ before

    def __init__(self, listener: Listener, near: Host, seconds: int) -> None:
        self.raw = RawPeer(listener.host, near).connection(listener)
        self.address = self.raw.peer.address
        self._clock = 1_000_000
        self.raw.send("S", options=[("MSS", 1460), *self._stamp(0)])
        syn_ack = self.raw.expect_syn_ack()
        self.raw.send("A", options=self._stamp(_clock_of(syn_ack)))
        (self.server,) = listener.accept()
        self.server.send(b"x")
        self.raw.wait("PA")
        again = self.raw.wait("PA", deadline=60)
        self.raw.ack += 1
        self.raw.send("A", options=self._stamp(_clock_of(again) - seconds * self.CLOCK))
        host = listener.host
        until(lambda: not socket_of(host, self.server).send_q, what="the acknowledgement to arrive")

    def next_transmission(self, deadline: float) -> None:
        """Wait until data comes, for the first time or again; NotReady after `deadline` seconds."""
        self.raw.wait("PA", deadline=deadline)

    def _stamp(self, echo: int) -> list[tuple[str, object]]:
        self._clock += 1
        return stamp(self._clock, echo)


def _clock_of(segment: TCP) -> int:
    stamps = stamps_of(segment)
    if stamps is None:
        raise NotReady("the host sends no timestamps: is net.ipv4.tcp_timestamps 0?")
    return stamps.value
