"""TCP timestamps: that they never go back, that they are no time of day, and which one is sent back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import Unsupported
from harness.evidence import ticks
from harness.instruments.closing import lose_last_ack
from harness.instruments.shared_address import setbacks
from harness.instruments.stamped import Stamped
from harness.instruments.syn_queue import SYNCOOKIES
from harness.instruments.timestamp_clock import (
    TIMESTAMPS,
    advance,
    clocks_apart,
    offset_of_answer,
    repeated_words,
)
from harness.instruments.wall_clock import time_of_day_stepped
from harness.laws import before
from harness.laws.ranges import at_least, at_most, between
from harness.laws.serial import distance
from harness.laws.timestamps import ticks_a_second
from harness.observe.paws import rejected
from harness.traffic import Connection, RawPeer, establish, listen
from harness.traffic.clocks import shake_hands
from harness.traffic.connection import read
from harness.traffic.repair import Placed, place_both, set_timestamp, timestamp
from harness.traffic.timestamps import stamp
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import Lan, Pair
    from harness.observe.sockets import FourTuple

# A talk begins so many ticks before the clock comes round, and where its numbers are.
BEFORE_ROUND, HERE, THERE = 600, 1_000_000, 2_000_000
PORT = 14500
STEP = 1000
# Of so many connections one in three has a SYN-ACK whose options are more than its clock's lower bits.
COOKIES = 20
SECOND = 1000
A_MINUTE = 60_000


@pytest.mark.claim("timestamps.monotonic")
def test_monotonic(claim: ClaimRun, pair: Pair) -> None:
    client, server, packets = pair.client, pair.server, claim.capture(pair.client)

    def goes_back(ends: FourTuple) -> dict[str, int]:
        """How often a timestamp of each side, the client's end first, is older than the one that it had sent before."""
        sent = {
            "client": packets.segments(ends=ends, direction="out"),
            "server": packets.segments(ends=ends, direction="in"),
        }
        return {
            side: setbacks([each for each in segments if each.tsval is not None]) for side, segments in sent.items()
        }

    with claim.effect("a talk in which what either side says is lost once, and its end") as effect:
        connection = establish(client, listen(server)).talk(2)
        for newer_by in repeated_words(pair, connection, packets):
            effect.compare("the segment sent again has a newer timestamp, by", ticks(newer_by), document=at_least(1))
        ends = connection.ends
        connection.close()
        effect.compare("times that it goes back", goes_back(ends), document={"client": 0, "server": 0})
    with claim.effect("a FIN that comes again, which TIME-WAIT acknowledges") as effect:
        last = lose_last_ack(client, listen(server))
        ends = last.local, last.remote
        last.repeat()
        *_, before, answer = [each.tsval for each in packets.segments(ends=ends, direction="out")]
        newer_by = ticks(distance(before or 0, answer or 0))
        effect.compare("its ACK is newer than the one that was lost, by", newer_by, document=between(1, A_MINUTE))
        effect.compare("times that it goes back", goes_back(ends), document={"client": 0, "server": 0})
    with claim.effect("connections that SYN cookies began, whose SYN-ACKs keep options in their timestamps") as effect:
        server.sysctl[SYNCOOKIES] = 2
        listener, peer = listen(server, 64), RawPeer(server, client)
        seen, backwards = claim.capture(server, port=listener.port), 0
        for _ in range(COOKIES):
            connection_of = peer.connection(listener)
            theirs = shake_hands(connection_of, HERE)
            connection_of.send("PA", b"hello", options=stamp(HERE, theirs))
            connection_of.wait("A")
            backwards += setbacks(seen.segments(dport=connection_of.port))
        effect.premise("cookies taken", effect.delta(server).TcpExt.SyncookiesRecv, COOKIES)
        effect.compare(f"times that it goes back, of {COOKIES} connections", backwards, document=0)
        # Behind a SYN-ACK that is ahead of the clock all goes back that follows at once.
        if TIMESTAMPS in server.sysctl:
            server.sysctl[TIMESTAMPS] = 2
            offsets = [offset_of_answer(peer, listener) for _ in range(COOKIES)]
            ahead = sum(distance(0, offset.ticks) > offset.slack for offset in offsets)
            effect.compare(f"SYN-ACKs of {COOKIES} that are ahead of the kernel's clock", ahead, document=0)
            server.sysctl[TIMESTAMPS] = 1
        server.sysctl[SYNCOOKIES] = 1
    with claim.effect("a talk during which the clock comes round, 2^32 ticks") as effect:
        at = Placed(HERE, THERE, 2**32 - BEFORE_ROUND)
        connection = Connection(*place_both(client, server, (PORT, PORT + 1), at)).talk(2)
        until(lambda: timestamp(connection.client) < 2**31, what="the clock to come round")
        ends = connection.ends
        connection.talk(2).close()
        values = [segment.tsval or 0 for segment in packets.segments(ends=ends, direction="out")]
        effect.premise("it has come round", values[0] > 2**31 > values[-1], True)
        effect.compare("times that it goes back", goes_back(ends), document={"client": 0, "server": 0})
    with claim.control("the client's clock is set back by 2^20 ticks: what going back looks like") as control:
        control.note("TCP_REPAIR", "TCP_TIMESTAMP set the clock back")
        connection = establish(client, listen(server)).talk()
        set_timestamp(connection.client, timestamp(connection.client) - 2**20)
        connection.client.sendall(b"data")
        until(lambda: rejected(control.delta(server)), what="it to be rejected")
        control.expect("times that the client's goes back", goes_back(connection.ends)["client"], 1)
        control.expect("what the server reads", read(connection.server), b"")


