"""The SYN queue: how long a request stays that is never acknowledged, and how often its SYN-ACK is sent."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds, state
from harness.instruments.lifetimes import watch_half_open, watch_until_gone
from harness.instruments.syn_queue import SYNACK_RETRIES
from harness.laws.timers import about, doubling, half_open_lasting
from harness.observe import states_at
from harness.traffic import RawPeer, listen

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import Lan
    from harness.laws.timers import Lasts


def after_retries(n: int) -> Lasts:
    """The lifetime of a request whose SYN-ACK is repeated n times: 1, 3, 7, 15, 31, 63 s."""
    return half_open_lasting(*doubling(1, n))


@pytest.mark.slow(64)
@pytest.mark.claim("syn-queue.fewer-retries-evict-sooner")
def test_fewer_retries_evict_sooner(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    client, *servers = lan(7).hosts
    requests = []
    with claim.effect("a half-open request at each of six servers, tcp_synack_retries 0, 1, 2, 3, 4 and 5") as effect:
        for retries, server in enumerate(servers):
            effect.premise("retries by default", server.sysctl[SYNACK_RETRIES], "5")
            server.sysctl[SYNACK_RETRIES] = retries
            requests.append(watch_half_open(RawPeer(server, client).connection(listen(server))))
        *five, sixth = requests
        watch_until_gone(five, deadline=45)
        for retries, request in enumerate(five):
            lifetime = seconds(request.lifetime)
            effect.compare(f"lifetime, {retries} retries", lifetime, document=after_retries(retries))
        at_most = [(retries, seconds(request.lifetime[1])) for retries, request in enumerate(five)]
        effect.series("lifetime", at_most, x="retries", unit="s")
    with claim.control("the sixth, with the default of 5") as control:
        watch_until_gone([sixth], deadline=60)
        control.expect("lifetime, 5 retries", seconds(sixth.lifetime), after_retries(5))


@pytest.mark.slow(16)
@pytest.mark.claim("syn-queue.retries-then-closed")
def test_retries_then_closed(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    client, *servers = lan(4).hosts
    captures = [claim.capture(server) for server in servers]
    acknowledged, unanswered, watched = [], [], []

    with claim.effect("a request at each of three servers that is never acknowledged, 1, 2 and 3 retries") as effect:
        for retries, server in enumerate(servers, start=1):
            server.sysctl[SYNACK_RETRIES] = retries
            listener, other, peer = listen(server), listen(server), RawPeer(server, client)
            unanswered.append(peer.connection(listener))
            watched.append(watch_half_open(unanswered[-1]))
            acknowledged.append(peer.connection(other))
            acknowledged[-1].handshake()
        watch_until_gone(watched, deadline=30)
        for retries, (server, request, capture) in enumerate(zip(servers, watched, captures, strict=True), start=1):
            connection = unanswered[retries - 1]
            times = [sent.time for sent in capture.segments(flags="SA", dport=connection.port)]
            effect.compare(f"SYN-ACKs, {retries} retries", len(times), document=1 + retries)
            for n, (earlier, later) in enumerate(pairwise(times)):
                between = f"seconds from SYN-ACK {n + 1} to the next"
                effect.compare(between, seconds(later - earlier), document=about(2**n, late=0.5))
            lifetime = seconds(request.lifetime)
            effect.compare(f"lifetime, {retries} retries", lifetime, document=after_retries(retries))
            effect.compare("TCPSynRetrans", effect.delta(server).TcpExt.TCPSynRetrans, document=retries)
            connection.send("A")
            effect.compare("answer to an ACK after that", str(connection.wait("R").flags), document="R")
    with claim.control("requests at the same servers that were acknowledged at once") as control:
        for retries, (server, connection) in enumerate(zip(servers, acknowledged, strict=True), start=1):
            sent = captures[retries - 1].segments(flags="SA", dport=connection.port)
            control.expect(f"SYN-ACKs, {retries} retries", len(sent), 1)
            control.expect("state", state(states_at(server, connection.port)), ["ESTAB"])
