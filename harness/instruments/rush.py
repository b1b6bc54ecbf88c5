"""A rush of clients at an nginx that is busy for a moment: who waits, who is turned away, who is served after."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from harness.laws import before
from harness.observe import count, counting, shell, sockets, ss
from harness.traffic.wrk import Wrk
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.traffic.nginx import Nginx

OVERFLOWED = "netstat -s | grep overflowed"
# Of a machine that is ten times as slow. A deadline measures nothing.
DEADLINE = 60.0


class Rush(NamedTuple):
    """What was seen of a rush.

    While nginx is busy: `recv_q` and `send_q` of `ss -lnt | grep PORT`, how often the queue `overflowed` by
    `netstat -s`, how many `resets` (RST) the server sent, and `lengths`, the course of the queue (seconds, connections
    that wait). Afterwards: how many clients are `served` that did not have to knock twice, and how many `requests` in
    all.
    """

    recv_q: int
    send_q: int
    overflowed: int
    resets: int
    served: int
    requests: int
    lengths: list[tuple[float, float]]


def rush(client: Host, nginx: Nginx, connections: int) -> Rush:
    """Let wrk open so many connections while nginx is busy for a moment, and see who is served when that is over.

    A SYN that is dropped comes again after a second, and nginx may have time then: such a client is served later, and
    not counted as served. wrk knocks once more than told: it tries the address.
    """
    server = nginx.host
    until(lambda: not _clients(client, nginx), deadline=DEADLINE, what=f"no client of port {nginx.port}")
    overflowed, served = shell.number(server, OVERFLOWED), len(nginx.clients())
    nginx.stall()
    # RSTs are not counted later: after some seconds the kernel forgets half-open requests, and resets those clients.
    with counting(server) as moved:
        wrk = Wrk(client, nginx.url, connections=connections)
        lengths = _watch_the_door(client, nginx, connections + 1)
        resets = moved.Tcp.OutRsts
    (row,) = ss.parse(shell.printed(server, f"ss -lnt | grep {nginx.port}"))
    overflowed = shell.number(server, OVERFLOWED) - overflowed
    # Later one that was connected at once may have sent a request again, where the machine was put off.
    connected = _without_repetition(client, nginx)
    nginx.resume()
    admitted = row.recv_q - 1
    until(lambda: len(nginx.clients()) - served >= admitted, deadline=DEADLINE, what=f"{admitted} clients served")
    if before("accept-queue-full-drops-syns"):
        # Clients were connected there whose ACK the server drops, until they send more.
        connected &= _without_repetition(client, nginx)
    at_once = connected & set(nginx.clients()[served:])
    load = wrk.stop()
    return Rush(*row.queues, overflowed, resets, len(at_once), load.requests, lengths)


def _watch_the_door(client: Host, nginx: Nginx, clients: int) -> list[tuple[float, float]]:
    """Wait until so many clients have knocked at a stalled nginx; meanwhile, (seconds, connections that wait).

    The kernel deals with the SYN of a client within its connect(), so that a socket is a client that has knocked.
    """
    began, lengths = time.monotonic(), []

    def all_have_knocked() -> bool:
        knocked = _clients(client, nginx)
        lengths.append((round(time.monotonic() - began, 4), float(nginx.waiting)))
        return knocked >= clients

    until(all_have_knocked, deadline=DEADLINE, what=f"{clients} clients at nginx's door")
    return lengths


def _clients(client: Host, nginx: Nginx) -> int:
    """How many sockets of clients there are; those in TIME-WAIT are gone."""
    return count(client, f"exclude time-wait dport = :{nginx.port}")


def _without_repetition(client: Host, nginx: Nginx) -> set[int]:
    """The ports of the clients that are connected and have never sent anything twice, their SYN included."""
    connected = sockets(client, f"state established dport = :{nginx.port}")
    return {each.local[1] for each in connected if each.info is not None and each.info.total_retrans == 0}
