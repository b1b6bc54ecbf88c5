"""TCP timestamps: whether those of one client are held against others that share its address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import ticks
from harness.instruments.shared_address import arrive, setbacks, visits
from harness.instruments.timestamp_clock import TIMESTAMPS, switch_timestamps
from harness.laws.ranges import at_least
from harness.laws.timestamps import TOO_OLD
from harness.traffic import RawPeer, listen
from harness.traffic.clocks import ask, come_and_go, shake_hands
from harness.waiting import until
from scenarios.recycle import RECYCLE, lacks_recycle

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import BehindNat, Pair
    from harness.observe import Segment

CLOCK = 3_000_000_000
BEHIND = 1_000_000
OLDER = [CLOCK - age for age in TOO_OLD]
NEWER = [CLOCK + 2 + n for n in range(len(TOO_OLD))]


@pytest.mark.claim("timestamps.per-peer-granularity")
def test_per_peer_granularity(claim: ClaimRun, behind_nat: Callable[..., BehindNat]) -> None:
    net = behind_nat()
    server, listener = net.server, listen(net.server)
    peer = RawPeer(server, net.gateway)
    seen = claim.capture(server, port=listener.port)
    with claim.effect(
        "one connection is open, one has come and gone; others of that address have older timestamps"
    ) as effect:
        still_open, gone = peer.connection(listener), peer.connection(listener)
        come_and_go(gone, listener, CLOCK)
        shake_hands(still_open, CLOCK)
        listener.accept()
        effect.compare("connections made", arrive(peer, listener, OLDER), document=0, kernel=len(OLDER))
        # What the kernel does look at is the four-tuple.
        gone.seq += 100_000
        ask(gone, CLOCK - 2)
        effect.premise("the same ports, in TIME-WAIT: the answer to the SYN", str(gone.wait(bool).flags), "A")
    with claim.effect("two real clients behind the gateway, in turns") as effect:

        def syns_of_clients() -> list[Segment]:
            """The SYNs that have come through the gateway."""
            outside = seen.segments(flags="S", dport=listener.port, direction="in")
            return [syn for syn in outside if syn.src != peer.address]

        def take_turns() -> int:
            """Each client connects, and is closed by the server; how many have been older than the one before."""
            for client, clock in zip(net.clients, (CLOCK, CLOCK - BEHIND), strict=True):
                assert visits(client, listener, clock), f"{client.name} was shut out"
            return setbacks(syns_of_clients())

        until(lambda: take_turns() >= 3, deadline=20, what="three connections that are older than the one before")
        effect.note("timestamps of the SYNs, as the server sees them", ticks([s.tsval or 0 for s in syns_of_clients()]))
        older = setbacks(syns_of_clients())
        effect.compare("older than the one before, and connected", older, document=0, kernel=at_least(3))
    if RECYCLE in server.sysctl:
        with claim.effect("tcp_tw_recycle 1: the first again") as effect:
            server.sysctl[RECYCLE] = 1
            come_and_go(peer.connection(listener), listener, CLOCK)
            effect.compare("connections made", arrive(peer, listener, OLDER), document=0)
    with claim.control("others of that address have newer timestamps") as control:
        control.expect("connections made", arrive(peer, listener, NEWER), len(NEWER))


@pytest.mark.claim("timestamps.tw-recycle-default-danger")
def test_tw_recycle_default_danger(claim: ClaimRun, pair: Pair) -> None:
    if lacks_recycle(claim, pair.server):
        return
    pair.server.sysctl[RECYCLE] = 1
    listener = listen(pair.server)

    def let_in() -> int:
        """One client of an address comes and goes, then others try whose clocks are older; how many connect."""
        peer = RawPeer(pair.server, pair.client)
        come_and_go(peer.connection(listener), listener, CLOCK)
        return arrive(peer, listener, OLDER)

    with claim.effect("tcp_tw_recycle 1, tcp_timestamps as it is") as effect:
        effect.compare(TIMESTAMPS, pair.server.sysctl[TIMESTAMPS], document="1")
        effect.compare("clients of the same address with older clocks that connect", let_in(), document=0)
        effect.compare("PAWSPassive", effect.delta(pair.server).TcpExt.PAWSPassive, document=len(OLDER))
    with claim.control("tcp_tw_recycle 1, tcp_timestamps 0") as control:
        switch_timestamps(pair, 0)
        control.expect("clients of the same address with older clocks that connect", let_in(), len(OLDER))
        control.expect("PAWSPassive", control.delta(pair.server).TcpExt.PAWSPassive, 0)
