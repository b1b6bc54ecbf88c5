"""A list of sockets, whoever printed it: listeners one by one, the others summed up."""

from __future__ import annotations

import heapq
import re
import socket
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from harness.evidence.types import Endpoint, SocketTimer
from harness.incident.collector.rows import (
    LINE,
    MOST_RETRANSMITS,
    NOBODY,
    PEERS,
    RECV_Q,
    RETRANSMITTING,
    SEND_Q,
    SOCKETS,
    WITH_RECV_Q,
    WITH_SEND_Q,
    Rows,
    sum_up,
    the_largest,
)
from harness.incident.collector.tables import notable
from harness.incident.draft import Listed
from harness.incident.reading.lines import plain
from harness.incident.sockets import Connection, Direction, Flow, Look, Rest, Sockets

if TYPE_CHECKING:
    from harness.incident.reading.context import Context

MOST_FLOWS = 5000
MOST_NOTABLE = 500
MOST_LISTENERS = 5000


class Row(NamedTuple):
    """A TCP socket as some tool printed it."""

    number: int
    state: str
    local: Endpoint
    peer: Endpoint
    recv_q: int
    send_q: int
    timer: SocketTimer | None = None
    mark: str = ""
    held_by: tuple[tuple[str, int], ...] = ()
    drops: int | None = None
    info: dict[str, float] = {}  # noqa: RUF012 - a NamedTuple's default, which nobody changes
    options: tuple[str, ...] = ()


