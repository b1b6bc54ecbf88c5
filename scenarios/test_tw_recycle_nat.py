"""tcp_tw_recycle and clients behind one address: which of them it shut out, and that a gateway keeps timestamps."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from harness.evidence import address, ticks
from harness.instruments.shared_address import answered_syns, let_in, shift_clock, visits
from harness.lab import behind_router
from harness.laws.ranges import at_least, between
from harness.laws.serial import distance, older
from harness.laws.timers import LATE
from harness.observe.paws import rejected_syns
from harness.traffic import RawPeer, connect, echo, listen
from harness.traffic.clocks import come_and_go
from harness.traffic.closing import leave_time_wait
from harness.waiting import until
from scenarios.recycle import RECYCLE, THERE

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.evidence.kinds import Address
    from harness.lab import BehindNat, Host
    from harness.observe import Capture, Segment

# What a client's clock reads, and how far that of another is behind, in ticks.
CLOCK = 3_000_000_000
BEHIND = 1_000_000


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
    net = behind_nat(4)
    first, second, ahead, behind = net.clients
    server, listener = net.server, listen(net.server)
    comes, follows = (RawPeer(net.gateway, client, beyond=server) for client in (first, second))
    shift_clock(ahead, BEHIND)
    shift_clock(behind, -BEHIND)
    if THERE:
        server.sysctl[RECYCLE] = 1

    def answered(clock: int) -> int:
        """How many of five SYNs with this timestamp, of the one that follows, are answered."""
        return answered_syns(follows, listener, [clock] * 5)

    with claim.effect("raw peers: one comes and goes, and another has a lower clock") as effect:
        come_and_go(comes.connection(listener), listener, CLOCK)
        effect.compare("of its 5 SYNs, answered", answered(CLOCK - BEHIND), document=0, kernel=0 if THERE else 5)
        dropped = rejected_syns(effect.delta(server))
        effect.compare("PAWSPassive", dropped, document=5, kernel=5 if THERE else 0)
        if THERE:  # TCP_PAWS_WINDOW
            effect.premise("of 5 that are lower by 2, answered", answered(CLOCK - 2), 0)
            effect.premise("of 5 that are lower by 1, answered", answered(CLOCK - 1), 5)
    with claim.control("raw peers: another has a higher clock") as control:
        control.expect("of its 5 SYNs, answered", answered(CLOCK + BEHIND), 5)
    with claim.effect("real clients: one comes and goes, and another has a clock that is behind") as effect:
        seen = claim.capture(server, port=listener.port)
        leave_time_wait(ahead, listener, closer="server")
        connected = let_in(behind, listener, 1)
        effect.premise("ticks that its clock is behind", ahead_by(seen), between(BEHIND, 2 * BEHIND))
        effect.compare("connected", connected, document=0, kernel=0 if THERE else 1)
        effect.compare("of 3 more, connected", let_in(behind, listener), document=0, kernel=0 if THERE else 3)
    with claim.control("real clients: the one whose clock is ahead again") as control:
        control.expect("of 3, connected", let_in(ahead, listener), 3)
    if THERE:
        with claim.control("tcp_tw_recycle 0: the one whose clock is behind") as control:
            server.sysctl[RECYCLE] = 0
            control.expect("of 3, connected", let_in(behind, listener), 3)


@pytest.mark.claim("tw-recycle.nat-drops")
def test_nat_drops_by_socket_option(claim: ClaimRun, behind_nat: Callable[..., BehindNat]) -> None:
    """The same with clocks that sockets were given. Since 4.10 connect() chooses others, at random: they take turns."""
    net = behind_nat()
    server, listener = net.server, listen(net.server)
    seen = claim.capture(server, port=listener.port)
    turns = itertools.cycle(zip(net.clients, (CLOCK, CLOCK - BEHIND), strict=True))
    connected: dict[bool, list[bool]] = {True: [], False: []}
    remembered: int | None = None
    if THERE:
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
        effect.compare("with a lower timestamp, connected", connected[True], document=[False], kernel=[not THERE])
    with claim.control("those with a higher timestamp") as control:
        control.expect("connected", all(connected[False]), True)


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
