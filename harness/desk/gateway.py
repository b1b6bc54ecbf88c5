"""A gateway without ports, and a firewall without room, on the desk."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from harness.desk.experiment import Effect, Experiment, Outcome, Remedy, SideBySide, Symptom, Sysctls, put
from harness.desk.scale import setting
from harness.diagnosis.ports import translated
from harness.instruments.between import TRACKING, chains, knock, watch
from harness.instruments.connection_table import ConnectionTable
from harness.lab import Lab
from harness.lab.tracking import MAX
from harness.observe.conntrack import statistics
from harness.traffic import connect, echo, listen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.diagnosis.findings import Finding
    from harness.diagnosis.view import View
    from harness.instruments.between import Chain

RANGE, FIN_TIMEOUT = "net.ipv4.ip_local_port_range", "net.ipv4.tcp_fin_timeout"
SYN_BACKLOG, RECYCLE, REUSE = (
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_tw_recycle",
    "net.ipv4.tcp_tw_reuse",
)
PORTS, WANTED, FIRST = 20, 24, 40000
ROOM, CLIENTS = 2000, 5
HOUR = 3600


@dataclass(frozen=True, kw_only=True)
class GatewayPorts(SideBySide):
    """A gateway whose rule gives `ports` of each of its addresses, and a client that wants more connections at once.

    `sysctls` are the gateway's.
    """

    SYMPTOM: ClassVar[Symptom] = Symptom(f"connections that do not come about, of {WANTED}", "connections")
    TEMPLATE: ClassVar[str] = "gateway_ports"

    ports: int = PORTS
    addresses: int = 1
    sysctls: Sysctls = field(default_factory=dict)

    @classmethod
    def of(cls, finding: Finding, view: View) -> GatewayPorts:
        """By how many ports the gateway's table has in use towards the destination."""
        towards = [flows for _, to, flows in translated(view) if to == finding.place.endpoint]
        used = max((sum(flow.ports for flow in flows) for flows in towards), default=None)
        return cls(
            scale=(
                setting("ports of the gateway towards the destination, all in use", used, PORTS),
                setting("connections that are wanted at once", None, WANTED),
            ),
        )

    @classmethod
    def side_by_side(cls, lab: Lab, variants: Mapping[str, GatewayPorts]) -> dict[str, Outcome]:
        """A client, a gateway and a server each."""
        return {
            name: each.measured(chain, lab)
            for (name, each), chain in zip(variants.items(), chains(lab, len(variants), masquerade=True), strict=True)
        }

    def measured(self, chain: Chain, lab: Lab) -> Outcome:
        """What comes about."""
        put(chain.between, self.sysctls)
        ports = (FIRST, FIRST + self.ports - 1)
        chain.between.nat.masquerade(ports=ports)
        listener = listen(chain.server, answer=echo)
        by_the_first = WANTED if self.addresses == 1 else min(self.ports, WANTED)
        calls = knock(chain.client, listener, by_the_first)
        if self.addresses > 1:
            outside = lab.cable_of(chain.server)
            second = outside.address(77, chain.between.family)
            chain.between.add_address(second)
            chain.server.neighbour("eth0", second, outside.mac(1))
            chain.between.nat.snat(second, ports=ports)
            calls.each += knock(chain.client, listener, WANTED - by_the_first).each
        failed = statistics(chain.between)["insert_failed"]
        return Outcome(WANTED - calls.ask(deadline=60), (Effect("insert_failed of conntrack -S", failed, "packets"),))

    def without_cause(self) -> GatewayPorts:
        """As many ports as are wanted."""
        return dataclasses.replace(self, ports=2 * WANTED)

    def remedies(self) -> tuple[Remedy, ...]:
        """More ports or addresses; and what is for the gateway's own connections."""
        return (
            Remedy(
                "another address outside",
                "a second address of the gateway, and snat to both",
                partial(dataclasses.replace, addresses=2),
            ),
            Remedy(
                "more ports in the rule, where it names a range",
                "masquerade to :1024-65535",
                partial(dataclasses.replace, ports=2 * WANTED),
            ),
            Remedy(
                "a wider ip_local_port_range of the gateway",
                f"{RANGE} = 1024 65535",
                partial(_set, RANGE, "1024 65535"),
                RANGE,
                "local-port-range-of-a-gateway",
            ),
            Remedy("tcp_tw_reuse", f"{REUSE} = 1", partial(_set, REUSE, 1), REUSE, "tw-reuse-for-incoming"),
            Remedy(
                "a lower tcp_fin_timeout",
                f"{FIN_TIMEOUT} = 5",
                partial(_set, FIN_TIMEOUT, 5),
                FIN_TIMEOUT,
                "fin-timeout",
            ),
        )

    def words(self) -> dict[str, object]:
        """The numbers of the scenario."""
        return {"ports": self.ports, "wanted": WANTED, "first": FIRST}


