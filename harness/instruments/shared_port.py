"""Workers that share a port with SO_REUSEPORT, of which one may hang, and clients that the kernel deals out to them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from harness.observe import counting
from harness.traffic import Attempts, connect, echo, listen
from harness.traffic.connection import peek
from harness.traffic.connector import CONNECTED
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.observe import Counting
    from harness.traffic import Listener

# Of a machine that is ten times as slow. A deadline measures nothing.
DEADLINE = 60.0
REQUEST, RESET = b"?", "ECONNRESET"


class Served(NamedTuple):
    """What became of the clients: `served` has an answer; `in_vain` are connected, and wait; `outside` are not even
    connected; `reset` were connected. `recv_q` is the longest queue of all workers.
    """

    served: int
    in_vain: int
    outside: int
    reset: int
    recv_q: int


@dataclass
class Workers:
    """`n` workers at one port of a server; the first of them does not accept, if one `hangs`.

    With SO_REUSEPORT each has a socket and a queue of its own, otherwise (`shared` False) one socket is for all.
    """

    server: Host
    n: int
    backlog: int
    hangs: bool = True
    shared: bool = True
    sockets: list[Listener] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number in range(self.n if self.shared else 1):
            port = self.sockets[0].port if self.sockets else 0
            answer = None if number == 0 and self.hangs and self.shared else echo
            self.sockets.append(listen(self.server, self.backlog, port=port, shared=self.shared, answer=answer))

    @property
    def address(self) -> tuple[str, int]:
        """Where they are."""
        return self.sockets[-1].address

    def longest_queue(self) -> int:
        """How many connections wait at the one at which most do, as `ss -lnt` has it."""
        return max(each.waiting for each in self.sockets)

    def stuck(self) -> int:
        """How many connections wait at the one that hangs."""
        return self.sockets[0].waiting if self.hangs and self.shared else 0

    def restart_first(self) -> None:
        """End the first one, and start another in its place."""
        self.hangs = False
        self.sockets[0].close()
        self.sockets[0] = listen(self.server, self.backlog, port=self.address[1], shared=True, answer=echo)


class Crowd:
    """n clients that come one after another, each when it is known what became of the one before, and ask."""

    def __init__(self, client: Host, workers: Workers, n: int) -> None:
        self.workers = workers
        self.clients = Attempts(client)
        self._asked: set[int] = set()
        with counting(workers.server) as moved:
            for _ in range(n):
                self.clients.each += connect(client, workers.address).each
                until(lambda: self._is_known(moved), deadline=DEADLINE, what="a client served, stuck or turned away")

    def _is_known(self, moved: Counting) -> bool:
        """Whether all that have come are served, or wait at a queue, or were turned away (and come again)."""
        now = self.seen()
        return now.in_vain <= self.workers.stuck() and now.outside <= moved.TcpExt.ListenDrops

    def stuck(self) -> Served:
        """Wait until all are served but those in a queue that nobody serves, and those outside."""
        until(
            lambda: self.seen().in_vain <= self.workers.longest_queue(),
            deadline=DEADLINE,
            what="the others to be served",
        )
        return self.seen()

    def in_the_end(self) -> Served:
        """Wait until each is served, or knows that it is not."""
        until(lambda: not (now := self.seen()).in_vain + now.outside, deadline=DEADLINE, what="each client to know")
        return self.seen()

    def seen(self) -> Served:
        """What became of the clients up to now."""
        self.clients.results()
        connected = [each for each in self.clients if each.result == CONNECTED]
        for each in connected:
            if each.port not in self._asked:
                self._asked.add(each.port)
                with contextlib.suppress(OSError):
                    each.socket.send(REQUEST)
        reset = sum(each.fate() == RESET for each in connected)
        served = sum(peek(each.socket) != b"" for each in connected)
        return Served(
            served, len(connected) - served - reset, self.clients.pending, reset, self.workers.longest_queue()
        )
