"""The accept queue: how long it is, what happens when it overflows, and what the documents say about both."""

from __future__ import annotations

import re
import socket
import time
from typing import TYPE_CHECKING

import pytest

from harness.laws import queues
from harness.laws.kernel import running
from harness.laws.ranges import at_least, between
from harness.observe import accept_queue, count, half_open, sockets
from harness.traffic import RawPeer, connect, drop, echo, hold, listen
from harness.traffic.nginx import Nginx
from harness.traffic.wrk import Wrk
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.phases import Phase
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair
    from harness.traffic import Attempts, Hold, Listener

ABORT = "net.ipv4.tcp_abort_on_overflow"
SOMAXCONN = "net.core.somaxconn"
LIMITS = [(7, 100), (100, 7), (7, 7), (1, 5), (0, 5)]


def waiting(listener: Listener) -> int:
    """How many connections wait for accept()."""
    return accept_queue(listener.host, listener.port).waiting


def fill(pair: Pair, listener: Listener) -> Attempts:
    """Connect clients until the accept queue is full."""
    room = accept_queue(pair.server, listener.port).limit + 1 - waiting(listener)
    clients = connect(pair.client, listener, room, wait=True)
    until(lambda: waiting(listener) == accept_queue(pair.server, listener.port).limit + 1, what="a full accept queue")
    return clients


def begin(pair: Pair, listener: Listener, n: int) -> tuple[Attempts, list[Hold]]:
    """Let n real clients get as far as the SYN-ACK: each believes to be connected, its ACK is held at the server."""
    ports = range(41001, 41001 + n)
    held = [hold(pair.server, "A", sport=port) for port in ports]
    clients = connect(pair.client, listener, 0)
    for port in ports:
        clients.each += connect(pair.client, listener, source=(pair.client.ip, port), wait=True).each
    return clients, held


def overflow(pair: Pair, n: int, phase: Phase) -> tuple[Listener, Attempts, Attempts]:
    """n handshakes that begin while there is room, and end at a queue of n + 1 that others have filled meanwhile.

    Returns the listener, the clients that came too late and those that fill the queue.
    """
    # No more than n can be half-open on a listener with backlog n on every kernel; what comes beyond gets a cookie.
    listener = listen(pair.server, n)
    clients, held = begin(pair, listener, n)
    early = fill(pair, listener)
    for one in held:
        one.release()
    until(lambda: phase.delta(pair.server).TcpExt.ListenOverflows >= n, what=f"{n} ACKs at the full queue")
    return listener, clients, early


def states(host: Host, port: int, clients: Attempts) -> list[str]:
    """The states of the clients' connections as `host` has them, seen from the end with this local or remote port."""
    wanted = {client.port for client in clients}
    return [
        s.state
        for s in sockets(host, "exclude listening")
        if {s.local[1], s.remote[1]} & wanted and port in (s.local[1], s.remote[1])
    ]


def answered_at_a_full_queue() -> int:
    """How many SYNs at a full accept queue are answered at most: those up to which no more than one request is young.

    None since 5ea8ea2cb7f1 "tcp/dccp: drop SYN packets if accept queue is full", 4.10.
    """
    return 0 if running() >= "4.10" else 2