@dataclass(frozen=True, kw_only=True)
class ConntrackFull(Experiment):
    """A firewall whose table is full of connections that nobody has any more, if it is `full`, and new clients.

    `sysctls` are the firewall's, set when the table is full already; `emptied` and `untracked` are what is done then.
    """

    SYMPTOM: ClassVar[Symptom] = Symptom(f"new clients that are not let in, of {CLIENTS}", "clients")
    TEMPLATE: ClassVar[str] = "conntrack_full"

    full: bool = True
    emptied: bool = False
    untracked: bool = False
    sysctls: Sysctls = field(default_factory=dict)

    @classmethod
    def of(cls, finding: Finding, view: View) -> ConntrackFull:  # noqa: ARG003 - there is one table
        """By the limit of the table; on the desk it is that of this machine, or a lower one where it may be."""
        return cls(
            scale=(
                setting(MAX, view.sysctl(MAX), ROOM),
                setting("new clients", None, CLIENTS),
            ),
            notes=(
                "Where the limit is the whole machine's, as before 6.19, the desk's is that of the kernel it runs on.",
            ),
        )

    def trial(self) -> Outcome:
        """A client, a firewall and a server."""
        with Lab() as lab:
            (chain,) = chains(lab, 1)
            watch(chain.between, remembers=5 * 24 * HOUR, loose=1)
            table = ConnectionTable(chain.between)
            table.lower(ROOM)
            listener = listen(chain.server, answer=echo)
            before = connect(chain.client, listener, CLIENTS, wait=True)
            before.ask()
            if self.full:
                table.fill((lab.cables[0].address(500, lab.family), chain.server.ip))
            for name, value in self.sysctls.items():
                chain.between.sysctl[name] = value
            if self.emptied:
                table.empty()
            if self.untracked:
                chain.between.firewall.keep_no_track(listener.port)
            dropped = table.dropped
            new = knock(chain.client, listener, CLIENTS)
            return Outcome(
                CLIENTS - new.connected,
                (
                    Effect("packets dropped, by conntrack -S", table.dropped - dropped, "packets"),
                    Effect(
                        "clients of before that are not answered any more",
                        CLIENTS - before.ask(deadline=5),
                        "clients",
                        "clients that were connected are cut off",
                    ),
                ),
            )

    def without_cause(self) -> ConntrackFull:
        """A table with room."""
        return dataclasses.replace(self, full=False)

    def remedies(self) -> tuple[Remedy, ...]:
        """Room, or none needed; and what is set too late, or for something else."""
        return (
            Remedy(
                "a larger table", f"{MAX} = 4 times as many, with as many more buckets",
                partial(_later, MAX, 4 * ROOM), MAX,
            ),
            Remedy(
                "what nobody has any more is forgotten", "conntrack -D -s ADDRESS, or conntrack -F",
                partial(dataclasses.replace, emptied=True),
            ),
            Remedy(
                "no track of what needs none", "tcp dport PORT notrack, and sport, at prerouting priority raw",
                partial(dataclasses.replace, untracked=True),
            ),
            Remedy(
                "a lower timeout, to make room now", f"{TRACKING}timeout_established = 3600",
                partial(_later, f"{TRACKING}timeout_established", HOUR), vain="timeout-for-entries-that-are-there",
            ),
            Remedy(
                "a lower tcp_fin_timeout", f"{FIN_TIMEOUT} = 5", partial(_later, FIN_TIMEOUT, 5),
                FIN_TIMEOUT, "fin-timeout",
            ),
            Remedy(
                "tcp_max_syn_backlog", f"{SYN_BACKLOG} = 20000", partial(_later, SYN_BACKLOG, 20000),
                SYN_BACKLOG, "syn-backlog-alone",
            ),
            Remedy("tcp_tw_recycle", f"{RECYCLE} = 1", partial(_later, RECYCLE, 1), RECYCLE, "recycle"),
        )  # fmt: skip

    def words(self) -> dict[str, object]:
        """The numbers of the scenario."""
        return {"clients": CLIENTS, "room": ROOM}


def _set(name: str, value: object, it: GatewayPorts) -> GatewayPorts:
    return dataclasses.replace(it, sysctls={**it.sysctls, name: value})


def _later(name: str, value: object, it: ConntrackFull) -> ConntrackFull:
    return dataclasses.replace(it, sysctls={**it.sysctls, name: value})
