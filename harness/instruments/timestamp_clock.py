"""The clock that a kernel's timestamps are read from: what it reads, how fast it goes, and its offsets."""

from __future__ import annotations

import itertools
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

from harness.lab import rtnetlink
from harness.laws import ranges
from harness.laws.serial import distance
from harness.traffic import connect, drop
from harness.traffic.clocks import ask
from harness.traffic.connection import take
from harness.traffic.repair import timestamp
from harness.traffic.timestamps import stamps_of
from harness.waiting import let_pass, until

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from harness.lab import Host, Pair
    from harness.laws.ranges import Range
    from harness.observe import Capture
    from harness.traffic import Listener, RawPeer
    from harness.traffic.connection import Connection

TIMESTAMPS = "net.ipv4.tcp_timestamps"
# include/uapi/linux/rtnetlink.h, since timestamps-in-microseconds-by-route.
RTAX_FEATURE_TCP_USEC_TS = 1 << 4
# How far apart the two segments are whose timestamps are compared, in seconds, and how many bytes each has.
APART = 0.3
WORDS = b"question"


def switch_timestamps(pair: Pair, mode: int) -> None:
    """Set tcp_timestamps at both hosts; where the knob is the whole machine's, only the server may have it."""
    for host in (pair.server, pair.client):
        if TIMESTAMPS in host.sysctl:
            host.sysctl[TIMESTAMPS] = mode


def clock_of(host: Host) -> int:
    """What a host's timestamp clock reads: that of a socket that is not connected, which has no offset yet."""
    with host.socket() as unconnected:
        return timestamp(unconnected)


class Offset(NamedTuple):
    """How far the timestamp of a SYN or a SYN-ACK is from the kernel's clock, in ticks; known to within `slack`."""

    ticks: int
    slack: int


def offset_towards(peer: RawPeer) -> Offset:
    """The offset of a new connection from the peer's host to the peer, who only looks at the SYN."""
    before = clock_of(peer.host)
    (attempt,) = connect(peer.host, (peer.address, 80))
    after = clock_of(peer.host)
    syn = until(lambda: [segment for segment in peer.poll() if segment.sport == attempt.port], what="the SYN")[0]
    value, _ = stamps_of(syn) or (0, 0)
    return Offset((value - before) % 2**32, (after - before) % 2**32 + 2)


def offset_of_answer(peer: RawPeer, to: Listener, *, clock: int = 1000) -> Offset:
    """The offset of a new connection from the peer, whose own clock reads `clock`, by the SYN-ACK of the host."""
    connection = peer.connection(to)
    before = clock_of(peer.host)
    ask(connection, clock)
    value, _ = stamps_of(connection.expect_syn_ack()) or (0, 0)
    after = clock_of(peer.host)
    return Offset((value - before) % 2**32, (after - before) % 2**32 + 2)


def different(offsets: list[Offset]) -> int:
    """How many of the offsets are not the same."""
    ordered = sorted(offset.ticks for offset in offsets)
    slack = max(offset.slack for offset in offsets)
    return 1 + sum(later - earlier > slack for earlier, later in itertools.pairwise(ordered))


class Advance(NamedTuple):
    """By how much the timestamps of two segments differ, and how much time lay between them, in seconds."""

    ticks: int
    least: float
    most: float

    def nearest(self, rates: tuple[int, ...]) -> int:
        """The one of several rates, in ticks a second, that fits best."""
        return min(rates, key=lambda rate: abs(rate - self.ticks / self.most))

    def expected(self, rate: int) -> Range:
        """How many ticks it may be at a rate in ticks a second."""
        return ranges.between(int(self.least * rate) - 1, int(self.most * rate) + 1)


def advance(
    packets: Capture, connection: Connection, *, between: AbstractContextManager[None] | None = None
) -> Advance:
    """Let the client speak twice, some time apart, the second time within `between`; `packets` sees it."""

    def speak() -> tuple[float, float]:
        began = time.monotonic()
        connection.client.send(WORDS)
        spoken = began, time.monotonic()
        take(connection.server, len(WORDS))
        return spoken

    spoken = [speak()]
    let_pass(APART)
    with between or nullcontext():
        spoken.append(speak())
    segments = packets.segments(ends=connection.ends)
    first, second = [segment.tsval or 0 for segment in segments if segment.payload == WORDS][-2:]
    (_, first_sent), (second_began, _) = spoken
    return Advance(distance(first, second), second_began - first_sent, spoken[1][1] - spoken[0][0])


def clocks_apart(peer: RawPeer, other: RawPeer) -> int:
    """How far apart the timestamps are that the hosts of two raw peers send to them at one moment, in ticks."""
    return abs(distance(offset_towards(peer).ticks, offset_towards(other).ticks))


def repeated_words(pair: Pair, connection: Connection, packets: Capture) -> list[int]:
    """Lose once what either side says; how many ticks newer the timestamp is with which it is said again.

    `packets` is a capture that sees it although it is lost.
    """
    newer_by = []
    for hearer, say, words in (
        (pair.server, connection.say, b"said again by the client"),
        (pair.client, connection.answer, b"said again by the server"),
    ):
        with drop(hearer, "PA", count=1):
            say(words)
        stamps = [segment.tsval or 0 for segment in packets.segments() if segment.payload == words]
        newer_by.append(distance(stamps[0], stamps[-1]))
    return newer_by


def ask_for_microseconds(host: Host, to: Host) -> None:
    """A route whose connections have timestamps in microseconds, where the kernel knows such routes."""
    (interface,) = host.interfaces.values()
    features = RTAX_FEATURE_TCP_USEC_TS
    host.netlink().tell(rtnetlink.route(to.ip, host.family, interface=interface.index, features=features))
    host.close_netlink()