def readable(connection: socket.socket) -> bytes:
    """What can be read now, left where it is."""
    try:
        return connection.recv(100, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


def close(listener: Listener, clients: Attempts) -> None:
    """End an experiment before the next begins: what its clients still send meets no queue any more."""
    listener.close()
    clients.close()


def ss(host: Host, *arguments: str) -> list[list[str]]:
    """The rows of `ss` as lists of words, without the header."""
    return [line.split() for line in host.run("ss", *arguments).stdout.splitlines()[1:]]


@pytest.mark.claim("accept-queue.capacity")
def test_capacity(claim: ClaimRun, pair: Pair) -> None:
    law: list[tuple[float, float]] = []
    for somaxconn, backlog in LIMITS:
        pair.server.sysctl["net.core.somaxconn"] = somaxconn
        limit = min(somaxconn, backlog)
        with claim.effect(f"somaxconn {somaxconn}, backlog {backlog}: nobody accepts, {limit + 5} connect") as effect:
            listener = listen(pair.server, backlog)
            clients = connect(pair.client, listener, limit + 5)
            until(lambda: clients.connected + effect.delta(pair.server).TcpExt.ListenOverflows >= limit + 5)
            predicted = queues.waiting(running(), queues.Knobs(backlog, somaxconn))
            measured = waiting(listener)
            effect.compare("connections waiting", measured, document=limit, kernel=predicted)
            law.append((limit, measured))
            effect.series("waiting", law, x="min(somaxconn, backlog)", unit="connections")
            effect.series("the document", [(n, n) for n, _ in law], x="min(somaxconn, backlog)", unit="connections")
        clients.close()
        with claim.control(f"somaxconn {somaxconn}, backlog {backlog}: each is accepted before the next") as control:
            listener = listen(pair.server, backlog)
            for _ in range(limit + 5):
                connect(pair.client, listener, wait=True)
                listener.accept()
            control.expect("handshakes refused", control.delta(pair.server).TcpExt.ListenOverflows, 0)


@pytest.mark.claim("accept-queue.listen-columns")
def test_listen_columns(claim: ClaimRun, pair: Pair) -> None:
    listener = listen(pair.server, 10)
    for k in (1, 4, 11):
        with claim.effect(f"{k} connections wait, backlog 10") as effect:
            connect(pair.client, listener, k - len(listener.accepted) - waiting(listener), wait=True)
            until(lambda: waiting(listener) >= k, what=f"{k} waiting")
            effect.compare(
                "(Recv-Q, Send-Q) from inet_diag", accept_queue(pair.server, listener.port), document=(k, 10)
            )
            ((_, recv_q, send_q, *_),) = ss(pair.server, "-lnt", f"sport = :{listener.port}")
            effect.compare("(Recv-Q, Send-Q) from ss -lnt", (int(recv_q), int(send_q)), document=(k, 10))
    with claim.control("all accepted: connections of the listener that do not wait") as control:
        listener.accept(11)
        control.expect("Recv-Q", waiting(listener), 0)
        connection = RawPeer(pair.server, pair.client).connection(listener)
        connection.syn()
        control.expect("half-open requests", half_open(pair.server, listener.port), 1)
        control.expect("Recv-Q with one half-open", waiting(listener), 0)
        connection.send("A")
        until(lambda: waiting(listener) == 1, what="the handshake to complete")


@pytest.mark.claim("accept-queue.established-columns")
def test_established_columns(claim: ClaimRun, pair: Pair) -> None:
    listener = listen(pair.server, 10)
    (client,) = connect(pair.client, listener, wait=True).sockets
    (server,) = listener.accept()

    def queues(host: Host, connection: socket.socket) -> tuple[tuple[int, int], tuple[int, int]]:
        port = connection.getsockname()[1]
        (found,) = sockets(host, f"state established sport = :{port}")
        ((_, recv_q, send_q, *_),) = [row for row in ss(host, "-nt") if row[3].endswith(f":{port}")]
        return (found.recv_q, found.send_q), (int(recv_q), int(send_q))

    with claim.effect("1000 bytes arrived and are not read") as effect:
        client.send(b"x" * 1000)
        until(lambda: queues(pair.server, server)[0][0], what="the bytes to arrive")
        for name, (recv_q, _) in zip(("inet_diag", "ss -nt"), queues(pair.server, server), strict=True):
            effect.compare(f"Recv-Q of the receiver, {name}", recv_q, document=1000)
    with claim.control("the bytes are read") as control:
        control.expect("bytes read", len(server.recv(4096)), 1000)
        control.expect("Recv-Q", [recv_q for recv_q, _ in queues(pair.server, server)], [0, 0])
    with claim.effect("500 bytes sent, their acknowledgements dropped") as effect:
        lost = drop(pair.client, sport=listener.port)
        client.send(b"y" * 500)
        until(lambda: queues(pair.server, server)[0][0] == 500, what="the bytes to arrive")
        for name, (_, send_q) in zip(("inet_diag", "ss -nt"), queues(pair.client, client), strict=True):
            effect.compare(f"Send-Q of the sender, {name}", send_q, document=500)
    with claim.control("the acknowledgements pass again") as control:
        control.expect("acknowledgements dropped", lost.lift(), at_least(1))
        until(lambda: queues(pair.client, client)[0][1] == 0, what="Send-Q to empty")
        control.expect("Send-Q", [send_q for _, send_q in queues(pair.client, client)], [0, 0])


@pytest.mark.claim("accept-queue.overflow-counter")
def test_overflow_counter(claim: ClaimRun, pair: Pair) -> None:
    def netstat() -> int:
        found = re.search(
            r"(\d+) times the listen queue of a socket overflowed", pair.server.run("netstat", "-s").stdout
        )
        return int(found[1]) if found else 0

    listener, peer = listen(pair.server, 5), RawPeer(pair.server, pair.client)
    late = peer.connection(listener)
    late.syn()
    fill(pair, listener)
    for refused in (1, 7, 20):
        before, requests = netstat(), half_open(pair.server, listener.port)
        with claim.effect(f"{refused} SYNs at a full queue") as effect:
            peer.half_open(listener, refused)
            until(lambda: effect.delta(pair.server).Tcp.InSegs >= refused, what="the SYNs to arrive")
            moved = effect.delta(pair.server)
            answered = half_open(pair.server, listener.port) - requests
            effect.premise("of these answered", answered, between(0, answered_at_a_full_queue()))
            turned_away = refused - answered
            effect.compare("ListenOverflows", moved.TcpExt.ListenOverflows, document=turned_away)
            effect.compare("netstat -s | grep overflowed", netstat() - before, document=turned_away)
            effect.premise("ListenDrops", moved.TcpExt.ListenDrops, turned_away)
    with claim.effect("a third ACK at a full queue") as effect:
        late.send("A")
        until(lambda: effect.delta(pair.server).Tcp.InSegs >= 1, what="the ACK to arrive")
        effect.compare("ListenOverflows", effect.delta(pair.server).TcpExt.ListenOverflows, document=1)
    with claim.control("7 SYNs at a queue with room") as control:
        before = netstat()
        roomy = listen(pair.server, 50)
        peer.half_open(roomy, 7)
        until(lambda: half_open(pair.server, roomy.port) == 7, what="7 half-open requests")
        control.expect("ListenOverflows", control.delta(pair.server).TcpExt.ListenOverflows, 0)
        control.expect("netstat -s | grep overflowed", netstat() - before, 0)


@pytest.mark.claim("accept-queue.overflow-caps-service")
def test_overflow_caps_service(claim: ClaimRun, pair: Pair) -> None:
    pair.server.sysctl["net.core.somaxconn"] = 5000
    pair.server.sysctl["net.ipv4.tcp_max_syn_backlog"] = 20000

    def served(phase: Phase, connections: int, backlog: int) -> int:
        """How many of the clients that come while nginx is busy does it serve afterwards?

        A SYN that is dropped comes again after a second, and nginx may have time then. So that a client counts once,
        whatever knocks after all have knocked is turned away. wrk knocks once more than told: it tries the address.
        Where a SYN is answered at a full queue, what its client sends then overflows the queue again and again, so that
        the clients' sockets tell who has knocked.
        """
        nginx = Nginx(pair.server, f"{8000 + backlog} backlog={backlog}")
        nginx.stall()
        once = drop(pair.server, "S", dport=nginx.port, first=connections + 2)
        wrk = Wrk(pair.client, nginx.url, connections=connections)

        length: list[tuple[float, float]] = []
        began = time.monotonic()

        def knocked() -> int:
            length.append((round(time.monotonic() - began, 4), accept_queue(pair.server, nginx.port).waiting))
            if answered_at_a_full_queue():
                return count(pair.client, f"exclude time-wait dport = :{nginx.port}")
            return int(length[-1][1]) + phase.delta(pair.server).TcpExt.ListenOverflows

        until(lambda: knocked() == connections + 1, what=f"{connections + 1} clients at the door")
        phase.series(f"waiting, {connections} connections, backlog {backlog}", length, unit="connections")
        admitted = accept_queue(pair.server, nginx.port).waiting - 1
        nginx.resume()
        until(lambda: nginx.clients_served() >= admitted, what=f"{admitted} clients served")
        phase.note("requests served", wrk.stop().requests)
        once.lift()
        clients = nginx.clients_served()
        nginx.program.stop()
        return clients

    short: list[tuple[float, float]] = []
    long: list[tuple[float, float]] = []
    for connections in (5, 50, 200):
        with claim.effect(f"backlog 10, {connections} connections of wrk while nginx is busy") as effect:
            short.append((connections, served(effect, connections, 10)))
            most = min(connections, 10 + answered_at_a_full_queue())
            effect.compare("clients served", short[-1][1], document=between(min(connections, 10), most))
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
        pair.server.sysctl[ABORT] = 0
        listener, clients, _ = overflow(pair, 3, effect)
        answers = [s.flags for s in packets.segments() if s.direction == "out" and s.sport == listener.port]
        effect.compare("RSTs sent by the server", sum("R" in flags for flags in answers), document=0)
        effect.compare(
            "what the server made of the clients",
            states(pair.server, listener.port, clients),
            document=["SYN-RECV"] * 3,
        )
        effect.compare("connections waiting", waiting(listener), document=4)
    close(listener, clients)
    with claim.control("the same handshakes end at a queue with room") as control:
        listener = listen(pair.server, 10)
        clients, held = begin(pair, listener, 3)
        for one in held:
            one.release()
        until(lambda: waiting(listener) == 3, what="three connections")
        control.expect(
            "what the server made of the clients", states(pair.server, listener.port, clients), ["ESTAB"] * 3
        )
        control.expect("ListenOverflows", control.delta(pair.server).TcpExt.ListenOverflows, 0)


@pytest.mark.claim("accept-queue.client-thinks-established")
def test_client_thinks_established(claim: ClaimRun, pair: Pair) -> None:
    packets = claim.capture(pair.server)

    def requests(port: int) -> int:
        return sum(s.payload == b"request" and s.dport == port for s in packets.segments())

    with claim.effect("a handshake ends at a full queue, and the client sends its request") as effect:
        listener, clients, _ = overflow(pair, 1, effect)
        clients[0].socket.send(b"request")
        until(lambda: requests(listener.port) >= 3, what="the request to come three times")
        effect.compare("the client's state", states(pair.client, listener.port, clients), document=["ESTAB"])
        effect.compare("the server's state", states(pair.server, listener.port, clients), document=["SYN-RECV"])
        effect.compare("times the request was sent", requests(listener.port), document=at_least(3))
        resent = effect.delta(pair.client).Tcp.RetransSegs
        effect.compare("the client's RetransSegs", resent, document=at_least(2))
    with claim.control("a handshake ends at a queue with room, and the client sends its request") as control:
        listener = listen(pair.server, 10)
        client = connect(pair.client, listener, wait=True)
        client[0].socket.send(b"request")
        (server,) = listener.accept()
        until(lambda: readable(server) == b"request", what="the request")
        control.expect("the server's state", states(pair.server, listener.port, client), ["ESTAB"])
        control.expect("times the request was sent", requests(listener.port), 1)


@pytest.mark.claim("accept-queue.recovers-when-drained")
def test_recovers_when_drained(claim: ClaimRun, pair: Pair) -> None:
    with claim.control("no place becomes free: the request is sent again and again") as control:
        listener, clients, _ = overflow(pair, 1, control)
        # What completes the handshake must be the request: the client is not to answer repeated SYN-ACKs.
        deaf = drop(pair.client, "SA", sport=listener.port)
        clients[0].socket.send(b"request")
        until(lambda: control.delta(pair.client).Tcp.RetransSegs >= 3, what="three retransmissions", deadline=20)
        control.expect("the server's state", states(pair.server, listener.port, clients), ["SYN-RECV"])
        control.expect("connections waiting", waiting(listener), 2)
    with claim.effect("one connection is accepted, which makes room for one") as effect:
        listener.accept(1)
        until(lambda: waiting(listener) == 2, what="the next retransmission to arrive", deadline=30)
        effect.compare("the server's state", states(pair.server, listener.port, clients), document=["ESTAB"])
        last = listener.accept(2)[-1]
        effect.compare("what the server reads", last.recv(100), document=b"request")
        last.send(b"answer")
        until(lambda: readable(clients[0].socket) == b"answer", what="the answer")
        deaf.lift()


@pytest.mark.claim("accept-queue.reset-on-overflow")
def test_reset_on_overflow(claim: ClaimRun, pair: Pair) -> None:
    packets = claim.capture(pair.server)
    with claim.effect("tcp_abort_on_overflow 1: three handshakes end at a full queue") as effect:
        pair.server.sysctl[ABORT] = 1
        _, clients, _ = overflow(pair, 3, effect)
        until(lambda: clients.fates()["open"] == 0, what="the RSTs to arrive")
        effect.compare("what the clients see", dict(clients.fates()), document={"ECONNRESET": 3})
        reset = {s.dport for s in packets.segments() if s.direction == "out" and "R" in s.flags}
        effect.compare("clients that were sent an RST", len(reset), document=3)
    with claim.control("tcp_abort_on_overflow 0: three handshakes end at a full queue") as control:
        pair.server.sysctl[ABORT] = 0
        _, clients, _ = overflow(pair, 3, control)
        control.expect("what the clients see", dict(clients.fates()), {"open": 3})
        control.expect("RSTs sent by the server", control.delta(pair.server).Tcp.OutRsts, 0)


@pytest.mark.claim("accept-queue.reset-diagnoses-overflow")
def test_reset_diagnoses_overflow(claim: ClaimRun, pair: Pair) -> None:
    pair.server.sysctl[ABORT] = 1
    with claim.control("handshakes that end at a full queue") as control:
        _, clients, _ = overflow(pair, 5, control)
        until(lambda: clients.fates()["open"] == 0, what="the RSTs to arrive")
        control.expect("what the clients see", dict(clients.fates()), {"ECONNRESET": 5})
    with claim.effect("overflow without resets: clients that come when the queue is full") as effect:
        listener = listen(pair.server, 3)
        fill(pair, listener)
        clients = connect(pair.client, listener, 5)
        until(lambda: effect.delta(pair.server).TcpExt.ListenOverflows >= 5, what="five clients refused")
        # Before 4.10 such a SYN was still answered, and its ACK met the RST.
        early = 0 if running() >= "4.10" else 5
        reset = clients.results()["ECONNRESET"] + clients.fates()["ECONNRESET"]
        effect.compare("clients of five that see ECONNRESET", reset, document=5, kernel=early)
    close(listener, clients)
    with claim.effect("overflow without resets: handshakes that a SYN cookie began") as effect:
        pair.server.sysctl["net.ipv4.tcp_syncookies"] = 2
        listener, clients, _ = overflow(pair, 5, effect)
        effect.premise("cookies that came back", effect.delta(pair.server).TcpExt.SyncookiesRecv, at_least(5))
        effect.premise("RSTs sent", effect.delta(pair.server).Tcp.OutRsts, 0)
        effect.compare("clients of five that see ECONNRESET", clients.fates()["ECONNRESET"], document=5, kernel=0)
    close(listener, clients)
    with claim.effect("resets without overflow: the application closes with a request unread") as effect:
        listener = listen(pair.server, 10)
        clients = connect(pair.client, listener, 5, wait=True)
        for client, server in zip(clients, listener.accept(5), strict=True):
            client.socket.send(b"request")
            until(lambda: readable(server), what="the request")
            server.close()
        until(lambda: clients.fates()["open"] == 0, what="the RSTs to arrive")
        effect.premise("what the clients see", dict(clients.fates()), {"ECONNRESET": 5})
        overflows = effect.delta(pair.server).TcpExt.ListenOverflows
        effect.compare("overflows behind the five resets", overflows, document=at_least(5), kernel=0)


@pytest.mark.claim("accept-queue.abort-default")
def test_abort_default(claim: ClaimRun, pair: Pair) -> None:
    with claim.effect("a fresh network namespace") as effect:
        effect.compare("tcp_abort_on_overflow", pair.server.sysctl[ABORT], document="0")
    with claim.control("set to 1") as control:
        pair.server.sysctl[ABORT] = 1
        control.expect("tcp_abort_on_overflow", pair.server.sysctl[ABORT], "1")


@pytest.mark.claim("accept-queue.drop-survives-bursts")
def test_drop_survives_bursts(claim: ClaimRun, pair: Pair) -> None:
    def served(value: int, phase: Phase) -> int:
        """17 clients come at once while the server, which has room for nine, is busy; then it accepts again."""
        pair.server.sysctl[ABORT] = value
        listener, late, early = overflow(pair, 8, phase)
        listener.start_accepting(None, echo)
        return early.ask(b"request", deadline=20) + late.ask(b"request", deadline=20)

    with claim.effect("tcp_abort_on_overflow 0, a burst of 17") as effect:
        effect.compare("clients served", served(0, effect), document=17)
    with claim.control("tcp_abort_on_overflow 1, a burst of 17") as control:
        control.expect("clients served", served(1, control), 9)


@pytest.mark.claim("accept-queue.somaxconn-default")
def test_somaxconn_default(claim: ClaimRun, pair: Pair) -> None:
    default = 4096 if running() >= "5.4" else 128
    with claim.effect("a fresh network namespace") as effect:
        effect.compare("somaxconn", int(pair.server.sysctl[SOMAXCONN]), document=128, kernel=default)
        listener = listen(pair.server, 100_000)
        limit = accept_queue(pair.server, listener.port).limit
        effect.compare("Send-Q of listen(100000)", limit, document=128, kernel=default)
    with claim.control("somaxconn set to 300") as control:
        pair.server.sysctl[SOMAXCONN] = 300
        listener = listen(pair.server, 100_000)
        control.expect("Send-Q of listen(100000)", accept_queue(pair.server, listener.port).limit, 300)


@pytest.mark.claim("accept-queue.resize-needs-listen")
def test_resize_needs_listen(claim: ClaimRun, pair: Pair) -> None:
    pair.server.sysctl[SOMAXCONN] = 5
    listener = listen(pair.server, 1000)
    with claim.effect("somaxconn raised from 5 to 20 while the server listens") as effect:
        pair.server.sysctl[SOMAXCONN] = 20
        effect.compare("Send-Q", accept_queue(pair.server, listener.port).limit, document=5)
        connect(pair.client, listener, 30)
        until(lambda: waiting(listener) + effect.delta(pair.server).TcpExt.ListenOverflows >= 30, what="30 clients")
        effect.compare("connections waiting", waiting(listener), document=6)
    with claim.control("listen() called again") as control:
        listener.listen(1000)
        control.expect("Send-Q", accept_queue(pair.server, listener.port).limit, 20)
        connect(pair.client, listener, 15)
        until(lambda: waiting(listener) >= 21, what="a queue of 21")
        control.expect("connections waiting", waiting(listener), 21)


@pytest.mark.claim("accept-queue.nginx-default-511")
def test_nginx_default_511(claim: ClaimRun, pair: Pair) -> None:
    def send_q(listen_directive: str) -> int:
        nginx = Nginx(pair.server, listen_directive)
        ((_, _, limit, *_),) = ss(pair.server, "-lnt", f"sport = :{nginx.port}")
        assert int(limit) == accept_queue(pair.server, nginx.port).limit
        return int(limit)

    pair.server.sysctl[SOMAXCONN] = 4096
    with claim.effect("nginx without a backlog option") as effect:
        effect.compare("Send-Q", send_q("8088"), document=511)
    with claim.control("nginx with backlog=77") as control:
        control.expect("Send-Q", send_q("8089 backlog=77"), 77)
    with claim.control("nginx without a backlog option, somaxconn 128") as control:
        pair.server.sysctl[SOMAXCONN] = 128
        control.expect("Send-Q", send_q("8090"), 128)


@pytest.mark.claim("accept-queue.nginx-backlog-option")
def test_nginx_backlog_option(claim: ClaimRun, pair: Pair) -> None:
    pair.server.sysctl[SOMAXCONN] = 4096
    nginx = Nginx(pair.server, "8088")

    def limit() -> int:
        return accept_queue(pair.server, nginx.port).limit

    with claim.control("before: no option, and the new configuration written but not read") as control:
        control.expect("Send-Q", limit(), 511)
        nginx.configure("8088 default backlog=5000")
        pair.server.sysctl[SOMAXCONN] = 5000
        control.expect("Send-Q", limit(), 511)
    with claim.effect("backlog=5000, somaxconn 5000, nginx restarted") as effect:
        nginx.restart()
        effect.compare("Send-Q", limit(), document=5000)
    with claim.control("somaxconn left at 4096, nginx restarted") as control:
        pair.server.sysctl[SOMAXCONN] = 4096
        nginx.restart()
        control.expect("Send-Q", limit(), 4096)
    with claim.control("is a restart needed? nginx is told to reload instead") as control:
        pair.server.sysctl[SOMAXCONN] = 5000
        nginx.reload()
        control.note("Send-Q after somaxconn rose and nginx reloaded, the option as it was", limit())
        nginx.configure("8088 default backlog=4500")
        nginx.reload()
        control.expect("Send-Q after the option changed and nginx reloaded", limit(), 4500)
