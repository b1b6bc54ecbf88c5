"""The accept queue: how long it is, what happens when it overflows, and what the documents say about both."""

from __future__ import annotations

import os
import re

import pytest

from harness.claims import model
from harness.claims.kernel import running
from harness.claims.values import at_least
from harness.observe import accept_queue, count, counters, half_open, sockets
from harness.traffic import RawPeer, connect, drop, echo, hold, listen
from harness.traffic.nginx import Nginx
from harness.traffic.wrk import Load, start_wrk
from harness.waiting import until

LIMITS = [(7, 100), (100, 7), (7, 7), (1, 5), (0, 5)]


def waiting(listener):
    """(Recv-Q, Send-Q) of a listener, from inet_diag."""
    return accept_queue(listener.host, listener.port)


def fill(pair, listener, extra=0):
    """Connect until the queue is full, and `extra` clients beyond; returns when the kernel has answered all."""
    wanted = min(listener.backlog, int(pair.server.sysctl["net.core.somaxconn"])) + 1
    clients = connect(pair.client, listener, wanted).wait()
    until(lambda: waiting(listener)[0] == wanted, what="a full accept queue")
    return clients, connect(pair.client, listener, extra)


def ss(host, *arguments):
    """The rows of `ss` as lists of words, without the header."""
    return [line.split() for line in host.run("ss", *arguments).stdout.splitlines()[1:]]


@pytest.mark.claim("accept-queue.capacity")
def test_capacity(claim, pair):
    for somaxconn, backlog in LIMITS:
        pair.server.sysctl["net.core.somaxconn"] = somaxconn
        limit = min(somaxconn, backlog)
        with claim.effect(f"somaxconn {somaxconn}, backlog {backlog}: nobody accepts, {limit + 5} connect") as effect:
            listener = listen(pair.server, backlog)
            clients = connect(pair.client, listener, limit + 5)
            until(lambda: clients.connected + effect.delta(pair.server).TcpExt.ListenOverflows >= limit + 5)
            predicted = model.waiting(running(), model.Knobs(backlog, somaxconn))
            effect.compare("connections waiting", waiting(listener)[0], document=limit, kernel=predicted)
        with claim.control(f"somaxconn {somaxconn}, backlog {backlog}: the server accepts") as control:
            for _ in range(limit + 5):
                connect(pair.client, listen(pair.server, backlog, port=0, accept=True), wait=True)
            control.expect("handshakes refused", control.delta(pair.server).TcpExt.ListenOverflows, 0)


@pytest.mark.claim("accept-queue.listen-columns")
def test_listen_columns(claim, pair):
    listener = listen(pair.server, 10)
    for k in (1, 4, 11):
        with claim.effect(f"{k} connections wait, backlog 10") as effect:
            connect(pair.client, listener, k - len(listener.accepted) - waiting(listener)[0], wait=True)
            until(lambda k=k: waiting(listener)[0] >= k, what=f"{k} waiting")
            effect.compare("(Recv-Q, Send-Q) from inet_diag", waiting(listener), document=(k, 10))
            ((_, recv_q, send_q, *_),) = ss(pair.server, "-lnt", f"sport = :{listener.port}")
            effect.compare("(Recv-Q, Send-Q) from ss -lnt", (int(recv_q), int(send_q)), document=(k, 10))
    with claim.control("all accepted: connections of the listener that do not wait") as control:
        listener.accept(11)
        control.expect("Recv-Q", waiting(listener)[0], 0)
        connection = RawPeer(pair.server, pair.client).connection(listener)
        connection.syn()
        control.expect("half-open requests", half_open(pair.server, listener.port), 1)
        control.expect("Recv-Q with one half-open", waiting(listener)[0], 0)
        connection.send("A")
        until(lambda: waiting(listener)[0] == 1, what="the handshake to complete")


@pytest.mark.claim("accept-queue.established-columns")
def test_established_columns(claim, pair):
    listener = listen(pair.server, 10)
    (client,) = connect(pair.client, listener, wait=True).sockets
    (server,) = listener.accept()

    def queues(host, connection):
        (found,) = sockets(host, f"state established sport = :{connection.getsockname()[1]}")
        ((_, recv_q, send_q, *_),) = [
            row
            for row in ss(pair.client if host is pair.client else pair.server, "-nt")
            if row[3].endswith(f":{connection.getsockname()[1]}")
        ]
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
def test_overflow_counter(claim, pair):
    def netstat():
        found = re.search(r"(\d+) times the listen queue of a socket overflowed", pair.server.run("netstat", "-s").stdout)
        return int(found[1]) if found else 0

    listener, peer = listen(pair.server, 5), RawPeer(pair.server, pair.client)
    late = peer.connection(listener)
    late.syn()
    fill(pair, listener)
    for refused in (1, 7, 20):
        before = netstat()
        with claim.effect(f"{refused} SYNs at a full queue") as effect:
            peer.half_open(listener, refused)
            until(lambda: effect.delta(pair.server).Tcp.InSegs >= refused, what="the SYNs to arrive")
            moved = effect.delta(pair.server)
            effect.compare("ListenOverflows", moved.TcpExt.ListenOverflows, document=refused)
            effect.compare("netstat -s | grep overflowed", netstat() - before, document=refused)
            effect.expect("ListenDrops", moved.TcpExt.ListenDrops, refused)
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
def test_overflow_caps_service(claim, pair):
    def served(offered, backlog):
        """How many of the clients that come while nginx is busy does it serve afterwards?

        A SYN that is dropped comes again after a second, which would blur the count: once all clients have knocked,
        whatever knocks again is turned away.
        """
        nginx = Nginx(pair.server, f"{8000 + backlog} backlog={backlog}")
        port = nginx.port
        until(lambda: accept_queue(pair.server, port)[0] == 0, what="an empty queue")
        nginx.stall()
        once = drop(pair.server, "S", dport=port, first=offered + 1)
        load = start_wrk(pair.client, nginx.url, connections=offered, seconds=2)
        refused_before = overflows(pair.server)
        until(
            lambda: accept_queue(pair.server, port)[0] + overflows(pair.server) - refused_before >= offered,
            what=f"{offered} clients knocking",
        )
        nginx.resume()
        result = Load.parse(load.wait().stdout)
        once.lift()
        clients = int(passive_opens(pair.server)) - opened[0]
        opened[0] += clients
        nginx.program.stop()
        return clients, result

    opened = [passive_opens(pair.server)]
    pair.server.sysctl["net.core.somaxconn"] = 5000
    pair.server.sysctl["net.ipv4.tcp_max_syn_backlog"] = 5000
    curves = {10: [], 5000: []}
    for offered in (5, 50, 200):
        with claim.effect(f"backlog 10, wrk with {offered} connections") as effect:
            clients, load = served(offered, 10)
            effect.compare("clients served", clients - 1, document=min(offered, 11))
            effect.note("requests served", load.requests)
            curves[10].append((offered, clients - 1))
        with claim.control(f"backlog 5000, wrk with {offered} connections") as control:
            clients, load = served(offered, 5000)
            control.expect("clients served", clients - 1, offered)
            control.note("requests served", load.requests)
            curves[5000].append((offered, clients - 1))
            for backlog, curve in curves.items():
                control.series(f"clients served, backlog {backlog}", curve, unit="clients", x="clients offered")


def overflows(host):
    return counters(host).TcpExt.ListenOverflows


def passive_opens(host):
    return counters(host).Tcp.PassiveOpens