@pytest.mark.claim("timestamps.follows-wall-clock")
def test_follows_wall_clock(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    if before("timestamp-offset-is-random"):
        raise Unsupported(
            "all hosts of a machine show its one clock here; with --tcp-own-kernel it is told from the time"
        )
    one, other, third = lan(3).hosts
    peers = [RawPeer(host, third) for host in (one, other)]
    with claim.effect("two hosts of one machine, which have the same time of day") as effect:
        apart = ticks(clocks_apart(*peers))
        effect.compare(
            "how far apart their timestamps are, in ms", apart, document=at_most(SECOND), kernel=at_least(SECOND + 1)
        )
    with claim.control("tcp_timestamps 2 at both: the kernel's clock, which is the same") as control:
        one.sysctl[TIMESTAMPS] = other.sysctl[TIMESTAMPS] = 2
        control.expect("how far apart their timestamps are, in ms", ticks(clocks_apart(*peers)), at_most(SECOND))


@pytest.mark.machine_wide("the time of day")
@pytest.mark.claim("timestamps.follows-wall-clock")
def test_follows_wall_clock_when_it_is_set(claim: ClaimRun, pair: Pair) -> None:
    packets = claim.capture(pair.server)
    connection = establish(pair.client, listen(pair.server))
    with claim.effect(f"between two segments the time of day is set {STEP} s ahead") as effect:
        moved = advance(packets, connection, between=time_of_day_stepped(STEP))
        document = at_least(STEP * min(ticks_a_second()))
        kernel = moved.expected(moved.nearest(ticks_a_second()))
        effect.compare("the timestamp's advance, in ticks", ticks(moved.ticks), document=document, kernel=kernel)
    with claim.control("between two segments nothing is set") as control:
        moved = advance(packets, connection)
        expected = moved.expected(moved.nearest(ticks_a_second()))
        control.expect("the timestamp's advance, in ticks", ticks(moved.ticks), expected)


@pytest.mark.claim("timestamps.echo-is-the-last-received")
def test_echo_is_the_last_received(claim: ClaimRun, pair: Pair) -> None:
    def of_another() -> Stamped:
        return Stamped(pair.server, pair.client)

    # Relative to the timestamp that had been received last before.
    with claim.effect("a segment ahead of its turn, whose timestamp is 500 later") as effect:
        # RFC 7323, section 4.3; tcp_replace_ts_recent() wants seq <= rcv_wup.
        echoed = of_another().echo(500, ahead=10)
        effect.compare("the timestamp sent back, in ticks later", ticks(echoed), document=500, kernel=0)
    with claim.effect("two segments in turn, 10 and 20 later, and one ACK for both") as effect:
        echoed = of_another().echo(10, 20)
        effect.compare("the timestamp sent back, in ticks later", ticks(echoed), document=20, kernel=10)
    with claim.control("one segment in turn, 10 later") as control:
        control.expect("the timestamp sent back, in ticks later", ticks(of_another().echo(10)), 10)
