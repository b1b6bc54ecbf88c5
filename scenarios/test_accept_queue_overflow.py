"""The accept queue overflows: what is counted, who is served, and what the two sides make of a late handshake."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import state
from harness.instruments.accept_queue import begin_handshakes, fill, overflow, states
from harness.instruments.rush import rush
from harness.laws.queues import answered_at_full
from harness.laws.ranges import at_least, between
from harness.observe import netstat
from harness.traffic import RawPeer, connect, drop, listen
from harness.traffic.connection import peek
from harness.traffic.nginx import Nginx
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.phases import LivePhase
    from harness.claims.record import ClaimRun
    from harness.lab import Pair


@pytest.mark.claim("accept-queue.overflow-counter")
def test_overflow_counter(claim: ClaimRun, pair: Pair) -> None:
    server = pair.server
    listener, peer = listen(server, 5), RawPeer(server, pair.client)
    late = peer.connection(listener)
    late.syn()
    fill(pair.client, listener)
    for refused in (1, 7, 20):
        before, requests = netstat.statistic(server, netstat.OVERFLOWED), listener.half_open
        with claim.effect(f"{refused} SYNs at a full queue") as effect:
            peer.half_open(listener, refused)
            until(lambda: effect.delta(server).Tcp.InSegs >= refused, what="the SYNs to arrive")
            moved = effect.delta(server).TcpExt
            answered = listener.half_open - requests
            effect.premise("of these answered", answered, between(0, answered_at_full()))
            turned_away = refused - answered
            effect.compare("ListenOverflows", moved.ListenOverflows, document=turned_away)
            printed = netstat.statistic(server, netstat.OVERFLOWED) - before
            effect.compare("netstat -s | grep overflowed", printed, document=turned_away)
            effect.premise("ListenDrops", moved.ListenDrops, turned_away)
    with claim.effect("a third ACK at a full queue") as effect:
        late.send("A")
        until(lambda: effect.delta(server).Tcp.InSegs >= 1, what="the ACK to arrive")
        effect.compare("ListenOverflows", effect.delta(server).TcpExt.ListenOverflows, document=1)
    with claim.control("7 SYNs at a queue with room") as control:
        before = netstat.statistic(server, netstat.OVERFLOWED)
        roomy = listen(server, 50)
        peer.half_open(roomy, 7)
        until(lambda: roomy.half_open == 7, what="7 half-open requests")
        control.expect("ListenOverflows", control.delta(server).TcpExt.ListenOverflows, 0)
        control.expect("netstat -s | grep overflowed", netstat.statistic(server, netstat.OVERFLOWED) - before, 0)


@pytest.mark.claim("accept-queue.overflow-caps-service")
def test_overflow_caps_service(claim: ClaimRun, pair: Pair) -> None:
    pair.server.sysctl["net.core.somaxconn"] = 5000
    pair.server.sysctl["net.ipv4.tcp_max_syn_backlog"] = 20000
    short: list[tuple[float, float]] = []
    long: list[tuple[float, float]] = []

    def served(phase: LivePhase, connections: int, backlog: int) -> int:
        """How many of the clients that come while nginx is busy does it serve afterwards?"""
        nginx = Nginx(pair.server, f"{8000 + backlog} backlog={backlog}")
        seen = rush(pair.client, nginx, connections)
        nginx.stop()
        phase.series(f"waiting, {connections} connections, backlog {backlog}", seen.lengths, unit="connections")
        phase.note("requests served", seen.requests)
        return seen.served

    for connections in (5, 50, 200):
        with claim.effect(f"backlog 10, {connections} connections of wrk while nginx is busy") as effect:
            short.append((connections, served(effect, connections, 10)))
            room = between(min(connections, 10), min(connections, 10 + answered_at_full()))
            effect.compare("clients served", short[-1][1], document=room)
            effect.series("clients served, backlog 10", short, unit="clients", x="clients")
        with claim.control(f"backlog 5000, {connections} connections of wrk while nginx is busy") as control:
            long.append((connections, served(control, connections, 5000)))
            control.expect("clients served", long[-1][1], connections)
            control.expect("handshakes refused", control.delta(pair.server).TcpExt.ListenOverflows, 0)
            control.series("clients served, backlog 5000", long, unit="clients", x="clients")


@pytest.mark.claim("accept-queue.drop-by-default")
def test_drop_by_default(claim: ClaimRun, pair: Pair) -> None:
    packets = claim.capture(pair.server)
    with claim.effect("tcp_abort_on_overflow 0: three handshakes end at a full queue") as effect:
        pair.server.sysctl["net.ipv4.tcp_abort_on_overflow"] = 0
        full = overflow(pair.client, pair.server, 3)
        answers = [s.flags for s in packets.segments() if s.direction == "out" and s.sport == full.listener.port]
        effect.compare("RSTs sent by the server", sum("R" in flags for flags in answers), document=0)
        left = state(states(pair.server, full.listener, full.late))
        effect.compare("what the server made of the clients", left, document=["SYN-RECV"] * 3)
        effect.compare("connections waiting", full.listener.waiting, document=4)
    full.end()
    with claim.control("the same handshakes end at a queue with room") as control:
        listener = listen(pair.server, 10)
        handshakes = begin_handshakes(pair.client, listener, 3)
        handshakes.complete()
        until(lambda: listener.waiting == 3, what="three connections")
        left = state(states(pair.server, listener, handshakes.clients))
        control.expect("what the server made of the clients", left, ["ESTAB"] * 3)
        control.expect("ListenOverflows", control.delta(pair.server).TcpExt.ListenOverflows, 0)


@pytest.mark.claim("accept-queue.client-thinks-established")
def test_client_thinks_established(claim: ClaimRun, pair: Pair) -> None:
    packets = claim.capture(pair.server)

    def requests(port: int) -> int:
        return sum(s.payload == b"request" and s.dport == port for s in packets.segments())

    with claim.effect("a handshake ends at a full queue, and the client sends its request") as effect:
        full = overflow(pair.client, pair.server, 1)
        full.late[0].socket.send(b"request")
        until(lambda: requests(full.listener.port) >= 3, what="the request to come three times")
        effect.compare("the client's state", state(states(pair.client, full.listener, full.late)), document=["ESTAB"])
        effect.compare(
            "the server's state", state(states(pair.server, full.listener, full.late)), document=["SYN-RECV"]
        )
        effect.compare("times the request was sent", requests(full.listener.port), document=at_least(3))
        resent = effect.delta(pair.client).Tcp.RetransSegs
        effect.compare("the client's RetransSegs", resent, document=at_least(2))
    with claim.control("a handshake ends at a queue with room, and the client sends its request") as control:
        listener = listen(pair.server, 10)
        client = connect(pair.client, listener, wait=True)
        client[0].socket.send(b"request")
        (server,) = listener.accept()
        until(lambda: peek(server) == b"request", what="the request")
        control.expect("the server's state", state(states(pair.server, listener, client)), ["ESTAB"])
        control.expect("times the request was sent", requests(listener.port), 1)


@pytest.mark.claim("accept-queue.recovers-when-drained")
def test_recovers_when_drained(claim: ClaimRun, pair: Pair) -> None:
    with claim.control("no place becomes free: the request is sent again and again") as control:
        full = overflow(pair.client, pair.server, 1)
        listener, (client,) = full.listener, full.late
        # What completes the handshake must be the request: the client is not to answer repeated SYN-ACKs.
        deaf = drop(pair.client, "SA", sport=listener.port)
        client.socket.send(b"request")
        until(lambda: control.delta(pair.client).Tcp.RetransSegs >= 3, what="three retransmissions", deadline=20)
        control.expect("the server's state", state(states(pair.server, listener, full.late)), ["SYN-RECV"])
        control.expect("connections waiting", listener.waiting, 2)
    with claim.effect("one connection is accepted, which makes room for one") as effect:
        listener.accept(1)
        until(lambda: listener.waiting == 2, what="the next retransmission to arrive", deadline=30)
        effect.compare("the server's state", state(states(pair.server, listener, full.late)), document=["ESTAB"])
        last = listener.accept(2)[-1]
        effect.compare("what the server reads", last.recv(100), document=b"request")
        last.send(b"answer")
        until(lambda: peek(client.socket) == b"answer", what="the answer")
        deaf.lift()
