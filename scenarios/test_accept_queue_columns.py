"""Recv-Q and Send-Q: what they are of a listener, of an established connection, and of sockets in other states."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from harness.instruments.accept_queue import come_one_by_one
from harness.instruments.queue_columns import columns
from harness.laws.ranges import at_least
from harness.observe import accept_queue, proc_tcp, ss, states_at
from harness.traffic import RawPeer, connect, drop, listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.connection import establish, wait_for_end
from harness.waiting import until, until_equal

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair
    from harness.traffic import Listener


MANY = 70_000


def in_proc(listener: Listener) -> int:
    """The Recv-Q of a listener in /proc/net/tcp."""
    (row,) = [row for row in proc_tcp.rows(listener.host) if (row.state, row.local_port) == ("LISTEN", listener.port)]
    return row.recv_q


@pytest.mark.claim("accept-queue.listen-columns")
def test_listen_columns(claim: ClaimRun, pair: Pair) -> None:
    listener = listen(pair.server, 10)
    for k in (1, 4, 10):
        with claim.effect(f"{k} connections wait, backlog 10") as effect:
            connect(pair.client, listener, k - len(listener.accepted) - listener.waiting, wait=True)
            until(lambda: listener.waiting >= k, what=f"{k} waiting")
            effect.compare("Recv-Q from inet_diag", accept_queue(pair.server, listener.port).waiting, document=k)
            effect.compare("Recv-Q from ss -lnt", ss.listener(pair.server, listener.port).recv_q, document=k)
            effect.compare("Recv-Q from /proc/net/tcp", in_proc(listener), document=k)
    with claim.control("all accepted: connections of the listener that do not wait") as control:
        listener.accept(10)
        control.expect("Recv-Q", [listener.waiting, in_proc(listener)], [0, 0])
        connection = RawPeer(pair.server, pair.client).connection(listener)
        connection.syn()
        control.expect("half-open requests", listener.half_open, 1)
        control.expect("Recv-Q with one half-open", listener.waiting, 0)
        connection.send("A")
        until_equal(lambda: listener.waiting, 1, what="connections waiting")


@pytest.mark.claim("accept-queue.send-q-is-the-most")
def test_send_q_is_the_most(claim: ClaimRun, pair: Pair) -> None:
    for backlog in (1, 10):
        with claim.effect(f"backlog {backlog}: nobody accepts, {backlog + 5} clients come") as effect:
            listener = listen(pair.server, backlog)
            waiting = come_one_by_one(pair.client, listener, backlog + 5)
            send_q = ss.listener(pair.server, listener.port).send_q
            effect.compare("connections waiting", waiting, document=send_q, kernel=send_q + 1)
        with claim.control(f"backlog {backlog}: each is accepted before the next comes") as control:
            listener = listen(pair.server, backlog)
            for _ in range(backlog + 5):
                connect(pair.client, listener, wait=True)
                listener.accept()
            control.expect("(Recv-Q, Send-Q)", ss.listener(pair.server, listener.port).queues, (0, backlog))


def recv_q(host: Host, port: int) -> dict[str, int]:
    """Recv-Q of the connection of a host from or to a port, by each who shows it."""
    return {name: shown.recv_q for name, shown in columns(host, port).items()}


def send_q(host: Host, port: int) -> dict[str, int]:
    """Send-Q in the same way."""
    return {name: shown.send_q for name, shown in columns(host, port).items()}


@pytest.mark.claim("accept-queue.established-columns")
def test_established_columns(claim: ClaimRun, pair: Pair) -> None:
    listener = listen(pair.server, 10)
    connection = establish(pair.client, listener)
    with claim.effect("1000 bytes have come and are not read") as effect:
        connection.client.send(b"x" * 1000)
        until(lambda: recv_q(pair.server, listener.port)["inet_diag"], what="the bytes to arrive")
        for name, shown in recv_q(pair.server, listener.port).items():
            effect.compare(f"Recv-Q of the receiver, {name}", shown, document=1000)
    with claim.effect("400 of them are read") as effect:
        effect.premise("bytes read", len(connection.server.recv(400)), 400)
        for name, shown in recv_q(pair.server, listener.port).items():
            effect.compare(f"Recv-Q of the receiver, {name}", shown, document=600)
    with claim.control("all are read") as control:
        control.expect("bytes read", len(connection.server.recv(4096)), 600)
        control.expect("Recv-Q", set(recv_q(pair.server, listener.port).values()), {0})
    with claim.effect(f"{MANY} bytes have come: more than 16 bits count") as effect:
        listener = listen(pair.server, 10)
        # Of the listener its connections have it, and so a window of that size from the beginning.
        listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MANY)
        connection = establish(pair.client, listener)
        connection.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MANY)
        effect.premise("bytes sent", connection.client.send(b"x" * MANY), MANY)
        until(lambda: not send_q(pair.client, listener.port)["inet_diag"], what="the bytes to be acknowledged")
        for name, shown in recv_q(pair.server, listener.port).items():
            effect.compare(f"Recv-Q of the receiver, {name}", shown, document=MANY)


@pytest.mark.claim("accept-queue.recv-q-in-other-states")
def test_recv_q_in_other_states(claim: ClaimRun, pair: Pair) -> None:
    server, listener = pair.server, listen(pair.server, 10)
    for unread in (b"", b"unread"):
        with claim.effect(f"{len(unread)} bytes have come, and then a FIN") as effect:
            connection = establish(pair.client, listener)
            number = connection.port
            connection.client.send(unread)
            connection.client.close()
            until(lambda: states_at(server, number) == ["CLOSE-WAIT"], what="the FIN to arrive")
            for name, shown in recv_q(server, number).items():
                effect.compare(f"Recv-Q, {name}", shown, document=len(unread), kernel=len(unread) + 1)
        with claim.control("the application has read to the end") as control:
            control.expect("bytes to read", connection.server.recv(100), unread)
            control.expect("the end", connection.server.recv(100) if unread else b"", b"")
            control.expect("Recv-Q", set(recv_q(server, number).values()), {0})
    with claim.effect("nothing has come: a half-open request, and a TIME-WAIT") as effect:
        request = RawPeer(server, pair.client).connection(listener)
        request.syn()
        (ends,) = leave_time_wait(pair.client, listener, closer="server")
        for state, number in (("SYN-RECV", request.port), ("TIME-WAIT", ends[1][1])):
            for name, shown in recv_q(server, number).items():
                effect.compare(f"Recv-Q in {state}, {name}", shown, document=0)
    with claim.control("an established connection with 6 bytes to read") as control:
        connection = establish(pair.client, listener)
        connection.client.send(b"unread")
        until(lambda: recv_q(server, connection.port)["inet_diag"], what="the bytes to arrive")
        control.expect("Recv-Q", set(recv_q(server, connection.port).values()), {6})


@pytest.mark.claim("accept-queue.send-q-is-unacknowledged")
def test_send_q_is_unacknowledged(claim: ClaimRun, pair: Pair) -> None:
    client, server, listener = pair.client, pair.server, listen(pair.server, 10)
    packets = claim.capture(server)
    with claim.effect("100,000 bytes are written to a peer that acknowledges none") as effect:
        peer = RawPeer(server, client).connection(listener)
        peer.handshake()
        (end,) = listener.accept()
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200_000)
        effect.premise("bytes written", end.send(b"x" * 100_000), 100_000)
        sent = packets.segments(direction="out", dport=peer.port)
        on_the_wire = (max(segment.next_seq - sent[0].next_seq for segment in sent)) % 2**32
        for name, shown in send_q(server, peer.port).items():
            effect.compare(f"Send-Q, {name}", shown, document=on_the_wire, kernel=100_000)
    with claim.effect("no byte is sent: SYN-SENT") as effect, drop(server, "S", dport=listener.port):
        with connect(client, listener) as knocking:
            for name, shown in send_q(client, knocking[0].port).items():
                effect.compare(f"Send-Q, {name}", shown, document=0, kernel=1)
    for state, at, far in (("FIN-WAIT-1", client, server), ("LAST-ACK", server, client)):
        with claim.effect(f"no byte is sent, and the FIN is lost: {state}") as effect, drop(far, "FA"):
            connection = establish(client, listener)
            number = connection.port
            connection.client.close()
            if at is server:
                wait_for_end(connection.server)
                connection.server.close()
            until(lambda: states_at(at, number) == [state], what=state)
            for name, shown in send_q(at, number).items():
                effect.compare(f"Send-Q, {name}", shown, document=0, kernel=1)
    with claim.control("all that is written is sent, and its acknowledgements are lost") as control:
        connection = establish(client, listener)
        with drop(client, sport=listener.port) as lost:
            connection.client.send(b"y" * 500)
            until(lambda: recv_q(server, connection.port)["inet_diag"] == 500, what="the bytes to arrive")
            control.expect("Send-Q", set(send_q(client, connection.port).values()), {500})
        control.expect("acknowledgements lost", lost.lift(), at_least(1))
        until(lambda: not send_q(client, connection.port)["inet_diag"], what="the bytes to be acknowledged")
        control.expect("Send-Q when they pass again", set(send_q(client, connection.port).values()), {0})
