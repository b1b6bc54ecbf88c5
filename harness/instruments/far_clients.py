"""Clients that are far away: a round trip passes between a SYN-ACK and their ACK, and so long each is half-open."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness.instruments.syn_queue import drops
from harness.observe import counters, segments, sockets
from harness.traffic import connect, hold
from harness.traffic.connector import OPEN
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.traffic import Attempts, Hold, Listener

# Of a machine that is ten times as slow. A deadline measures nothing.
DEADLINE = 60.0
# include/uapi/linux/tcp.h: SACK and window scaling of tcpi_options.
NEGOTIATED = 2 | 4


class Seen(NamedTuple):
    """What became of n clients.

    `found_full` came when the SYN queue was full: `by_cookie` of them were answered with a SYN cookie, the SYN of the
    others was dropped, and comes again. `served` have an answer in the end; `plain` of the connections have neither
    SACK nor window scaling.
    """

    found_full: int
    by_cookie: int
    served: int
    plain: int


def far_clients(client: Host, listener: Listener, n: int) -> Seen:
    """n clients come together, and no ACK arrives before each has its SYN-ACK, or has found no room.

    The listener needs a thread that accepts and answers: the ACKs arrive as it takes them, so that the accept queue
    never overflows.
    """
    before = counters(listener.host)
    with hold(listener.host, "A", dport=listener.port) as held:
        clients = connect(client, listener, n)
        until(
            lambda: clients.connected + drops((counters(listener.host) - before).TcpExt) >= n,
            deadline=DEADLINE,
            what=f"{n} clients, each with its SYN-ACK or without room",
        )
        answered = clients.connected
        acks = _acks(held, clients, answered)
    by_cookie = (counters(listener.host) - before).TcpExt.SyncookiesSent
    _arrive(held, acks, clients, listener)
    return _seen(clients, listener, n - answered + by_cookie, by_cookie)


def near_clients(client: Host, listener: Listener, n: int) -> Seen:
    """As many that are near: each has its answer before the next one comes, and is half-open for a moment alone."""
    before = counters(listener.host)
    clients = connect(client, listener, 0)
    for _ in range(n):
        one = connect(client, listener, wait=True)
        one.ask(deadline=DEADLINE)
        clients.each += one.each
    counted = (counters(listener.host) - before).TcpExt
    return _seen(clients, listener, drops(counted) + counted.SyncookiesSent, counted.SyncookiesSent)


def _acks(held: Hold, clients: Attempts, n: int) -> dict[int, bytes]:
    """The frames of the ACKs of n of the clients, by their ports; those that answer a repeated SYN-ACK are left out."""
    ports, acks = {each.port for each in clients}, dict[int, bytes]()

    def all_came() -> bool:
        for frame in held.held():
            segment = segments.parse(frame, time=0, direction="in", interface="")
            if segment is not None and segment.sport in ports:
                acks.setdefault(segment.sport, frame)
        return len(acks) >= n

    until(all_came, deadline=DEADLINE, what=f"the ACKs of {n} clients")
    return acks


def _arrive(held: Hold, acks: dict[int, bytes], clients: Attempts, listener: Listener) -> None:
    """Let ACKs arrive, not more at a time than there is room for.

    Again where one found the queue full all the same, as others answer a repeated SYN-ACK. One whose request has timed
    out, after 7 s at a full queue, is answered with RST.
    """

    def all_taken() -> bool:
        gone = {each.port for each in clients if each.fate() != OPEN}
        there = {row.remote[1] for row in sockets(listener.host, f"state established sport = :{listener.port}")}
        left = [frame for port, frame in acks.items() if port not in there | gone]
        if left and not listener.waiting:
            held.deliver(left[: max(listener.limit, 1)])
        return not left

    until(all_taken, deadline=DEADLINE, what="the ACKs from far away to be taken")


def _seen(clients: Attempts, listener: Listener, found_full: int, by_cookie: int) -> Seen:
    clients.wait(deadline=DEADLINE)
    served = clients.ask(deadline=DEADLINE)
    established = sockets(clients.host, f"state established dport = :{listener.port}")
    ports = {each.port for each in clients}
    plain = sum(
        row.local[1] in ports and row.info is not None and not row.info.options & NEGOTIATED for row in established
    )
    clients.close()
    return Seen(found_full, by_cookie, served, plain)
