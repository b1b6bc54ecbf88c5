"""What a phase of an experiment reads the kernel with; harness.observe, unless a test hands in something else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.lab.host import Host
    from harness.lab.lab import Lab
    from harness.observe.capture import Capture
    from harness.observe.counters import Counters, Delta

SOCKETS_KEPT = 20
SOCKETS_READ = 5000

# Settings and gauges that stand among the counters: no news on a host that was made within the phase.
SETTINGS = frozenset({"Ip.Forwarding", "Ip.DefaultTTL", "Tcp.RtoAlgorithm", "Tcp.RtoMin", "Tcp.RtoMax", "Tcp.MaxConn"})
# As sockets are shown, and as a filter names them.
STATES = {
    "ESTAB": "established",
    "SYN-SENT": "syn-sent",
    "SYN-RECV": "syn-recv",
    "FIN-WAIT-1": "fin-wait-1",
    "FIN-WAIT-2": "fin-wait-2",
    "TIME-WAIT": "time-wait",
    "CLOSE-WAIT": "close-wait",
    "LAST-ACK": "last-ack",
    "LISTEN": "listening",
    "CLOSING": "closing",
}


@dataclass(frozen=True)
class Instruments:
    """The functions of harness.observe that a record calls."""

    counters: Callable[[Host], Counters]
    sockets: Callable[[Host], Sequence[Any]]
    count: Callable[[Host, str], int]


def of_the_kernel() -> Instruments:
    """The real ones; imported here because most tests of a session never need them."""
    from harness import observe

    return Instruments(observe.counters, observe.sockets, observe.count)


def moved(before: Counters | None, after: Counters) -> tuple[Delta, dict[str, list[int]]]:
    """The delta, and [before, after, delta] of each counter that moved; a new host's counters began at zero."""
    from harness.observe.counters import Counters as Table

    delta = after - (before if before is not None else Table({}))
    start = before.as_dict() if before is not None else {}
    changed = {
        name: [start.get(name, 0), after[name], by]
        for name, by in delta.nonzero().items()
        if before is not None or name not in SETTINGS
    }
    return delta, changed


def socket_table(host: Host, instruments: Instruments) -> dict[str, Any]:
    """A host's sockets as evidence: the total, how many in each state, and the first rows.

    Rows are [state, recv_q, send_q, local, remote, timer]. Above 5000 sockets they are counted, not listed.
    """
    total = instruments.count(host, "")
    if total > SOCKETS_READ:
        states = {shown: instruments.count(host, f"state {name}") for shown, name in STATES.items()}
        return {"total": total, "states": {state: n for state, n in states.items() if n}, "rows": []}
    found = sorted(instruments.sockets(host), key=_listeners_first)
    by_state: dict[str, int] = {}
    for one in found:
        by_state[one.state] = by_state.get(one.state, 0) + 1
    return {"total": len(found), "states": by_state, "rows": [_row(one) for one in found[:SOCKETS_KEPT]]}


def pcapng(captures: Sequence[Capture]) -> bytes:
    """Several captures as one pcapng file."""
    from harness import observe

    return observe.pcapng(captures)


def _listeners_first(one: Any) -> tuple[Any, ...]:
    return one.state != "LISTEN", one.state, one.local, one.remote


def _row(one: Any) -> list[Any]:
    return [one.state, one.recv_q, one.send_q, _endpoint(one.local), _endpoint(one.remote), _timer(one.timer)]


def _endpoint(pair: tuple[str, int]) -> str:
    address, port = pair
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _timer(timer: Any) -> str:
    if timer is None or timer.kind == "none":
        return ""
    return f"{timer.kind} {timer.expires:.3g}s, {timer.retransmits} retransmits"


def hosts_of(labs: Sequence[Lab]) -> dict[str, Host]:
    """Every host of the labs by name; a name that two labs have gets the lab's number."""
    hosts: dict[str, Host] = {}
    for index, lab in enumerate(labs):
        for name, host in lab.all_hosts.items():
            hosts[name if name not in hosts else f"{name}#{index + 1}"] = host
    return hosts
