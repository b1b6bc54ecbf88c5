"""A program that has too little time to accept, and the clients that come: who is turned away, who waits how long."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple

from harness.instruments.accept_queue import begin_handshakes
from harness.observe import counting, sockets
from harness.traffic import Attempts, connect
from harness.waiting import let_clock_reach, until

if TYPE_CHECKING:
    import socket

    from harness.lab import Host
    from harness.traffic import Listener

# Of a machine that is ten times as slow. A deadline measures nothing.
DEADLINE = 60.0
# Clients a second of a crowd, which any machine can keep; and after how many of them the queue is looked at.
CROWD, LOOK = 200.0, 10


class Seen(NamedTuple):
    """What an operator would see: `recv_q` and `send_q` of `ss -lnt` when most waited; and of the clients:

    `turned_away` found the queue full: their SYN was dropped, and comes again a second later. `reset` believed to be
    connected, and were not. `longest` is how many seconds the last of those that found room waited for an answer, when
    the program had time again.
    """

    recv_q: int
    send_q: int
    turned_away: int
    reset: int
    longest: float


def busy_moment(client: Host, listener: Listener, n: int, *, late: int = 0) -> Seen:
    """n clients come at once while the program of a listener is busy; then it has time again, and answers.

    `late` more are far away: they began before, and their last ACK arrives when the others are there already. The
    listener needs a thread that accepts and answers.
    """
    listener.stall()
    far = begin_handshakes(client, listener, late)
    with counting(listener.host) as moved:
        clients = connect(client, listener, n)
        until(
            lambda: listener.waiting + moved.TcpExt.ListenDrops >= n,
            deadline=DEADLINE,
            what=f"{n} clients, each waiting or turned away",
        )
    recv_q, send_q = listener.waiting, listener.limit
    with counting(listener.host) as acks:
        far.complete()
        until(lambda: acks.Tcp.InSegs >= late, deadline=DEADLINE, what="the ACKs of those that are far away")
    began = time.monotonic()
    listener.resume()
    clients.ask(deadline=DEADLINE)
    longest = time.monotonic() - began
    reset = far.clients.fates()["ECONNRESET"]
    for each in (clients, far.clients):
        each.close()
    return Seen(recv_q, send_q, n - recv_q, reset, longest)


def overload(client: Host, listener: Listener, n: int, *, of: int = 2) -> Seen:
    """n clients come one after another, and the program accepts one whenever `of` more have come: 1 is to keep up.

    Nobody else may accept from the listener. A client whose SYN is dropped comes again, and counts as turned away.
    """
    clients, recv_q, longest, accepted, started = Attempts(client), 0, 0.0, 0, time.monotonic()
    came: dict[int, float] = {}
    with counting(listener.host) as moved:
        for number in range(1, n + 1):
            let_clock_reach(started + number / CROWD)
            clients.each += connect(client, listener).each
            came[clients[-1].port] = time.monotonic()
            recv_q = recv_q if number % LOOK else max(recv_q, listener.waiting)
            for end in _accept(listener, number // of - accepted):
                accepted += 1
                longest = max(longest, time.monotonic() - came[end.getpeername()[1]])
        # Whoever is still outside has been turned away once.
        until(
            lambda: moved.TcpExt.ListenDrops >= clients.pending,
            deadline=DEADLINE,
            what=f"{n} clients, each let in or turned away",
        )
    turned_away = n - _let_in_at_once(client, listener)
    clients.close()
    return Seen(recv_q, listener.limit, turned_away, 0, longest)


def _let_in_at_once(client: Host, listener: Listener) -> int:
    """How many clients are connected that have never sent anything twice, their SYN included."""
    connected = sockets(client, f"state established dport = :{listener.port}")
    return sum(each.info is not None and each.info.total_retrans == 0 for each in connected)


def _accept(listener: Listener, n: int) -> list[socket.socket]:
    """Up to n connections that wait now."""
    taken: list[socket.socket] = []
    with contextlib.suppress(BlockingIOError):
        while len(taken) < n:
            taken.append(listener.socket.accept()[0])
    listener.accepted += taken
    return taken


def one_by_one(client: Host, listener: Listener, n: int) -> Seen:
    """n clients come, each when the one before has its answer: the program keeps up with them."""
    longest, recv_q = 0.0, 0
    with counting(listener.host) as moved:
        for _ in range(n):
            began = time.monotonic()
            with connect(client, listener, wait=True) as one:
                one.ask(deadline=DEADLINE)
            longest = max(longest, time.monotonic() - began)
            recv_q = max(recv_q, listener.waiting)
    return Seen(recv_q, listener.limit, moved.TcpExt.ListenDrops, 0, longest)
