"""SYN floods at services with different defences, side by side, and which of their clients get through."""

from __future__ import annotations

import ipaddress
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import NotReady, Unsupported
from harness.instruments.syn_queue import (
    MAX_SYN_BACKLOG,
    PACE,
    SYNACK_RETRIES,
    listening,
)
from harness.lab.host import IPV4
from harness.laws.ranges import at_least
from harness.laws.timers import doubling, initial_rto, syn_waits
from harness.observe import counters, shell
from harness.traffic import Attempts, RawPeer, connect, echo, flood
from harness.traffic.hping3 import Hping3Flood
from harness.waiting import let_clock_reach, until

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from harness.lab import Host, Lan
    from harness.laws.queues import Knobs
    from harness.traffic import Flood, Listener

# Of a machine that is ten times as slow. A deadline measures nothing.
DEADLINE = 60.0
# How long a flood goes on if nobody stops it, in seconds: longer than a client knocks.
LONGEST = 120.0
# In how many seconds clients come: a full queue lets go of requests that are 7 s old (net/ipv4/inet_connection_sock.c,
# reqsk_timer_handler()).
VISITED = 8.0
# For how much of the time hping3 runs in a siege: at full speed it would have a processor for as long as clients come.
SIEGE = 0.1
# SYNs a second, the least that are a siege: as many as of the crafted floods that keep clients out. How it is said.
A_SIEGE = at_least(1000)
SIEGE_RATE = f"SYNs a second, hping3 running for {SIEGE:.0%} of the time"
# tcp_syn_retries, and what it is unless somebody sets it.
SYN_RETRIES, USUAL = "net.ipv4.tcp_syn_retries", 6
SYN_RECV = "netstat -natp | grep SYN_RECV | wc -l"
SYNS_TO_LISTEN = 'netstat -s | grep "SYNs to LISTEN"'


@dataclass(frozen=True)
class Defence:
    """The settings of a server under attack; `synack_retries` is tcp_synack_retries."""

    knobs: Knobs
    synack_retries: int = 5

    def serve(self, server: Host) -> Listener:
        """A service on a server, with these settings, that answers whoever gets through."""
        server.sysctl[SYNACK_RETRIES] = self.synack_retries
        return listening(server, self.knobs, answer=echo)


class Services:
    """A client, and beside it a server with a service for each defence; all are flooded and asked alike."""

    def __init__(self, lan: Callable[[int], Lan], defences: Mapping[str, Defence]) -> None:
        self.defences = dict(defences)
        self.client, *hosts = lan(1 + len(defences)).hosts
        self.hosts: dict[str, Host] = dict(zip(defences, hosts, strict=True))
        self.listeners: dict[str, Listener] = {}
        self._floods: list[Flood] = []
        # Where a SYN's patience is reckoned from 200 ms, the clients knock as long as everywhere else: 127 s.
        if sum(syn_waits(USUAL)) < sum(doubling(initial_rto(), USUAL)):
            self.client.sysctl[SYN_RETRIES] = USUAL + 2

    def open(self) -> None:
        """A new service on each server, its defence in force."""
        self.listeners = {name: defence.serve(self.hosts[name]) for name, defence in self.defences.items()}

    def check_settings(self) -> None:
        """Unsupported where tcp_max_syn_backlog (before 4.11) or tcp_synack_retries (before 4.6) is the machine's."""
        for knob, values in {
            MAX_SYN_BACKLOG: {name: defence.knobs.tcp_max_syn_backlog for name, defence in self.defences.items()},
            SYNACK_RETRIES: {name: defence.synack_retries for name, defence in self.defences.items()},
        }.items():
            if any(int(self.hosts[name].sysctl[knob]) != value for name, value in values.items()):
                raise Unsupported(f"{knob} is the whole machine's on this kernel: servers cannot be compared in it")

    def wait_until_let_go(self, name: str, left: int) -> None:
        """Wait until this service has no more than so many requests half-open."""
        listener = self.listeners[name]
        until(lambda: listener.half_open <= left, deadline=DEADLINE, what=f"{left} half-open requests, {name}")

    def visited(self, clients: int = 40, *, patience: float | None = 1.5) -> dict[str, int]:
        """Of so many clients that come to each service one after another, how many are served: visit()."""
        return visit(self.client, self.listeners, clients, patience=patience)

    @contextmanager
    def flooded(self, *, rate: float, distinct: int) -> Iterator[None]:
        """Inside, each service gets `rate` SYNs a second that are never acknowledged, from so many senders.

        The floods end by themselves after two minutes.
        """
        self._floods = [
            flood(each.host, self.client, each, rate=rate, seconds=LONGEST, distinct=distinct)
            for each in self.listeners.values()
        ]
        try:
            yield
        finally:
            for each in self._floods:
                each.stop()

    def burst(self, n: int) -> None:
        """n SYNs at once at each service; returns when the kernel has dealt with all."""
        before = {name: counters(host) for name, host in self.hosts.items()}
        for each in [flood(each.host, self.client, each, count=n, rate=PACE) for each in self.listeners.values()]:
            each.wait()
        for name, host in self.hosts.items():
            # Not by the requests that are there: those of a service that lets go soon may have ended meanwhile.
            until(
                lambda name=name, host=host: counters(host).Tcp.InSegs - before[name].Tcp.InSegs >= n,  # type: ignore[misc]
                deadline=DEADLINE,
                what=f"{n} SYNs at {name}",
            )

    def wait_until_dropped(self, n: int, names: Collection[str]) -> None:
        """Wait until each of these servers has dropped more than n SYNs."""
        for name in names:
            until(lambda name=name: self.dropped()[name] > n, deadline=DEADLINE, what=f"a full SYN queue, {name}")  # type: ignore[misc]

    def serve(
        self, clients: int, *, through: Collection[str] | None = None, timeout: float | None = None
    ) -> dict[str, int]:
        """Of so many clients of each service that come now, how many are answered, by the time that all are connected
        whose services are named in `through` (all services, unless told).

        `timeout` is the patience of a client, in seconds.
        """
        attempts = {name: connect(self.client, each, clients, timeout=timeout) for name, each in self.listeners.items()}
        for name in attempts if through is None else through:
            with suppress(NotReady):
                attempts[name].wait(deadline=DEADLINE)
        return {name: each.ask(deadline=DEADLINE) for name, each in attempts.items()}

    def half_open(self) -> dict[str, int]:
        """How many requests are half-open at each service."""
        return {name: listener.half_open for name, listener in self.listeners.items()}

    def dropped(self) -> dict[str, int]:
        """How many SYNs each server has dropped up to now."""
        return {name: counters(host).TcpExt.ListenDrops for name, host in self.hosts.items()}


