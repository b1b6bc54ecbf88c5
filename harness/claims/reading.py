"""What a phase reads the kernel with, and what it keeps: counters that moved, sockets, packets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.evidence.types import Endpoint, Moved, SocketRow, SocketTable, SocketTimer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.lab.host import Host
    from harness.lab.lab import Lab
    from harness.observe.capture import Capture
    from harness.observe.counters import Counters, Delta
    from harness.observe.sockets import Socket

SOCKETS_KEPT = 20
# Of more than that, only listeners are shown: listing them all costs more than many an experiment.
SOCKETS_READ = 500

# Settings and gauges that stand among the counters: no news on a host that was made within the phase.
SETTINGS = frozenset({"Ip.Forwarding", "Ip.DefaultTTL", "Tcp.RtoAlgorithm", "Tcp.RtoMin", "Tcp.RtoMax", "Tcp.MaxConn"})


@dataclass(frozen=True)
class Reader:
    """The functions of harness.observe that a record calls; a test may hand in others."""

    counters: Callable[[Host], Counters]
    # How many sockets are in each state, and the sockets if they are no more than so many: else the listeners.
    survey: Callable[[Host, int], tuple[dict[str, int], Sequence[Socket]]]


def of_the_kernel() -> Reader:
    """The real ones; imported here because most tests of a session never need them."""
    from harness import observe

    return Reader(observe.counters, observe.survey)


def moved(before: Counters | None, after: Counters) -> tuple[Delta, dict[str, Moved]]:
    """The delta, and each counter that moved; a new host's counters began at zero."""
    from harness.observe.counters import Counters as Table

    delta = after - (before if before is not None else Table({}))
    changed = {
        name: Moved(after[name] - by, after[name])
        for name, by in delta.nonzero().items()
        if before is not None or name not in SETTINGS
    }
    return delta, changed


def socket_table(host: Host, reader: Reader) -> SocketTable:
    """A host's sockets: the total, how many in each state, and the first rows.

    Of more than 500 sockets only listeners have rows.
    """
    counted, listed = reader.survey(host, SOCKETS_READ)
    states = {state: counted[state] for state in sorted(counted, key=lambda state: (state != "LISTEN", state))}
    return SocketTable(
        sum(states.values()), states, tuple(map(_row, sorted(listed, key=_listeners_first)[:SOCKETS_KEPT]))
    )


def pcapng(captures: Sequence[Capture]) -> bytes:
    """Several captures as one pcapng file."""
    from harness import observe

    return observe.pcapng(captures)


def hosts_of(labs: Sequence[Lab]) -> dict[str, Host]:
    """Every host of the labs by name; a name that two labs have gets the lab's number."""
    hosts: dict[str, Host] = {}
    for number, lab in enumerate(labs, 1):
        for name, host in lab.all_hosts.items():
            hosts[name if name not in hosts else f"{name}#{number}"] = host
    return hosts


def _listeners_first(socket: Socket) -> tuple[bool, str, tuple[str, int], tuple[str, int]]:
    return socket.state != "LISTEN", socket.state, socket.local, socket.remote


def _row(socket: Socket) -> SocketRow:
    timer = socket.timer
    waits = None if timer is None or timer.kind == "none" else SocketTimer(timer.kind, timer.expires, timer.retransmits)
    local, peer = Endpoint(*socket.local), Endpoint(*socket.remote)
    return SocketRow(socket.state, socket.recv_q, socket.send_q, local, peer, waits)
