"""A rush of clients at an nginx that is busy for a moment: who waits, who is turned away, who is served after."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from harness.laws.queues import answered_at_full
from harness.observe import count, counters, shell, ss
from harness.traffic import drop
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
    `netstat -s`, and `lengths`, the course of the queue (seconds, connections that wait). Afterwards: how many clients
    are `served`, and how many `requests` in all.
    """

    recv_q: int
    send_q: int
    overflowed: int
    served: int
    requests: int
    lengths: list[tuple[float, float]]


def rush(client: Host, nginx: Nginx, connections: int) -> Rush:
    """Let wrk open so many connections while nginx is busy for a moment, and see how many are served then.

    A SYN that is dropped comes again after a second, and nginx may have time then. So that a client counts once,
    whatever knocks after all have knocked is turned away. wrk knocks once more than told: it tries the address.
    """
    server = nginx.host
    overflowed, served = shell.number(server, OVERFLOWED), nginx.clients_served()
    nginx.stall()
    with drop(server, "S", dport=nginx.port, first=connections + 2):
        door = _Door(client, nginx)
        wrk = Wrk(client, nginx.url, connections=connections)
        until(
            lambda: door.knocked() > connections, deadline=DEADLINE, what=f"{connections + 1} clients at nginx's door"
        )
        (row,) = ss.parse(shell.printed(server, f"ss -lnt | grep {nginx.port}"))
        overflowed = shell.number(server, OVERFLOWED) - overflowed
        nginx.resume()
        admitted = row.recv_q - 1
        until(lambda: nginx.clients_served() - served >= admitted, deadline=DEADLINE, what=f"{admitted} clients served")
        load = wrk.stop()
    return Rush(*row.queues, overflowed, nginx.clients_served() - served, load.requests, door.lengths)


class _Door:
    """Counts who has knocked at a stalled nginx, and notes meanwhile how many wait.

    Where a SYN is answered at a full queue, what its client sends then overflows the queue again and again, so that the
    clients' sockets tell who has knocked. There must be none before.
    """

    def __init__(self, client: Host, nginx: Nginx) -> None:
        self._client, self._nginx = client, nginx
        self._began, self._before = time.monotonic(), counters(nginx.host)
        self.lengths: list[tuple[float, float]] = []
        if answered_at_full():
            until(lambda: not self._sockets(), deadline=DEADLINE, what=f"no client of port {nginx.port}")

    def knocked(self) -> int:
        waiting = self._nginx.waiting
        self.lengths.append((round(time.monotonic() - self._began, 4), waiting))
        if answered_at_full():
            return self._sockets()
        return waiting + (counters(self._nginx.host) - self._before).TcpExt.ListenOverflows

    def _sockets(self) -> int:
        return count(self._client, f"exclude time-wait dport = :{self._nginx.port}")