class Siege:
    """A flood by hping3 that goes on; made by besieged()."""

    def __init__(self, server: Host, share: float) -> None:
        self.share = share
        self._server = server
        self._before = counters(server)
        self._began = time.monotonic()

    @property
    def arrived(self) -> int:
        """How many segments have come to the server since it began."""
        return (counters(self._server) - self._before).Tcp.InSegs

    @property
    def rate(self) -> int:
        """How many segments have come in a second, since it began."""
        return round(self.arrived / (time.monotonic() - self._began))


@contextmanager
def besieged(attacker: Host, service: Listener, *, share: float = SIEGE) -> Iterator[Siege]:
    """Inside, a service is under `hping3 -S --flood --rand-source` of a host, and has seen two thousand of its SYNs.

    hping3 runs for a tenth of the time, unless told. It stands still for 9 ms at a time; those that visit() sends come
    every 200 ms, and knock twice.
    """
    siege = Siege(service.host, share)
    with Hping3Flood(attacker, service.host.ip, service.port, spoofed=True, share=share):
        until(lambda: siege.arrived >= 2000, deadline=DEADLINE, what="two thousand SYNs arrived")
        yield siege


def visit(
    client: Host, services: Mapping[str, Listener], clients: int = 40, *, patience: float | None = 1.5
) -> dict[str, int]:
    """Of so many clients that come to each service one after another, how many are served.

    `patience` is for how many seconds a client goes on knocking: with 1.5 it knocks twice; None is the kernel's own
    patience, two minutes. They come within a time that is longer than any request stays in a full queue, so that it
    does not decide at which moment they come.
    """
    began = time.monotonic()
    visitors = {name: Attempts(client) for name in services}

    def pending() -> int:  # and whose patience is over has ended
        return sum(each.pending for each in visitors.values())

    for number in range(clients):
        let_clock_reach(began + number * VISITED / clients)
        for name, service in services.items():
            visitors[name].each += connect(client, service, timeout=patience).each
        pending()
    until(lambda: not pending(), deadline=LONGEST + DEADLINE, what="all clients served, or out of patience")
    return {name: each.ask(deadline=DEADLINE) for name, each in visitors.items()}


def answer_to_nobody(server: Host, near: Host) -> None:
    """Let a server's answers to addresses that nobody has go to the end of the cable where `near` is.

    Those of the cable's own IPv4 network too, but for the /24 of `near` and of raw peers. Of 65536 addresses that are
    drawn one is in that network, and nobody answers for it there: the kernel finds that out in three seconds, and an
    ICMP error of its own ends the half-open request, which counts as a dropped SYN (net/ipv4/tcp_ipv4.c,
    tcp_req_err()).
    """
    nobody = RawPeer(server, near).address
    for destination in ("default", *_unowned(server, near.ip, nobody)):
        server.route(destination, nobody, server.family)
    server.close_netlink()


def _unowned(server: Host, near: str, nobody: str) -> list[str]:
    """The IPv4 network of the server and `near`, in parts, without the /24 of either address."""
    if server.family != IPV4:
        return []
    parts = [
        ipaddress.IPv4Network(str(interface.with_prefixes()[IPV4].network))
        for interface in server.interfaces.values()
        if ipaddress.ip_address(near) in interface.with_prefixes()[IPV4].network
    ]
    for address in (near, nobody):
        kept = ipaddress.IPv4Network(f"{address}/24", strict=False)
        parts = [rest for part in parts for rest in _without(part, kept)]
    return [str(part) for part in parts]


def _without(network: ipaddress.IPv4Network, kept: ipaddress.IPv4Network) -> Iterable[ipaddress.IPv4Network]:
    """A network without another that is a part of it, all of it, or elsewhere."""
    if not kept.overlaps(network):
        return [network]
    return network.address_exclude(kept) if kept.subnet_of(network) else []


def syn_recv(server: Host) -> int:
    """What an operator counts as half-open: `netstat -natp | grep SYN_RECV | wc -l`. It may take a minute."""
    return shell.number(server, SYN_RECV)


def syns_dropped(server: Host) -> int:
    """What an operator reads of dropped SYNs: the number of `netstat -s | grep "SYNs to LISTEN"`."""
    return shell.number(server, SYNS_TO_LISTEN)