class Table:
    """The sockets of one output. `limits`: whether Send-Q of a listener is its limit there.

    `timers`: whether the output shows timers; a timer that it shows says so as well, and so do numbers of tcp_info.
    """

    def __init__(self, context: Context, *, limits: bool, timers: bool = False) -> None:
        self.context = context
        self.limits = limits
        self.timers, self.info = timers, False
        self.first = self.half = 0
        self.rows = Rows()
        self.listeners: Counter[Endpoint] = Counter()
        self.looks: list[tuple[Row, str]] = []
        self.notable: list[tuple[int, int, Connection]] = []

    def add(self, row: Row) -> None:
        """One more socket."""
        self.first = self.first or row.number
        if row.state == "UNCONN":
            # No connection: of UDP, which the ss of iproute2 3.10 calls tcp with -tu.
            return
        if row.state == "LISTEN":
            self._listener(row)
            return
        self.info = self.info or bool(row.info)
        self.timers = self.timers or self.info or row.timer is not None
        retransmits = row.timer.retransmits if row.timer else int(row.info.get("backoff", 0))
        ends = (row.local.address, row.local.port), (row.peer.address, row.peer.port)
        self.rows.add(row.state, *ends, (row.recv_q, row.send_q), retransmits=retransmits, line=row.number)
        timer = row.timer.kind if row.timer else "on" if retransmits else ""
        if score := notable(row.state, timer, retransmits, (row.recv_q, row.send_q)):
            keep = heapq.heappush if len(self.notable) < MOST_NOTABLE else heapq.heappushpop
            keep(self.notable, (score, -row.number, self._connection(row)))

    def lost(self, *printed: str) -> None:
        """A socket whose port has a name that this machine does not know."""
        if not all(":" in end for end in printed):
            # Of another kind, as netlink's: a socket of TCP has two ports.
            return
        names = {port for _, _, port in (end.rpartition(":") for end in printed) if port_of(port) is None}
        for name in sorted(names):
            self.context.draft.notice(
                f"{self.context.file}: sockets at port {plain(name, 32)} are left out: no such service is known here; "
                "take numbers (-n)"
            )

    def finish(self) -> None:
        """Hand over what was read."""
        if not self.first:
            return
        for row, mark in self.looks:
            limit = row.send_q if self.limits else None
            look = Look(self.context.source(row.number), row.recv_q, limit, row.drops, self.context.taken)
            self.context.space.listener(self._address(row.local), mark, look, row.held_by)
        self.context.space.listening.update(local.port for local in self.listeners)
        if len(self.rows):
            self.context.space.lists.append(Listed(self._sockets, self.half))
        if (total := self.listeners.total()) > MOST_LISTENERS:
            self.context.draft.notice(f"{self.context.file}: of {total} listeners {MOST_LISTENERS} are kept")

    def _listener(self, row: Row) -> None:
        self.listeners[row.local] += 1
        mark = row.mark or (f"#{self.listeners[row.local]}" if self.listeners[row.local] > 1 else "")
        if len(self.looks) < MOST_LISTENERS:
            self.looks.append((row, mark))

    def _address(self, local: Endpoint) -> Endpoint:
        """A listener's address: of an old ss * is 0.0.0.0, of a new one ::, where it shows the other one beside it."""
        if local.address != "*":
            return local
        pairs = (("::", "0.0.0.0"), ("0.0.0.0", "::"))
        beside = (meant for other, meant in pairs if Endpoint(other, local.port) in self.listeners)
        return Endpoint(next(beside, "*"), local.port)

    def _connection(self, row: Row) -> Connection:
        return Connection(
            row.state, row.local, row.peer, row.recv_q, row.send_q, self.context.source(row.number), row.timer,
            row.info, row.options, row.drops, row.held_by[0][0] if row.held_by else "",
        )  # fmt: skip

    def _sockets(self, listening: set[int]) -> Sockets:
        flows, more, their_sockets = the_largest(sum_up(self.rows, listening), MOST_FLOWS)
        return Sockets(
            self.context.source(self.first),
            len(self.rows),
            self.rows.counted(),
            tuple(self._flow(key, numbers) for key, numbers in flows),
            tuple(kept for _, _, kept in sorted(self.notable, key=lambda each: each[:2], reverse=True)),
            Rest(more, their_sockets),
            self.context.taken,
            self.context.command,
            self.timers,
            self.info,
        )

    def _flow(self, key: tuple[bool, int, int, int, int, int], numbers: list[int]) -> Flow:
        comes, state, local, local_port, peer, peer_port = key
        return Flow(
            Direction.IN if comes else Direction.OUT,
            self.rows.words[state],
            Endpoint(str(self.rows.addresses[local]), local_port),
            Endpoint("" if peer == NOBODY else str(self.rows.addresses[peer]), peer_port),
            numbers[SOCKETS],
            self.context.source(numbers[LINE]),
            numbers[PEERS],
            numbers[RECV_Q],
            numbers[SEND_Q],
            numbers[WITH_RECV_Q],
            numbers[WITH_SEND_Q],
            numbers[RETRANSMITTING],
            numbers[MOST_RETRANSMITS],
        )


ZONE = re.compile(r"%[^\]:]*")
ADDRESS = re.compile(r"[\w.:*-]{0,64}", re.ASCII)


@lru_cache(maxsize=1 << 16)
def address_of(printed: str) -> str:
    """An address without brackets, interface, and the prefix of IPv4 in IPv6; "?" for what is no address or name."""
    address = ZONE.sub("", printed).strip("[]")
    if address.lower().startswith("::ffff:") and "." in address:
        address = address[7:]
    if ADDRESS.fullmatch(address) is None:
        return "?"
    return _short(address) if address.count(":") > 1 else address or "*"


def _short(address: str) -> str:
    """An address of IPv6 as ss prints it: conntrack writes all of its zeros."""
    try:
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, address))
    except OSError:
        return address


@lru_cache(maxsize=1 << 16)
def port_of(printed: str) -> int | None:
    """A port by its number or its service's name; 0 for "*", None for what is no port."""
    if printed.isdecimal():
        return int(printed) if int(printed) < 65536 else None
    if printed == "*":
        return 0
    try:
        return socket.getservbyname(printed, "tcp")
    except (OSError, ValueError, UnicodeError):
        return None


def endpoint_of(printed: str) -> Endpoint | None:
    """An endpoint as ss and netstat print it; None for what is none."""
    address, colon, port = printed.rpartition(":")
    number = port_of(port)
    return Endpoint(address_of(address), number) if colon and number is not None else None
