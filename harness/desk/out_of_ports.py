"""Local ports that are used up, on the desk: fewer of them, and as many connections for each as on the machine."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from harness.desk.experiment import CannotStand, Effect, Outcome, Remedy, SideBySide, Symptom, Sysctls, put
from harness.desk.scale import known, memory, setting
from harness.diagnosis.ports import port_range
from harness.incident.sockets import Direction
from harness.lab import lan
from harness.observe import count, counters
from harness.traffic import listen
from harness.traffic.ports import give_ports
from harness.traffic.short_connections import ShortConnections, keep_asking

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.diagnosis.findings import Finding
    from harness.diagnosis.view import View
    from harness.incident.counters import Rate
    from harness.lab import Host, Lab

REUSE, TIMESTAMPS = "net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_timestamps"
FIN_TIMEOUT, BUCKETS, RECYCLE = "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_max_tw_buckets", "net.ipv4.tcp_tw_recycle"
KNOWN = {REUSE: 2, TIMESTAMPS: 2, FIN_TIMEOUT: 1 << 20}
# connect() takes TIME-WAIT of one second over, so that the ports have to last for longer than that.
PORTS, RATE = 30, 10
# TIME-WAIT lasts so long, in seconds: what is asked within it, no port comes back for.
LIFETIME = 60
# Of the ports: how many connections are asked for while none comes back; by the files' rate, within these bounds.
LEAST, MOST = 4 / 3, 2.0
ALL_PORTS = 65535 - 1024 + 1
WIDEST = 20_000
SERVERS, KEPT = 3, 10


@dataclass(frozen=True, kw_only=True)
class OutOfPorts(SideBySide):
    """A client with `ports`, that asks `demand` times, each time on a connection of its own.

    `servers` are the addresses that it asks in turn, `kept` is for how many requests it keeps a connection, `sysctls`
    are its settings.
    """

    SYMPTOM: ClassVar[Symptom] = Symptom("requests that fail with EADDRNOTAVAIL", "requests")
    TEMPLATE: ClassVar[str] = "out_of_ports"

    ports: int = PORTS
    wide: int = PORTS
    demand: int = 2 * PORTS
    servers: int = 1
    kept: int = 1
    sysctls: Sysctls = field(default_factory=dict)

    @classmethod
    def of(cls, finding: Finding, view: View) -> OutOfPorts:
        """By the range of ports, and the rate at which connections are opened."""
        there = port_range(view)
        if there is None:
            raise CannotStand("the files do not show net.ipv4.ip_local_port_range: give sysctl -a")
        towards = [flow for flow in view.flows(Direction.OUT) if flow.peer == finding.place.endpoint]
        waiting = sum(flow.sockets for flow in towards if flow.state == "TIME-WAIT")
        if waiting * 2 < sum(flow.sockets for flow in towards):
            raise CannotStand("its ports are taken by connections that are open, and what is built is TIME-WAIT")
        opened = view.moved("Tcp.ActiveOpens")
        # Slower than TIME-WAIT ends is not how they were used up: the files are of a moment without demand.
        if opened and opened.per_second * LIFETIME < there.size:
            opened = None
        wanted = _wanted(opened, there.size)
        demand = int(PORTS * wanted)
        return cls(
            wide=_even(min(PORTS * ALL_PORTS // there.size, WIDEST)),
            demand=demand,
            sysctls=known(view, KNOWN),
            scale=(
                setting("local ports towards the destination", there.size, PORTS),
                setting(
                    f"connections within the {LIFETIME} s that TIME-WAIT lasts",
                    round(opened.per_second * LIFETIME) if opened else None,
                    demand,
                ),
                setting("of them a second", round(opened.per_second) if opened else None, RATE),
            ),
            notes=(f"On the desk they are asked for within {demand / RATE:.0f} s, in which no TIME-WAIT ends either.",),
        )

    @classmethod
    def side_by_side(cls, lab: Lab, variants: Mapping[str, OutOfPorts]) -> dict[str, Outcome]:
        """A client each."""
        hosts = lan(lab, SERVERS + len(variants)).hosts
        servers, clients = hosts[:SERVERS], dict(zip(variants, hosts[SERVERS:], strict=True))
        asking = {name: each.asking(clients[name], servers) for name, each in variants.items()}
        longest = max(each.demand for each in variants.values())
        # However busy the machine is: only before a TIME-WAIT ends.
        keep_asking(list(asking.values()), (longest - 1) / RATE, within=LIFETIME - 5)
        # On a busy machine some were asked less often: each is judged by as many requests as were asked of all.
        fewest = min(len(each.results) for each in asking.values())
        for each in asking.values():
            del each.results[fewest:]
        return {name: _outcome(each) for name, each in asking.items()}

    def asking(self, client: Host, servers: list[Host]) -> ShortConnections:
        """The client's workload, its settings in force."""
        put(client, self.sysctls)
        give_ports(client, self.ports)
        return ShortConnections(
            client, [listen(each) for each in servers[: self.servers]], RATE, per_connection=self.kept
        )

    def without_cause(self) -> OutOfPorts:
        """Connections are kept."""
        return dataclasses.replace(self, kept=self.demand)

    def remedies(self) -> tuple[Remedy, ...]:
        """What the documents say, and what else one reads."""
        return (
            Remedy(
                "connections are kept and used again", "keep-alive, or a pool", partial(dataclasses.replace, kept=KEPT)
            ),
            Remedy(
                "more destinations",
                f"{SERVERS} addresses or ports for the service, or of this machine",
                partial(dataclasses.replace, servers=SERVERS),
            ),
            Remedy(
                "tcp_tw_reuse",
                f"{REUSE} = 1, with timestamps at both ends",
                partial(_set, name=REUSE, value=1, others={TIMESTAMPS: 1}),
                REUSE,
            ),
            Remedy(
                "a wider range of ports",
                "net.ipv4.ip_local_port_range = 1024 65535",
                partial(dataclasses.replace, ports=max(self.wide, self.ports)),
            ),
            Remedy(
                "a lower tcp_fin_timeout", f"{FIN_TIMEOUT} = 5", partial(_set, name=FIN_TIMEOUT, value=5),
                FIN_TIMEOUT, "fin-timeout",
            ),
            Remedy(
                "a lower tcp_max_tw_buckets", f"{BUCKETS} = 5000",
                partial(_set, name=BUCKETS, value=self.ports // 3), BUCKETS, "fewer-buckets",
            ),
            Remedy(
                "tcp_tw_recycle", f"{RECYCLE} = 1", partial(_set, name=RECYCLE, value=1), RECYCLE, "recycle"
            ),
        )  # fmt: skip

    def words(self) -> dict[str, object]:
        """The numbers of the scenario."""
        return {"ports": self.ports, "demand": self.demand, "rate": RATE, "sysctls": self.sysctls}


def _wanted(opened: Rate | None, ports: int) -> float:
    """How many connections are opened for each port while none comes back."""
    if opened is None:
        return LEAST
    return min(max(opened.per_second * LIFETIME / ports, LEAST), MOST)


def _even(number: int) -> int:
    """connect() leaves out the last of an odd number of ports (harness.traffic.ports)."""
    return number - number % 2


def _set(it: OutOfPorts, *, name: str, value: int, others: Sysctls | None = None) -> OutOfPorts:
    return dataclasses.replace(it, sysctls={**it.sysctls, **(others or {}), name: value})


def _outcome(asking: ShortConnections) -> Outcome:
    moved, waiting = counters(asking.client).TcpExt, count(asking.client, "state time-wait")
    return Outcome(
        asking.errors["EADDRNOTAVAIL"],
        (
            Effect("sockets in TIME-WAIT at the end", waiting, "sockets"),
            *memory(waiting, "tw_sock_TCP", "kernel memory of these"),
            Effect("four-tuples used again within 60 s, where a late RST can hit", moved.TWRecycled, "connections"),
            Effect(
                "connections that end without TIME-WAIT",
                moved.TCPTimeWaitOverflow,
                "connections",
                "connections end without TIME-WAIT, so that old segments and lost ACKs meet the next ones",
            ),
        ),
    )
