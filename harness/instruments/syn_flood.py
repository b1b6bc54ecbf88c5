"""SYN floods at services with different defences, side by side, and which of their clients get through."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import NotReady, Unsupported
from harness.instruments.syn_queue import (
    MAX_SYN_BACKLOG,
    PACE,
    SYNACK_RETRIES,
    ceiling,
    listening,
    wait_for_verdicts,
)
from harness.observe import counters, shell
from harness.traffic import connect, echo, flood
from harness.traffic.hping3 import Hping3Flood
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from harness.lab import Host, Lan
    from harness.laws.queues import Knobs
    from harness.traffic import Flood, Listener

# Of a machine that is ten times as slow. A deadline measures nothing.
DEADLINE = 60.0
# How long a flood goes on if nobody stops it, in seconds.
LONGEST = 60.0
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

    def open(self) -> None:
        """A new service on each server, its defence in force."""
        self.listeners = {name: defence.serve(self.hosts[name]) for name, defence in self.defences.items()}

    def check_settings(self) -> None:
        """Unsupported before 4.11, where tcp_max_syn_backlog is the machine's, so that no two servers differ in it."""
        in_force = {name: int(host.sysctl[MAX_SYN_BACKLOG]) for name, host in self.hosts.items()}
        if in_force != {name: defence.knobs.tcp_max_syn_backlog for name, defence in self.defences.items()}:
            raise Unsupported(
                f"{MAX_SYN_BACKLOG} is the whole machine's on this kernel: servers cannot be compared in it"
            )

    @contextmanager
    def flooded(self, *, rate: float, distinct: int) -> Iterator[None]:
        """Inside, each service gets `rate` SYNs a second that are never acknowledged, from so many senders.

        The floods end by themselves after a minute.
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
        for name, listener in self.listeners.items():
            wait_for_verdicts(listener, before[name], n, deadline=DEADLINE)

    def wait_until_full(self, names: Collection[str]) -> None:
        """Wait until the SYN queues of these services are full, and every other has got as many SYNs."""
        full = {name: ceiling(self.defences[name].knobs) for name in names}
        most = max(full.values())
        until(lambda: all(each.sent >= most for each in self._floods), deadline=DEADLINE, what=f"{most} SYNs each")
        # One after the other: a queue that is full for long loses requests again.
        for name, fits in full.items():
            listener = self.listeners[name]
            until(
                lambda listener=listener, fits=fits: listener.half_open == fits,  # type: ignore[misc]
                deadline=DEADLINE,
                what=f"a full SYN queue, {name}",
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


class Siege(NamedTuple):
    """What was seen while hping3 was at it: clients served, the service's half-open requests, two looks at all
    SYN_RECV of the server, and by how much "SYNs to LISTEN sockets dropped" grew between them."""

    served: int
    half_open: int
    looks: tuple[int, int]
    grew: int


def besiege(attacker: Host, service: Listener, client: Host, clients: int, *, patience: float) -> Siege:
    """`hping3 -S --flood --rand-source` at a service; so many clients come meanwhile, with patience in seconds."""
    server, before = service.host, counters(service.host)
    with Hping3Flood(attacker, server.ip, service.port, spoofed=True):
        until(
            lambda: (counters(server) - before).Tcp.InSegs >= 2000, deadline=DEADLINE, what="two thousand SYNs arrived"
        )
        look, drops = syn_recv(server), syns_dropped(server)
        served = connect(client, service, clients, timeout=patience).wait(deadline=DEADLINE).ask(deadline=DEADLINE)
        half_open = service.half_open
        return Siege(served, half_open, (look, syn_recv(server)), syns_dropped(server) - drops)


def syn_recv(server: Host) -> int:
    """What an operator counts as half-open: `netstat -natp | grep SYN_RECV | wc -l`. It may take a minute."""
    return shell.number(server, SYN_RECV)


def syns_dropped(server: Host) -> int:
    """What an operator reads of dropped SYNs: the number of `netstat -s | grep "SYNs to LISTEN"`."""
    return shell.number(server, SYNS_TO_LISTEN)
