"""Machines of one's own for tests of diagnoses: counters, listeners and sockets as a snapshot would have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.evidence.types import Endpoint, SocketTimer
from harness.incident.conntrack import Tracked, TrackedTable
from harness.incident.counters import LeftOut, Sample
from harness.incident.facts import Basis, Fact, Moment, Source
from harness.incident.machine import LogLine, Machine, Namespace, Told
from harness.incident.sockets import Connection, Direction, Flow, Listener, Look, Sockets

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Source("snapshot.json")
GROUPS = ("Ip", "Tcp", "TcpExt", "IpExt", "conntrack")
SYSCTLS = {
    "net.core.somaxconn": "4096",
    "net.ipv4.tcp_max_syn_backlog": "4096",
    "net.ipv4.tcp_syncookies": "1",
    "net.ipv4.tcp_max_tw_buckets": "65536",
    "net.ipv4.tcp_mem": "1000 2000 3000",
    "net.ipv4.tcp_max_orphans": "4000",
    "net.ipv4.ip_local_port_range": "32768\t60999",
    "net.ipv4.tcp_tw_reuse": "2",
    "net.ipv4.tcp_timestamps": "1",
    "net.ipv4.tcp_syn_retries": "6",
    "net.ipv4.tcp_retries2": "15",
}
GAUGES = {"sockstat.TCP.tw": 0, "sockstat.TCP.orphan": 0, "sockstat.TCP.mem": 10}


def sample(numbers: Mapping[str, int], at: float | None) -> Sample:
    """Counters at a moment; those that are not given are 0."""
    facts = {name: Fact(value, HERE) for name, value in numbers.items()}
    return Sample(HERE, facts, GROUPS, LeftOut.ZEROS, None if at is None else Moment(at, Basis.SAID))


def counted(before: Mapping[str, int], **rose: int) -> tuple[Sample, Sample]:
    """Two samples of TcpExt three seconds apart, of which the second has risen."""
    later = dict(before) | {f"TcpExt.{name}": before.get(f"TcpExt.{name}", 0) + by for name, by in rose.items()}
    return sample(before, 100.0), sample(later, 103.0)


def listener(port: int, waiting: int, limit: int | None, *more: int, mark: str = "", **named: Any) -> Listener:
    """A listener at 0.0.0.0 whose queue was seen once or several times, a second apart."""
    seen = enumerate((waiting, *more))
    looks = tuple(Look(HERE, each, limit, taken=Moment(100.0 + at, Basis.SAID)) for at, each in seen)
    return Listener(Endpoint("0.0.0.0", port), looks, mark, **named)


def coming(state: str, port: int, number: int, **named: Any) -> Flow:
    """Connections that came to a service here."""
    return Flow(Direction.IN, state, Endpoint("10.0.0.1", port), Endpoint("10.0.0.2", 0), number, HERE, **named)


def going(state: str, peer: Endpoint, number: int, local: str = "10.0.0.1", **named: Any) -> Flow:
    """Connections to a service elsewhere."""
    return Flow(Direction.OUT, state, Endpoint(local, 0), peer, number, HERE, **named)


def silent(peer: Endpoint, retransmits: int, *, rto: float, lastrcv: float) -> Connection:
    """A connection that repeats itself; times in milliseconds."""
    timer = SocketTimer("on", rto / 1000, retransmits)
    local = Endpoint("10.0.0.1", 40000)
    return Connection("ESTAB", local, peer, 0, 10, HERE, timer, {"rto": rto, "lastrcv": lastrcv})


def sockets(*flows: Flow, notable: tuple[Connection, ...] = ()) -> Sockets:
    """A list of sockets."""
    states: dict[str, int] = {}
    for flow in flows:
        states[flow.state] = states.get(flow.state, 0) + flow.sockets
    return Sockets(HERE, sum(states.values()), states, flows, notable, command="ss -tanpoi")


def tracked(*flows: Tracked) -> TrackedTable:
    """A table of tracked connections."""
    return TrackedTable(HERE, sum(flow.entries for flow in flows), {}, flows)


def machine(
    *,
    kernel: str = "6.12.1",
    sysctls: Mapping[str, str] | None = None,
    gauges: Mapping[str, int] | None = None,
    told: tuple[tuple[Told, str], ...] = (),
    uptime: float | None = None,
    rest: Mapping[str, Any] | None = None,
    **space: Any,
) -> Machine:
    """A healthy machine but for what is given; `space` are fields of its own namespace, `rest` of the machine."""
    values = SYSCTLS | dict(sysctls or {})
    own = Namespace(
        "",
        sysctls={name: Fact(value, Source("sysctl_-a", 7)) for name, value in values.items()},
        gauges=(
            Sample(
                HERE,
                {n: Fact(v, HERE) for n, v in (GAUGES | dict(gauges or {})).items()},
                ("sockstat",),
                LeftOut.NOTHING,
            ),
        ),
        **({"counters": counted({}), "sockets": (sockets(),)} | space),
    )
    more: dict[str, Any] = dict(rest or {})
    if uptime is not None:
        more["uptime"] = Fact(uptime, HERE)
    log = tuple(LogLine(what, text, Source("dmesg", 3)) for what, text in told)
    return Machine((own,), kernel=Fact(kernel, HERE), log=log, **more)
