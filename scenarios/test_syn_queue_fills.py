"""A flood fills the SYN queue: with SYNs that are made up, and with hping3 as the documents call it."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from harness.instruments.syn_flood import answer_to_nobody
from harness.instruments.syn_queue import ceiling, flooded, listening
from harness.laws.queues import Knobs
from harness.laws.ranges import at_least, at_most
from harness.observe import netstat
from harness.traffic import connect, drop
from harness.traffic.hping3 import Hping3Flood
from harness.waiting import let_pass, until, until_at_least, until_equal

if TYPE_CHECKING:
    from harness.claims.phases import LivePhase
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair
    from harness.traffic import Listener

KNOBS = Knobs(128, tcp_syncookies=0)


def most_half_open(phase: LivePhase, client: Host, listener: Listener, *, spoofed: bool) -> int:
    """The most that were seen during and after a flood by hping3 that lost a thousand SYNs."""
    server = listener.host
    seen: list[tuple[float, float]] = []
    began = time.monotonic()

    def a_thousand_dropped() -> bool:
        seen.append((round(time.monotonic() - began, 4), listener.half_open))
        return phase.delta(server).TcpExt.ListenDrops >= 1000

    with Hping3Flood(client, server.ip, listener.port, spoofed=spoofed):
        until(a_thousand_dropped, deadline=30, what="a thousand SYNs dropped")
    phase.series("half-open", seen, unit="requests")
    return max(*(int(n) for _, n in seen), listener.half_open)


@pytest.mark.claim("syn-queue.flood-fills")
def test_flood_fills(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    with claim.effect("1000 crafted SYNs, and then 1000 more; backlog 128, cookies off") as effect:
        listener = listening(server, KNOBS)
        stands_at = flooded(client, listener, 1000)
        effect.compare("half-open after 1000 SYNs", stands_at, document=at_most(999))
        # Of these 2000 the first 1000 are those that came before.
        effect.compare("half-open after 1000 more", flooded(client, listener, 2000), document=stands_at)
        effect.compare("dropped", effect.delta(server).TcpExt.ListenDrops, document=1000 + 2000 - 2 * stands_at)
    if server.family == socket.AF_INET:  # hping3 has no IPv6
        with claim.effect("hping3 -S --flood, its SYN-ACKs lost on their way back") as effect:
            listener = listening(server, KNOBS)
            with drop(client, "SA", sport=listener.port):
                seen = most_half_open(effect, client, listener, spoofed=False)
            effect.compare("most half-open", seen, document=stands_at)
        with claim.effect("hping3 -S --flood --rand-source") as effect:
            answer_to_nobody(server, client)
            seen = most_half_open(effect, client, listening(server, KNOBS), spoofed=True)
            effect.compare("most half-open", seen, document=stands_at)
    with claim.control("fewer SYNs than fit, and another backlog") as control:
        control.expect("the number that it stood at", stands_at, ceiling(KNOBS))
        listener = listening(server, KNOBS)
        control.expect("half-open after 50 SYNs", flooded(client, listener, 50), 50)
        control.expect("half-open after 50 more", flooded(client, listener, 100), 100)
        longer = Knobs(200, tcp_syncookies=0)
        control.expect("half-open, backlog 200", flooded(client, listening(server, longer), 1000), ceiling(longer))
    with claim.control("150 real clients, which acknowledge") as control:
        listener = listening(server, KNOBS)
        for _ in range(150):
            connect(client, listener, wait=True)
            listener.accept()
        control.expect("half-open", listener.half_open, 0)
        control.expect("dropped", control.delta(server).TcpExt.ListenDrops, 0)


def looks(listener: Listener, n: int = 20) -> list[int]:
    """How many are half-open at n moments within a second, and what netstat counts at the last."""
    seen = []
    for _ in range(n - 1):
        seen.append(listener.half_open)
        let_pass(1 / n, what="some time between two looks")
    return [*seen, sum(row.state == "SYN_RECV" for row in netstat.rows(listener.host, "-natp"))]


@pytest.mark.ipv4_only("hping3 has no IPv6")
@pytest.mark.claim("syn-queue.hping3-line-fills")
def test_hping3_line_fills(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    # The length of such a queue is measured at the other host, where no requests are left of it.
    length = flooded(server, listening(client, KNOBS), 1000)
    with claim.effect("hping3 -c 100 -S -p PORT --flood: 20 looks while it runs") as effect:
        listener = listening(server, KNOBS)
        with Hping3Flood(client, server.ip, listener.port, count=100):
            until_at_least(lambda: effect.delta(client).Tcp.OutRsts, 1000, deadline=30, what="a thousand RSTs")
            seen = looks(listener)
        full = sum(look == length for look in seen)
        effect.compare("looks of 20 that show a full queue", full, document=20, kernel=at_most(2))
    with claim.control("when hping3 has ended") as control:
        until_equal(lambda: listener.half_open, 0, what="half-open requests")
        control.expect("half-open", listener.half_open, 0)
    with claim.control("the same line, and the RSTs of the client's kernel lost on their way") as control:
        listener = listening(server, KNOBS)
        with drop(server, "R", dport=listener.port), Hping3Flood(client, server.ip, listener.port, count=100):
            until_equal(lambda: listener.half_open, length, deadline=30, what="half-open requests")
            seen = looks(listener)
        # In a queue that is over half full requests end when they are 7 s old, and other SYNs take their places.
        full = sum(look == length for look in seen)
        control.expect("looks of 20 that show a full queue", full, at_least(18))
