"""Which SYN from outside gets past a TIME-WAIT: one with a higher number, or with a newer timestamp."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness.evidence import state
from harness.instruments.inbound import CLOCK, LET_IN, REFUSED, Answer, Door
from harness.observe import counters, states_at
from harness.observe.paws import rejected
from harness.traffic import SYN_OPTIONS, connect, listen
from harness.traffic.closing import leave_time_wait
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair
    from harness.observe import Capture, Counters
    from harness.traffic import RawConnection

# In seconds: less than the half second (net.ipv4.tcp_invalid_ratelimit) in which there is one answer.
AT_ONCE = 0.4
SKIPPED = "TcpExt.TCPACKSkippedTimeWait"


class Knocked(NamedTuple):
    """A TIME-WAIT that two SYNs have reached at once, and the server's counters from before them."""

    connection: RawConnection
    before: Counters


def knock_twice(door: Door, packets: Capture) -> Knocked:
    """Two SYNs not above its end reach a TIME-WAIT at once, and the first was answered.

    `packets` is a capture of the server's, which says when they came: where the machine was put off between the two,
    another connection is tried.
    """
    tried: list[Knocked] = []

    def at_once() -> bool:
        old = door.leave_behind(None)
        came = partial(packets.segments, flags="S", direction="in", sport=old.port)
        opened = len(came())
        tried.append(Knocked(old, counters(door.listener.host)))
        for _ in range(2):
            old.send("S", seq=old.seq, options=SYN_OPTIONS)
        until(lambda: len(came()) == opened + 2, what="two SYNs in the capture")
        first, second = came()[opened:]
        return second.time - first.time < AT_ONCE

    until(at_once, what="two SYNs at once")
    tried[-1].connection.wait("A")
    return tried[-1]


def reconnected(pair: Pair) -> Answer:
    """What becomes of a real client that uses a four-tuple again of which the server has the TIME-WAIT."""
    listener = listen(pair.server)
    ((_, client),) = leave_time_wait(pair.client, listener, closer="server")
    attempt = connect(pair.client, listener, source=client, wait=True)[0]
    (left,) = states_at(pair.server, client[1])
    return Answer(attempt.result, left)


@pytest.mark.claim("time-wait.inbound-higher-isn")
def test_inbound_higher_isn(claim: ClaimRun, pair: Pair) -> None:
    door = Door(pair.server, pair.client)
    with claim.effect("no timestamps in the old connection: SYNs above its end") as effect:
        for isn in (1, 100_000, 2**31 - 1):
            effect.compare(f"SYN {isn} above", door.knock(isn, None, last=None), document=LET_IN)
    with claim.effect("timestamps in the old connection: SYNs above its end") as effect:
        effect.compare("SYN 1 above, no timestamp", door.knock(1, None), document=LET_IN)
        effect.compare("SYN 1 above, the same timestamp", door.knock(1, CLOCK), document=LET_IN)
        effect.compare("SYN 1 above, timestamp 1 newer", door.knock(1, CLOCK + 1), document=LET_IN)
        effect.premise("refused by PAWS", rejected(effect.delta(pair.server)), 0)
    with claim.effect("timestamps in the old connection: a SYN above its end, whose timestamp is older") as effect:
        effect.compare("SYN 1 above, timestamp 1 older", door.knock(1, CLOCK - 1), document=LET_IN, kernel=REFUSED)
        effect.premise("refused by PAWS", rejected(effect.delta(pair.server)), 1)
    with claim.effect("a real client connects from the same port") as effect:
        effect.compare("connect()", reconnected(pair), document=Answer("connected", "ESTAB"))
    with claim.control("SYNs not above its end, whose timestamp is not newer") as control:
        for isn in (0, -1, -100_000):
            control.expect(f"SYN {isn} above, no timestamps", door.knock(isn, None, last=None), REFUSED)
            control.expect(f"SYN {isn} above, the same timestamp", door.knock(isn, CLOCK), REFUSED)
        control.expect("refused by PAWS", rejected(control.delta(pair.server)), 0)
    with claim.control("two SYNs not above its end, at once: since 4.0 the second gets no answer") as control:
        old, before = knock_twice(door, claim.capture(pair.server, port=door.listener.port))
        # 4fb17a609167 "tcp: mitigate ACK loops for connections as tcp_timewait_sock": one in half a second
        if SKIPPED in before:
            until(lambda: (counters(pair.server) - before)[SKIPPED], what="the second SYN to be skipped")
            control.expect("SYNs that are skipped", (counters(pair.server) - before)[SKIPPED], 1)
            control.expect("answers to the second", len(old.replies()[old.taken :]), 0)
        control.expect("state", state(door.states(old)), ["TIME-WAIT"])


@pytest.mark.claim("time-wait.inbound-newer-timestamp")
def test_inbound_newer_timestamp(claim: ClaimRun, pair: Pair) -> None:
    door = Door(pair.server, pair.client)
    with claim.effect("timestamps in the old connection: SYNs with a newer one") as effect:
        for newer in (1, 2**31 - 1):
            for isn in (1, 0, -100_000):
                answer = door.knock(isn, CLOCK + newer)
                effect.compare(f"SYN {isn} above, timestamp {newer} newer", answer, document=LET_IN)
        effect.premise("refused by PAWS", rejected(effect.delta(pair.server)), 0)
    with claim.control("the same numbers, but the timestamp is not newer") as control:
        control.expect("SYN 0 above, the same timestamp", door.knock(0, CLOCK), REFUSED)
        control.expect("SYN -100000 above, the same timestamp", door.knock(-100_000, CLOCK), REFUSED)
        control.expect("refused by PAWS", rejected(control.delta(pair.server)), 0)
        control.expect("SYN 0 above, timestamp 1 older", door.knock(0, CLOCK - 1), REFUSED)
        control.expect("SYN -100000 above, timestamp 1 older", door.knock(-100_000, CLOCK - 1), REFUSED)
        control.expect("refused by PAWS", rejected(control.delta(pair.server)), 2)
    with claim.control("no timestamps in the old connection: the SYN's is not looked at") as control:
        control.expect("SYN -100000 above, with a timestamp", door.knock(-100_000, CLOCK, last=None), REFUSED)
