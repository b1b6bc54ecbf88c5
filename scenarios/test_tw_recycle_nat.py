"""tcp_tw_recycle and clients behind one address: which of them it shut out, and that a gateway keeps timestamps."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from harness.evidence import address, ticks
from harness.instruments.shared_address import answered_syns, let_in, shift_clock, visits
from harness.lab import behind_router
from harness.laws import since
from harness.laws.ranges import at_least, between
from harness.laws.serial import distance, older
from harness.laws.timers import LATE
from harness.laws.timestamps import TOLERATED
from harness.observe.paws import rejected_syns
from harness.traffic import RawPeer, connect, echo, listen
from harness.traffic.clocks import come_and_go
from harness.traffic.closing import leave_time_wait
from harness.waiting import until
from scenarios.recycle import RECYCLE, lacks_recycle

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.evidence.kinds import Address
    from harness.lab import BehindNat, Host, Pair
    from harness.observe import Capture, Segment

# What a client's clock reads, and how far that of another is behind, in ticks.
CLOCK = 3_000_000_000
BEHIND = 1_000_000
SYNS = 5


def ahead_by(seen: Capture) -> int:
    """How far the clock of the last connection but one was ahead of that of the last, in ticks.

    There may be more: one that leaves no TIME-WAIT is replaced by leave_time_wait().
    """
    *_, first, last = {syn.sport: syn.tsval for syn in seen.segments(flags="S")}.values()
    assert first is not None
    assert last is not None
    return ticks(distance(last, first))


@pytest.mark.claim("tw-recycle.nat-drops")
def test_nat_drops(claim: ClaimRun, behind_nat: Callable[..., BehindNat]) -> None:
    net = behind_nat()
    ahead, behind = net.clients
    server, listener = net.server, listen(net.server)
    if lacks_recycle(claim, server):
        return
    for client, ticks_ahead in ((ahead, BEHIND), (behind, -BEHIND)):
        shift_clock(client, ticks_ahead)
    server.sysctl[RECYCLE] = 1
    with claim.effect("one client comes and goes, and another has a clock that is behind") as effect:
        seen = claim.capture(server, port=listener.port)
        leave_time_wait(ahead, listener, closer="server")
        connected = let_in(behind, listener, 1)
        effect.premise("ticks that its clock is behind", ahead_by(seen), between(BEHIND, 3 * BEHIND))
        effect.compare("connected", connected, document=0)
        effect.compare("of 3 more, connected", let_in(behind, listener), document=0)
        effect.compare("PAWSPassive", rejected_syns(effect.delta(server)), document=4)
    with claim.control("the one whose clock is ahead again") as control:
        control.expect("of 3, connected", let_in(ahead, listener), 3)
    with claim.control("tcp_tw_recycle 0: the one whose clock is behind") as control:
        server.sysctl[RECYCLE] = 0
        control.expect("of 3, connected", let_in(behind, listener), 3)


@pytest.mark.claim("tw-recycle.nat-drops")
def test_nat_drops_by_socket_option(claim: ClaimRun, behind_nat: Callable[..., BehindNat]) -> None:
    """The same with clocks that sockets were given. Since 4.10 connect() chooses others, at random: they take turns."""
    net = behind_nat()
    server, listener = net.server, listen(net.server)
    if lacks_recycle(claim, server):
        return
    seen = claim.capture(server, port=listener.port)
    turns = itertools.cycle(zip(net.clients, (CLOCK, CLOCK - BEHIND), strict=True))
    connected: dict[bool, list[bool]] = {True: [], False: []}
    remembered: int | None = None
    server.sysctl[RECYCLE] = 1
    with claim.effect("two real clients in turns, until one has a lower timestamp than the other had") as effect:
        while not connected[True]:
            client, clock = next(turns)
            visited = visits(client, listener, clock, deadline=LATE)
            tsval = seen.segments(flags="S")[-1].tsval
            assert tsval is not None
            connected[remembered is not None and older(tsval, remembered)].append(visited)
            remembered = tsval
        effect.note("timestamps of the SYNs", ticks([syn.tsval or 0 for syn in seen.segments(flags="S")]))
        effect.compare("with a lower timestamp, connected", connected[True], document=[False])
    with claim.control("those with a higher timestamp") as control:
        control.expect("connected", all(connected[False]), True)


@pytest.mark.claim("tw-recycle.only-one-client")
def test_only_one_client(claim: ClaimRun, behind_nat: Callable[..., BehindNat]) -> None:
    net = behind_nat(3)
    server, listener = net.server, listen(net.server)
    if lacks_recycle(claim, server):
        return
    for n, client in enumerate(net.clients):
        shift_clock(client, n * BEHIND)
    server.sysctl[RECYCLE] = 1

    def served(clients: list[Host]) -> list[str]:
        """Which of these clients, one after the other, are let in; the server closes first."""
        return [client.name for client in clients if let_in(client, listener, 1)]

    names = [client.name for client in net.clients]
    with claim.effect("three clients come and go, each with a clock that is ahead of that of the one before") as effect:
        effect.compare("clients served", served(net.clients), document=names[:1], kernel=names)
    with claim.control("the same in the other order") as control:
        control.expect("clients served", served(net.clients[::-1]), names[-1:])
    with claim.control("tcp_tw_recycle 0: the same in the other order") as control:
        server.sysctl[RECYCLE] = 0
        control.expect("clients served", served(net.clients[::-1]), names[::-1])


@pytest.mark.claim("tw-recycle.must-have-timestamp")
def test_must_have_timestamp(claim: ClaimRun, pair: Pair) -> None:
    server, listener = pair.server, listen(pair.server)
    if lacks_recycle(claim, server):
        return
    peer, stranger = RawPeer(server, pair.client), RawPeer(server, pair.client)
    bare = [None] * SYNS
    server.sysctl[RECYCLE] = 1
    with claim.effect("a client comes and goes; SYNs of its address without a timestamp follow") as effect:
        come_and_go(peer.connection(listener), listener, CLOCK)
        kernel = 0 if since("tw-recycle-drops-bare-syns") else SYNS
        effect.compare(f"of {SYNS}, answered", answered_syns(peer, listener, bare), document=0, kernel=kernel)
    with claim.control("such SYNs of another address") as control:
        control.expect(f"of {SYNS}, answered", answered_syns(stranger, listener, bare), SYNS)
    with claim.control("tcp_tw_recycle 0: the same SYNs") as control:
        server.sysctl[RECYCLE] = 0
        control.expect(f"of {SYNS}, answered", answered_syns(peer, listener, bare), SYNS)


@pytest.mark.claim("tw-recycle.strictly-increasing")
def test_strictly_increasing(claim: ClaimRun, pair: Pair) -> None:
    server, listener = pair.server, listen(pair.server)
    if lacks_recycle(claim, server):
        return
    peer = RawPeer(server, pair.client)
    server.sysctl[RECYCLE] = 1
    with claim.effect("a client comes and goes; SYNs of its address follow whose timestamp is not greater") as effect:
        come_and_go(peer.connection(listener), listener, CLOCK)
        for age in (0, TOLERATED):
            answered = answered_syns(peer, listener, [CLOCK - age] * SYNS)
            effect.compare(f"of {SYNS} that are {age} older, answered", answered, document=0, kernel=SYNS)
        answered = answered_syns(peer, listener, [CLOCK - TOLERATED - 1] * SYNS)
        effect.compare(f"of {SYNS} that are {TOLERATED + 1} older, answered", answered, document=0)
    with claim.control("SYNs whose timestamp is greater") as control:
        control.expect(f"of {SYNS}, answered", answered_syns(peer, listener, [CLOCK + 1] * SYNS), SYNS)


@pytest.mark.claim("tw-recycle.nat-keeps-timestamps")
def test_nat_keeps_timestamps(claim: ClaimRun, behind_nat: Callable[..., BehindNat]) -> None:
    net = behind_nat()
    router = behind_router(net.server.lab)

    def both_sides(net: BehindNat) -> tuple[list[Segment], list[Segment]]:
        """The segments of two clients' requests and answers, on the gateway's two interfaces."""
        inside, outside = (claim.capture(net.gateway, interface) for interface in net.gateway.interfaces)
        listener = listen(net.server, answer=echo)
        for client in net.clients:
            assert connect(client, listener, 3, wait=True).ask(b"what time is it?") == 3
        until(lambda: len(inside.segments()) == len(outside.segments()), what="all segments on both sides")
        return inside.segments(), outside.segments()

    def contents(segments: list[Segment]) -> Counter[tuple[object, ...]]:
        """What makes a segment that one, but for addresses and ports: of two clients with one port one gets another."""
        return Counter((s.flags, s.payload, s.seq, s.ack, s.tsval, s.tsecr) for s in segments)

    def clients(segments: list[Segment], server: Host) -> set[Address]:
        return {address(end) for s in segments for end in (s.src, s.dst)} - {address(server.ip)}

    with claim.effect("six connections of two clients through the masquerading gateway") as effect:
        inner, outer = both_sides(net)
        effect.compare("client addresses inside", clients(inner, net.server), document={c.ip for c in net.clients})
        rewritten = {net.gateway.address(interface="eth1")}
        effect.compare("client addresses outside", clients(outer, net.server), document=rewritten)
        stamped = sum(segment.tsval is not None for segment in inner)
        effect.premise("segments with timestamps, of 12 and more", stamped, at_least(36))
        changed = len(contents(inner) - contents(outer))
        effect.compare("segments whose TSval or TSecr differs", changed, document=0)
    with claim.control("through a gateway that does not masquerade") as control:
        inner, outer = both_sides(router)
        control.expect("client addresses outside", clients(outer, router.server), {c.ip for c in router.clients})
        control.expect("segments whose TSval or TSecr differs", len(contents(inner) - contents(outer)), 0)
