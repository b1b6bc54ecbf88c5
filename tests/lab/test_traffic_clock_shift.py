"""A clock moved in the cable: others see it moved, the host itself does not, and connections work as before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput
from harness.observe import capture, counters
from harness.traffic import RawPeer, connect, echo, listen
from harness.traffic.clock_shift import ClockShift
from harness.traffic.clocks import shake_hands
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.lab import Lan, Pair
    from harness.observe import Segment

HOUR = 3_600_000


@pytest.mark.parametrize("ticks", [HOUR, -HOUR])
def test_the_clock_is_moved_for_everyone_else(lan: Callable[..., Lan], ticks: int) -> None:
    server, client = lan(2).hosts
    listener = listen(server, answer=echo)
    ClockShift(client, ticks)
    with capture(client) as here, capture(server) as there:
        attempts = connect(client, listener, 3, wait=True)
        assert attempts.ask(b"what time is it?") == 3

        def pairs() -> list[tuple[Segment, Segment]]:
            """Every segment as seen near and far, once all are at both ends."""
            near, far = ({(s.sport, s.seq, s.ack, s.flags): s for s in end.segments()} for end in (here, there))
            return [(near[key], far[key]) for key in near] if near.keys() == far.keys() else []

        seen = until(pairs, what="all segments at both ends")
    assert {near.flags for near, _ in seen} >= {"S", "SA", "A", "PA"}
    for near, far in seen:
        outward = near.direction == "out"
        assert near.tsval is not None
        assert near.tsecr is not None
        assert far.payload == near.payload
        assert far.tsval == (near.tsval + ticks * outward) % 2**32
        echoed = not outward and "A" in near.flags
        assert far.tsecr == (near.tsecr + ticks * echoed) % 2**32
    for host in (client, server):
        assert counters(host).Tcp.InErrs == 0
        assert counters(host).TcpExt.PAWSEstab == 0


def test_a_raw_peer_near_the_host_has_its_clock(lan: Callable[..., Lan]) -> None:
    server, client = lan(2).hosts
    ClockShift(client, 1000)
    listener = listen(server)
    with capture(server) as seen:
        shake_hands(RawPeer(server, client).connection(listener), 5000)
        (syn,) = seen.segments(flags="S")
        assert syn.tsval == 6000


def test_a_clock_is_moved_on_the_way_to_a_switch_only(pair: Pair) -> None:
    with pytest.raises(BadInput, match="client is on a cable"):
        ClockShift(pair.client, 1)
