"""The TCP sockets of a host as the kernel lists them: state, addresses, queues, timer."""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import msgspec

from harness.errors import BadInput
from harness.lab import netlink
from harness.listing import Listing
from harness.observe import bytecode, diag, states, tcp_info
from harness.observe.filters import Filter, compile_filter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from harness.lab.host import Host

FAMILIES = (socket.AF_INET, socket.AF_INET6)
FAMILY_OF = {int(family): family for family in FAMILIES}

# struct inet_diag_msg, idiag_timer (net/ipv4/inet_diag.c); the last one is in 7.1 and not in 7.0.
TIMERS = ("none", "on", "keepalive", "timewait", "persist", "delack")
# A timer that is due but has not run yet is reported as a time before now, in unsigned arithmetic.
PAST_DUE = 1 << 31

# So many connections are looked up one by one: for more, a dump of all that their host has costs less.
ONE_BY_ONE = 8

EVERYTHING = diag.extension(diag.INET_DIAG_INFO, diag.INET_DIAG_CONG, diag.INET_DIAG_SKMEMINFO)
SK_MEMINFO_DROPS = struct.Struct("=32xI")

Endpoint = tuple[str, int]
FourTuple = tuple[Endpoint, Endpoint]


class Timer(msgspec.Struct, frozen=True):
    """The timer that a socket waits for.

    `kind` as ss prints it: "on" (retransmission; of a half-open request: of the SYN-ACK), "keepalive",
    "timewait", "persist" (zero window probe), and "delack" (delayed acknowledgement, newer kernels), or "unknown" for
    what a kernel newer than this says. `expires` in seconds from now. `retransmits`: how often it has fired since the
    last progress.
    """

    kind: str
    expires: float
    retransmits: int

    def __str__(self) -> str:
        return f"timer:({self.kind},{self.expires:.3f}s,{self.retransmits})"


class Socket(msgspec.Struct, frozen=True):
    """One TCP socket.

    Of a listening socket `recv_q` is the number of connections that wait to be accepted and `send_q` its
    backlog; of others they are bytes not read yet and not acknowledged yet. `interface` is the index it is
    bound to, 0 for none; `inode` is 0 of half-open requests, connections not accepted yet and those that
    nobody holds any more. `drops` counts what the socket itself dropped (of a listener: SYNs and ACKs that
    found no room), None where the kernel does not say. `v6only` is None except for unconnected IPv6 sockets.
    """

    state: str
    family: socket.AddressFamily
    local: Endpoint
    remote: Endpoint
    recv_q: int
    send_q: int
    timer: Timer | None
    inode: int
    uid: int
    interface: int
    cookie: int
    congestion: str | None = None
    drops: int | None = None
    raw_info: bytes | None = None

    @property
    def info(self) -> tcp_info.TcpInfo | None:
        """struct tcp_info; None of sockets without one: half-open requests and TIME-WAIT."""
        return None if self.raw_info is None else tcp_info.decode(self.raw_info)

    def __str__(self) -> str:
        """One line as ss prints it."""
        local, remote = (_printed(self.family, endpoint) for endpoint in (self.local, self.remote))
        line = f"{self.state:<10} {self.recv_q:>6} {self.send_q:>6} {local:>21} {remote:>21}"
        return f"{line} {self.timer}" if self.timer else line

    def __repr__(self) -> str:
        return f"<{' '.join(str(self).split())}>"


def sockets(
    host: Host,
    filter: str = "",  # noqa: A002
    *,
    family: int | None = None,
    details: bool = True,
) -> list[Socket]:
    """The TCP sockets of a host, in the kernel's order: IPv4 first, listeners before others.

    `filter` is what one would give to ss: `state syn-recv`, `sport = :80`, `exclude time-wait dst 10.0.0.0/24`
    (see harness.observe.filters); without one, everything, listeners included. `family` restricts to AF_INET
    or AF_INET6. Half-open requests are "SYN-RECV". Without `details` there is neither congestion control nor tcp_info
    nor drops, and neither side spends time on them. Raises BadInput for a filter that is not understood.
    """
    asked = EVERYTHING if details else 0
    return Listing(_socket(message, block) for message, block in _matching(host, filter, family, asked))


def count(host: Host, filter: str = "", *, family: int | None = None) -> int:  # noqa: A002
    """How many TCP sockets of a host match: sockets() without the details, for asking often."""
    asked = _compile(host, filter)
    if asked.condition is None:
        return diag.tally(host, family or socket.AF_UNSPEC, asked.states).total()
    return sum(1 for _ in _matching(host, filter, family, 0))


