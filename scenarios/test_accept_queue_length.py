"""The accept queue: how long it is, who sets its limit, and the columns in which ss shows both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.instruments.accept_queue import room
from harness.laws import since
from harness.laws.queues import Knobs
from harness.laws.ranges import at_least
from harness.observe import accept_queue, sockets, ss
from harness.traffic import RawPeer, connect, drop, listen
from harness.traffic.connection import endpoint, establish
from harness.waiting import until

if TYPE_CHECKING:
    import socket

    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair

SOMAXCONN = "net.core.somaxconn"
LIMITS = [(7, 100), (100, 7), (7, 7), (1, 5), (0, 5)]


@pytest.mark.claim("accept-queue.capacity")
def test_capacity(claim: ClaimRun, pair: Pair) -> None:
    law: list[tuple[float, float]] = []
    for somaxconn, backlog in LIMITS:
        pair.server.sysctl[SOMAXCONN] = somaxconn
        limit = min(somaxconn, backlog)
        with claim.effect(f"somaxconn {somaxconn}, backlog {backlog}: nobody accepts, {limit + 5} connect") as effect:
            listener = listen(pair.server, backlog)
            clients = connect(pair.client, listener, limit + 5)
            until(lambda: clients.connected + effect.delta(pair.server).TcpExt.ListenOverflows >= limit + 5)
            measured = listener.waiting
            effect.compare("connections waiting", measured, document=limit, kernel=room(Knobs(backlog, somaxconn)))
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
            connect(pair.client, listener, k - len(listener.accepted) - listener.waiting, wait=True)
            until(lambda: listener.waiting >= k, what=f"{k} waiting")
            shown = accept_queue(pair.server, listener.port)
            effect.compare("(Recv-Q, Send-Q) from inet_diag", shown, document=(k, 10))
            shown_by_ss = ss.listener(pair.server, listener.port).queues
            effect.compare("(Recv-Q, Send-Q) from ss -lnt", shown_by_ss, document=(k, 10))
    with claim.control("all accepted: connections of the listener that do not wait") as control:
        listener.accept(11)
        control.expect("Recv-Q", listener.waiting, 0)
        connection = RawPeer(pair.server, pair.client).connection(listener)
        connection.syn()
        control.expect("half-open requests", listener.half_open, 1)
        control.expect("Recv-Q with one half-open", listener.waiting, 0)
        connection.send("A")
        until(lambda: listener.waiting == 1, what="the handshake to complete")


def queues_of(host: Host, connection: socket.socket) -> dict[str, tuple[int, int]]:
    """(Recv-Q, Send-Q) of a connection, by inet_diag and by ss."""
    local = f"sport = :{endpoint(connection)[1]}"
    (by_kernel,) = sockets(host, f"state established {local}")
    return {"inet_diag": (by_kernel.recv_q, by_kernel.send_q), "ss -nt": ss.row(host, "-nt", local).queues}


@pytest.mark.claim("accept-queue.established-columns")
def test_established_columns(claim: ClaimRun, pair: Pair) -> None:
    listener = listen(pair.server, 10)
    connection = establish(pair.client, listener)

    def received() -> dict[str, int]:
        return {name: recv_q for name, (recv_q, _) in queues_of(pair.server, connection.server).items()}

    def sent() -> dict[str, int]:
        return {name: send_q for name, (_, send_q) in queues_of(pair.client, connection.client).items()}

    with claim.effect("1000 bytes arrived and are not read") as effect:
        connection.client.send(b"x" * 1000)
        until(lambda: received()["inet_diag"], what="the bytes to arrive")
        for name, recv_q in received().items():
            effect.compare(f"Recv-Q of the receiver, {name}", recv_q, document=1000)
    with claim.control("the bytes are read") as control:
        control.expect("bytes read", len(connection.server.recv(4096)), 1000)
        control.expect("Recv-Q", list(received().values()), [0, 0])
    with claim.effect("500 bytes sent, their acknowledgements dropped") as effect:
        lost = drop(pair.client, sport=listener.port)
        connection.client.send(b"y" * 500)
        until(lambda: received()["inet_diag"] == 500, what="the bytes to arrive")
        for name, send_q in sent().items():
            effect.compare(f"Send-Q of the sender, {name}", send_q, document=500)
    with claim.control("the acknowledgements pass again") as control:
        control.expect("acknowledgements dropped", lost.lift(), at_least(1))
        until(lambda: sent()["ss -nt"] == 0, what="Send-Q to empty")
        control.expect("Send-Q", list(sent().values()), [0, 0])


@pytest.mark.claim("accept-queue.somaxconn-default")
def test_somaxconn_default(claim: ClaimRun, pair: Pair) -> None:
    default = 4096 if since("somaxconn-default-is-4096") else 128
    with claim.effect("a fresh network namespace") as effect:
        effect.compare("somaxconn", int(pair.server.sysctl[SOMAXCONN]), document=128, kernel=default)
        limit = listen(pair.server, 100_000).limit
        effect.compare("Send-Q of listen(100000)", limit, document=128, kernel=default)
    with claim.control("somaxconn set to 300") as control:
        pair.server.sysctl[SOMAXCONN] = 300
        control.expect("Send-Q of listen(100000)", listen(pair.server, 100_000).limit, 300)


@pytest.mark.claim("accept-queue.resize-needs-listen")
def test_resize_needs_listen(claim: ClaimRun, pair: Pair) -> None:
    pair.server.sysctl[SOMAXCONN] = 5
    listener = listen(pair.server, 1000)
    with claim.effect("somaxconn raised from 5 to 20 while the server listens") as effect:
        pair.server.sysctl[SOMAXCONN] = 20
        effect.compare("Send-Q", listener.limit, document=5)
        connect(pair.client, listener, 30)
        until(lambda: listener.waiting + effect.delta(pair.server).TcpExt.ListenOverflows >= 30, what="30 clients")
        effect.compare("connections waiting", listener.waiting, document=6)
    with claim.control("listen() called again") as control:
        listener.listen(1000)
        control.expect("Send-Q", listener.limit, 20)
        connect(pair.client, listener, 15)
        until(lambda: listener.waiting >= 21, what="a queue of 21")
        control.expect("connections waiting", listener.waiting, 21)
