"""The accept queue overflows: what is counted, who is served, and what the two sides make of a late handshake."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import state
from harness.instruments.accept_queue import begin_handshakes, fill, overflow, states
from harness.instruments.busy_server import serve_in_turns
from harness.instruments.syn_queue import listening, set_knobs
from harness.instruments.syns import come_again, fill_up, knock
from harness.laws import since
from harness.laws.queues import Knobs, answered_at_full
from harness.laws.ranges import at_least, at_most
from harness.observe import netstat
from harness.traffic import RawPeer, connect, drop, listen
from harness.traffic.connection import peek
from harness.waiting import until, until_at_least, until_equal

if TYPE_CHECKING:
    from harness.claims.phases import LivePhase
    from harness.claims.record import ClaimRun
    from harness.instruments.busy_server import Served
    from harness.lab import Pair


@pytest.mark.claim("accept-queue.overflow-counter")
def test_overflow_counter(claim: ClaimRun, pair: Pair) -> None:
    server = pair.server
    listener, peer = listen(server, 5), RawPeer(server, pair.client)
    late = peer.connection(listener)
    late.syn()
    fill(pair.client, listener)
    for syns in (1, 7, 20):
        printed, requests = netstat.statistic(server, netstat.OVERFLOWED), listener.half_open
        with claim.effect(f"{syns} SYNs at a full queue") as effect:
            peer.half_open(listener, syns)
            until_at_least(lambda: effect.delta(server).Tcp.InSegs, syns, what="the SYNs to arrive")
            answered = listener.half_open - requests
            effect.note("of these answered", answered)
            # A SYN that is answered does not overflow the queue.
            overflows = syns if since("accept-queue-full-drops-syns") else syns - answered
            effect.compare("ListenOverflows", effect.delta(server).TcpExt.ListenOverflows, document=overflows)
            printed = netstat.statistic(server, netstat.OVERFLOWED) - printed
            effect.compare("netstat -s | grep overflowed", printed, document=overflows)
    with claim.effect("a third ACK at a full queue") as effect:
        late.send("A")
        until_at_least(lambda: effect.delta(server).Tcp.InSegs, 1, what="the ACK to arrive")
        effect.compare("ListenOverflows", effect.delta(server).TcpExt.ListenOverflows, document=1)
    server.sysctl["net.ipv4.tcp_syncookies"] = 2
    other = listen(server, 5)
    by_cookie = peer.connection(other)
    by_cookie.syn()
    fill(pair.client, other)
    with claim.effect("a third ACK that brings a SYN cookie, at a full queue") as effect:
        by_cookie.send("A")
        until_at_least(lambda: effect.delta(server).Tcp.InSegs, 1, what="the ACK to arrive")
        effect.compare("ListenOverflows", effect.delta(server).TcpExt.ListenOverflows, document=1)
    server.sysctl["net.ipv4.tcp_syncookies"] = 1
    with claim.control("7 SYNs at a queue with room") as control:
        before = netstat.statistic(server, netstat.OVERFLOWED)
        roomy = listen(server, 50)
        peer.half_open(roomy, 7)
        until_equal(lambda: roomy.half_open, 7, what="half-open requests")
        control.expect("ListenOverflows", control.delta(server).TcpExt.ListenOverflows, 0)
        control.expect("netstat -s | grep overflowed", netstat.statistic(server, netstat.OVERFLOWED) - before, 0)


@pytest.mark.slow(7)
@pytest.mark.claim("accept-queue.counter-counts-connections")
def test_counter_counts_connections(claim: ClaimRun, pair: Pair) -> None:
    server = pair.server
    # Where a SYN is answered at a full queue, it is what follows it that overflows the queue.
    answered = min(1, answered_at_full())
    listener = listen(server, 1)
    fill(pair.client, listener)
    with claim.effect("a full queue, and one client that is turned away three times") as effect:
        printed = netstat.statistic(server, netstat.OVERFLOWED)
        come_again(pair.client, listener, 3, answered=answered)
        effect.compare("ListenOverflows", effect.delta(server).TcpExt.ListenOverflows, document=1, kernel=3)
        printed = netstat.statistic(server, netstat.OVERFLOWED) - printed
        effect.compare("netstat -s | grep overflowed", printed, document=1, kernel=3)
    with claim.control("one client that is turned away once, and what it sends then is lost on its way") as control:
        come_again(pair.client, listener, 1, answered=answered)
        control.expect("ListenOverflows", control.delta(server).TcpExt.ListenOverflows, 1)


@pytest.mark.claim("accept-queue.rising-means-full")
def test_rising_means_full(claim: ClaimRun, pair: Pair) -> None:
    server, peer = pair.server, RawPeer(pair.server, pair.client)
    full, last_quarter = Knobs(3, tcp_syncookies=0), Knobs(100, tcp_max_syn_backlog=4, tcp_syncookies=0)
    for rule, knobs in (("full", full), ("in its last quarter", last_quarter)):
        listener = listening(server, knobs)
        fill_up(peer, listener)
        with claim.effect(f"five SYNs are dropped at a SYN queue that is {rule}, and nobody waits") as effect:
            effect.premise("(answered, dropped)", knock(peer, listener, 5), (0, 5))
            effect.compare("ListenOverflows", effect.delta(server).TcpExt.ListenOverflows, document=0)
    with claim.effect("an ACK whose cookie is wrong, an ACK without a SYN, a SYN at a closed port") as effect:
        listener = listening(server, Knobs(10, tcp_syncookies=2))
        wrong, stray, elsewhere = peer.connection(listener), peer.connection(listener), peer.connection(9)
        wrong.syn()
        wrong.send("A", ack=wrong.ack + 1000)
        stray.send("A", ack=1)
        elsewhere.send("S")
        refused = [str(each.wait(lambda reply: "R" in str(reply.flags)).flags) for each in (wrong, stray, elsewhere)]
        effect.premise("their answers", refused, ["R", "R", "RA"])
        effect.compare("ListenOverflows", effect.delta(server).TcpExt.ListenOverflows, document=0)
    with claim.control("the accept queue is full: five handshakes end there") as control:
        set_knobs(server, Knobs(4096))
        overflow(pair.client, server, 5).end()
        control.expect("ListenOverflows", control.delta(server).TcpExt.ListenOverflows, at_least(5))


@pytest.mark.slow(10)
@pytest.mark.claim("accept-queue.overflow-caps-service")
def test_overflow_caps_service(claim: ClaimRun, pair: Pair) -> None:
    turns = 4
    served: dict[int, dict[int, int]] = {10: {}, 5000: {}}
    # Without cookies: a burst that the server's kernel puts off (ksoftirqd) may fill the queue of half-open requests,
    # and who gets a cookie need not repeat a SYN.
    knobs = Knobs(5000, somaxconn=5000, tcp_max_syn_backlog=20_000, tcp_syncookies=0)
    set_knobs(pair.server, knobs)

    def measure(phase: LivePhase, backlog: int, clients: int) -> Served:
        """Answers of a server that takes all who wait, is busy for 0.4 s, and so on."""
        with listen(pair.server, backlog) as listener:
            seen = serve_in_turns(pair.client, listener, clients, turns=turns, busy=0.4)
        served[backlog][clients] = seen.answers
        phase.series(f"answers, backlog {backlog}", list(served[backlog].items()), unit="answers", x="clients")
        return seen

    for clients in (20, 100, 400):
        with claim.effect(f"backlog 10, {clients} clients that ask a server which is busy now and then") as effect:
            seen = measure(effect, 10, clients)
            effect.compare("answers", seen.answers, document=at_most(turns * clients - 1))
            effect.compare("answers beyond those that 20 clients got", seen.answers - served[10][20], document=0)
            refused = at_least(max(1, clients - 20))
            effect.compare("SYNs that clients had to repeat", seen.repeated, document=refused)
            overflows = effect.delta(pair.server).TcpExt.ListenOverflows
            effect.compare("handshakes that overflowed the queue", overflows, document=refused)
        with claim.control(f"backlog 5000, {clients} clients") as control:
            seen = measure(control, 5000, clients)
            control.expect("answers", seen.answers, turns * clients)
            control.expect("SYNs that clients had to repeat", seen.repeated, 0)
            control.expect("ListenOverflows", control.delta(pair.server).TcpExt.ListenOverflows, 0)


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
        joined = full.listener.waiting - len(full.early)
        effect.compare("clients that joined the queue", joined, document=0)
    full.end()
    with claim.control("the same handshakes end at a queue with room") as control:
        listener = listen(pair.server, 10)
        handshakes = begin_handshakes(pair.client, listener, 3)
        handshakes.complete()
        until_equal(lambda: listener.waiting, 3, what="connections waiting")
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
        until_at_least(lambda: control.delta(pair.client).Tcp.RetransSegs, 3, what="three retransmissions", deadline=20)
        control.expect("the server's state", state(states(pair.server, listener, full.late)), ["SYN-RECV"])
        control.expect("connections waiting", listener.waiting, len(full.early))
    with claim.effect("one connection is accepted, which makes room for one") as effect:
        listener.accept(1)
        until(lambda: listener.waiting == len(full.early), what="the next retransmission to arrive", deadline=30)
        effect.compare("the server's state", state(states(pair.server, listener, full.late)), document=["ESTAB"])
        last = listener.accept(len(full.early))[-1]
        effect.compare("what the server reads", last.recv(100), document=b"request")
        last.send(b"answer")
        until(lambda: peek(client.socket) == b"answer", what="the answer")
        deaf.lift()