def handed_over(host: Host, filter: str, condition: bytes) -> int:  # noqa: A002
    """How many TCP sockets the kernel hands over when it checks a condition itself (harness.observe.bytecode).

    Of the lab's family, and in the states that `filter` names; nothing is sorted out here.
    """
    return len(diag.dump(host, host.family, _compile(host, filter).states, 0, condition))


def ends_at(host: Host, port: int, *, details: bool = True) -> list[Socket]:
    """A host's ends of connections from or to a port, of the lab's family; `details` as for sockets()."""
    asked = f"exclude listening ( sport = :{port} or dport = :{port} )"
    return sockets(host, asked, family=host.family, details=details)


def states_at(host: Host, port: int) -> list[str]:
    """The states of a host's ends of connections from or to a port, of the lab's family."""
    return [end.state for end in ends_at(host, port, details=False)]


def socket_of(host: Host, connection: socket.socket) -> Socket:
    """What inet_diag says of one connection that this process holds; BadInput if it is none of the host's."""
    inode = os.fstat(connection.fileno()).st_ino
    found = _found_by_ends(host, connection)
    if found is not None and found.inode == inode:
        return found
    rows = [row for row in sockets(host, "exclude listening") if row.inode == inode]
    if len(rows) != 1:
        raise BadInput(f"{host.name} has no connection with inode {inode}: it has ended, or is another host's")
    return rows[0]


def _found_by_ends(host: Host, connection: socket.socket) -> Socket | None:
    """What inet_diag finds for the two ends of a connection, which need not be that one: an IPv4 one, say, of IPv6."""
    try:
        ends = [
            (socket.inet_pton(connection.family, name[0]).ljust(16, b"\0"), name[1].to_bytes(2, "big"))
            for name in (connection.getsockname(), connection.getpeername())
        ]
    except OSError:  # it is not connected any more
        return None
    found = diag.find(host, connection.family, ends[0], ends[1], EVERYTHING)
    return None if found is None else _socket(*found)


def info_of(host: Host, connection: socket.socket) -> tcp_info.TcpInfo:
    """TCP_INFO of one connection that this process holds; BadInput if the host has none such, or it has none."""
    info = socket_of(host, connection).info
    if info is None:
        raise BadInput(f"a connection of {host.name} in TIME-WAIT or SYN-RECV has no TCP_INFO")
    return info


def end_between(host: Host, local: Endpoint, remote: Endpoint) -> Socket | None:
    """A host's end of the connection between two endpoints, without details; None if it has none.

    The kernel looks it up as it does for a packet: a dump costs the walk through its whole table (diag.survey()).
    """
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    here, there = ((_address(family, name[0]).ljust(16, b"\0"), name[1].to_bytes(2, "big")) for name in (local, remote))
    found = diag.find(host, family, here, there, 0)
    # What would be found for a packet may be a listener.
    end = None if found is None else _socket(*found)
    if end is not None and (end.local, end.remote) == (local, remote):
        return end
    if end is None or _finds_requests():
        return None
    ends = ends_at(host, local[1], details=False)
    return next((end for end in ends if (end.local, end.remote) == (local, remote)), None)


def states_between(host: Host, local: Endpoint, remote: Endpoint) -> list[str]:
    """The states of a host's ends of connections between two endpoints: none, or one."""
    end = end_between(host, local, remote)
    return [] if end is None else [end.state]


