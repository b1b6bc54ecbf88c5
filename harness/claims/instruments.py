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
# Of more than that, only listeners are shown: listing them all costs more than many an experiment.
SOCKETS_READ = 500

# Settings and gauges that stand among the counters: no news on a host that was made within the phase.
SETTINGS = frozenset({"Ip.Forwarding", "Ip.DefaultTTL", "Tcp.RtoAlgorithm", "Tcp.RtoMin", "Tcp.RtoMax", "Tcp.MaxConn"})


@dataclass(frozen=True)
class Instruments:
    """The functions of harness.observe that a record calls."""

    counters: Callable[[Host], Counters]
    sockets: Callable[[Host, str], Sequence[Any]]
    tally: Callable[[Host], dict[str, int]]


def of_the_kernel() -> Instruments:
    """The real ones; imported here because most tests of a session never need them."""
    from harness import observe

    return Instruments(observe.counters, observe.sockets, observe.tally)


def moved(before: Counters | None, after: Counters) -> tuple[Delta, dict[str, list[int]]]:
    """The delta, and [before, after, delta] of each counter that moved; a new host's counters began at zero."""
    from harness.observe.counters import Counters as Table

    delta = after - (before if before is not None else Table({}))
    changed = {
        name: [after[name] - by, after[name], by]
        for name, by in delta.nonzero().items()
        if before is not None or name not in SETTINGS
    }
    return delta, changed


def socket_table(host: Host, instruments: Instruments) -> dict[str, Any]:
    """A host's sockets as evidence: the total, how many in each state, and the first rows.

    Rows are [state, recv_q, send_q, local, remote, timer]. Of more than 500 sockets only listeners have rows.
    """
    counted = instruments.tally(host)
    states = {state: counted[state] for state in sorted(counted, key=lambda state: (state != "LISTEN", state))}
    total = sum(states.values())
    if not total:
        return {"total": 0, "states": {}, "rows": []}
    found = instruments.sockets(host, "" if total <= SOCKETS_READ else "state listening")
    rows = [_row(one) for one in sorted(found, key=_listeners_first)[:SOCKETS_KEPT]]
    return {"total": total, "states": states, "rows": rows}


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
