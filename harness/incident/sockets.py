"""Listeners with their queues, and the other sockets: summed up by state and place, the interesting ones one by one."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from harness.evidence.types import Endpoint, SocketTimer
from harness.incident.facts import Moment, Source

if TYPE_CHECKING:
    from collections.abc import Iterable

ANYWHERE = ("0.0.0.0", "::", "*")


class Look(msgspec.Struct, frozen=True, omit_defaults=True):
    """A listener at one moment.

    `waiting` connections wait to be accepted, `limit` is what listen() asked for, cut by somaxconn: full is a queue
    that is longer than its limit. `drops` is what the socket has counted since it was made. None: not in the output
    (netstat and /proc/net/tcp know no limit, and only `ss -m` shows drops).
    """

    source: Source
    waiting: int
    limit: int | None = None
    drops: int | None = None
    taken: Moment | None = None

    @property
    def is_full(self) -> bool:
        """Whether the next connection finds no room."""
        return self.limit is not None and self.waiting > self.limit


class Listener(msgspec.Struct, frozen=True, omit_defaults=True):
    """A listening socket, seen once or several times, the first time first.

    `mark` tells sockets of one port apart (SO_REUSEPORT): the inode or the cookie, empty where the output has neither.
    `processes` are the numbers of those that hold it (see Machine.processes); `programs` are their names.
    """

    local: Endpoint
    looks: tuple[Look, ...]
    mark: str = ""
    programs: tuple[str, ...] = ()
    processes: tuple[int, ...] = ()

    @property
    def last(self) -> Look:
        """The last look."""
        return self.looks[-1]

    @property
    def was_full(self) -> bool:
        """Whether it was full at any look."""
        return any(look.is_full for look in self.looks)

    def takes(self, endpoint: Endpoint) -> bool:
        """Whether a connection to this endpoint may come to it: 0.0.0.0 is for IPv4 alone."""
        anywhere = ANYWHERE[1:] if ":" in endpoint.address else ANYWHERE
        return endpoint.port == self.local.port and self.local.address in (endpoint.address, *anywhere)

    def __str__(self) -> str:
        names = f" ({', '.join(self.programs)})" if self.programs else ""
        return f"{self.local}{names}"


def taker(listeners: Iterable[Listener], endpoint: Endpoint) -> Listener | None:
    """The listener that a connection comes to: that at its own address, else 0.0.0.0, else :: (compute_score())."""
    taking = {listener.local.address: listener for listener in listeners if listener.takes(endpoint)}
    return next((taking[address] for address in (endpoint.address, *ANYWHERE) if address in taking), None)


class Direction(StrEnum):
    """Who connected: somebody to a service here, or this machine to a service elsewhere."""

    IN = "in"
    OUT = "out"


class Flow(msgspec.Struct, frozen=True, omit_defaults=True):
    """The sockets of one state between a service and whoever uses it.

    Coming in, `local` is the service and the peer's port is 0. Going out, `peer` is the service and the local port is
    0: each socket has one of its own, of the same range. A peer of "" stands for all those that are too many to be
    listed, `peers` of them. Queues are bytes in sum; `retransmitting` sockets have sent something again since they last
    got an answer, one of them `most_retransmits` times.
    """

    direction: Direction
    state: str
    local: Endpoint
    peer: Endpoint
    sockets: int
    source: Source
    peers: int = 1
    recv_q: int = 0
    send_q: int = 0
    with_recv_q: int = 0
    with_send_q: int = 0
    retransmitting: int = 0
    most_retransmits: int = 0


class Connection(msgspec.Struct, frozen=True, omit_defaults=True):
    """A socket that is worth a line of its own: it repeats itself, probes, connects, or has much in a queue.

    `info` are the numbers that `ss -i` prints, by its names and in its units (milliseconds); `options` its words
    without a number: "ts", "sack", "cubic".
    """

    state: str
    local: Endpoint
    peer: Endpoint
    recv_q: int
    send_q: int
    source: Source
    timer: SocketTimer | None = None
    info: dict[str, float] = {}
    options: tuple[str, ...] = ()
    drops: int | None = None
    program: str = ""


class Rest(msgspec.Struct, frozen=True, array_like=True):
    """What was too much to be listed: so many flows with so many sockets."""

    flows: int = 0
    sockets: int = 0


class Sockets(msgspec.Struct, frozen=True, omit_defaults=True):
    """All TCP sockets of a namespace at one moment, listeners apart.

    `states` counts them, by the words of ss: "ESTAB", "SYN-RECV", "TIME-WAIT". `command` is what printed them, where
    that is known: without -a, ss leaves out TIME-WAIT and SYN-RECV. `rest` was too much to be listed in `flows`.
    `timers`: whether the output shows which sockets repeat something, `info`: whether it has numbers of tcp_info. Where
    it does not, no socket of it seems to repeat anything.
    """

    source: Source
    total: int
    states: dict[str, int]
    flows: tuple[Flow, ...]
    notable: tuple[Connection, ...] = ()
    rest: Rest = Rest()
    taken: Moment | None = None
    command: str = ""
    timers: bool = False
    info: bool = False