@cache
def _finds_requests() -> bool:
    """Whether a half-open request is found by its ends: before 4.4 (079096f103fa) the listener is, which has it."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return release is None or (int(release[1]), int(release[2])) >= (4, 4)


def states_of(host: Host, connections: Collection[FourTuple]) -> dict[FourTuple, str]:
    """The state of each of these connections, (local, remote), that a host still has; all are of one family.

    A few are looked up one by one. For thousands of them: nothing is made of the others, and of these no more than
    their state.
    """
    if len(connections) <= ONE_BY_ONE:
        found = {ends: end_between(host, *ends) for ends in connections}
        return {ends: end.state for ends, end in found.items() if end is not None}
    family = socket.AF_INET6 if ":" in next(iter(connections))[0][0] else socket.AF_INET
    wanted = {_packed(family, local) + _packed(family, remote): (local, remote) for local, remote in connections}
    near, far = ({end[1] for end in ends} for ends in zip(*connections, strict=True))
    # Most often all have a port in common; then the kernel is spared handing over the others.
    condition = b""
    if len(near) == 1:
        condition = bytecode.from_port_range(*near, *near)
    elif len(far) == 1:
        condition = bytecode.to_port_range(*far, *far)
    dumped = diag.dump(host, family, _compile(host, "exclude listening").states, 0, condition)
    size = 4 if family == socket.AF_INET else 16
    seen = {
        message.source[:size] + message.sport + message.destination[:size] + message.dport: message.state
        for message, _ in dumped
    }
    return {wanted[key]: states.printed(seen[key]) for key in wanted.keys() & seen.keys()}


def _packed(family: int, endpoint: Endpoint) -> bytes:
    return _address(family, endpoint[0]) + endpoint[1].to_bytes(2, "big")


@lru_cache(maxsize=64)
def _address(family: int, address: str) -> bytes:
    return socket.inet_pton(family, address)


def tally(host: Host) -> dict[str, int]:
    """How many TCP sockets of a host are in each state, by its name as ss prints it."""
    everything = _compile(host, "").states
    found = diag.tally(host, socket.AF_UNSPEC, everything)
    return {states.printed(state): n for state, n in sorted(found.items())}


def survey(host: Host, most: int) -> tuple[dict[str, int], list[Socket]]:
    """How many TCP sockets of a host are in each state, and the sockets, without details, in one look at the kernel.

    Of more than `most` only the listeners are given.
    """
    everything = _compile(host, "").states
    counted, found = diag.survey(host, socket.AF_UNSPEC, everything, most)
    by_name = {states.printed(state): n for state, n in sorted(counted.items())}
    if counted.total() > most:
        return by_name, sockets(host, "state listening", details=False)
    return by_name, Listing(_socket(*one) for one in sorted(found, key=lambda one: one[0].family))


def _matching(host: Host, text: str, family: int | None, extensions: int) -> Iterator[tuple[diag.Message, bytes]]:
    asked = _compile(host, text)
    found = diag.dump(host, family or socket.AF_UNSPEC, asked.states, extensions)
    # By family: AF_INET is the smaller number. Within one the order is the kernel's.
    for message, block in sorted(found, key=lambda one: one[0].family):
        if asked.condition is None or asked.condition(message):
            yield message, block


def _compile(host: Host, text: str) -> Filter:
    def index_of(name: str) -> int:
        with host:
            return socket.if_nametoindex(name)

    return compile_filter(text, index_of)


def _socket(message: diag.Message, block: bytes) -> Socket:
    extra = netlink.attributes(block)
    family = FAMILY_OF[message.family]
    congestion = extra.get(diag.INET_DIAG_CONG)
    return Socket(
        state=states.printed(message.state),
        family=family,
        local=_endpoint(family, message.source, message.sport),
        remote=_endpoint(family, message.destination, message.dport),
        recv_q=message.receive_queue,
        send_q=message.send_queue,
        timer=timer_of(message),
        inode=message.inode,
        uid=message.uid,
        interface=message.interface,
        cookie=int.from_bytes(message.cookie, sys.byteorder),
        congestion=congestion.rstrip(b"\0").decode() if congestion else None,
        drops=_drops(extra.get(diag.INET_DIAG_SKMEMINFO, b"")),
        raw_info=extra.get(diag.INET_DIAG_INFO),
    )


def _endpoint(family: int, address: bytes, port: bytes) -> Endpoint:
    packed = address[:4] if family == socket.AF_INET else address
    return socket.inet_ntop(family, packed), int.from_bytes(port, "big")


def timer_of(message: diag.Message) -> Timer | None:
    """The timer that a message of the kernel names; None for none."""
    if not message.timer:
        return None
    expires = 0 if message.expires >= PAST_DUE else message.expires
    kind = TIMERS[message.timer] if message.timer < len(TIMERS) else "unknown"
    return Timer(kind, expires / 1000, message.retransmits)


def _drops(memory: bytes) -> int | None:
    """SK_MEMINFO_DROPS: of sk_drops; 5.x kernels and later, older ones send a shorter array."""
    if len(memory) < SK_MEMINFO_DROPS.size:
        return None
    dropped: int = SK_MEMINFO_DROPS.unpack_from(memory)[0]
    return dropped


def _printed(family: int, endpoint: Endpoint) -> str:
    address, port = endpoint
    return f"{f'[{address}]' if family == socket.AF_INET6 else address}:{port or '*'}"
