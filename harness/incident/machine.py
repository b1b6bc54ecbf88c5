"""One picture of a machine, of whatever files there are of it."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from harness.errors import BadInput
from harness.incident import counters
from harness.incident.captured import Captured
from harness.incident.conntrack import TrackedTable
from harness.incident.counters import Rate, Sample
from harness.incident.facts import NOWHERE, Fact, Moment, Source, Unknown
from harness.incident.sockets import Listener, Sockets
from harness.laws.kernel import KernelVersion

MAIN = ""


class FileRead(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file, or a part of one, and what it was taken for: "ss", "netstat -s", "nothing that we read"."""

    source: Source
    kind: str
    lines: int = 0
    namespace: str = MAIN
    taken: Moment | None = None


class Interface(msgspec.Struct, frozen=True, omit_defaults=True):
    """A network interface: its offloads (True for on), and its own counters, "rx_dropped" for one."""

    name: str
    source: Source
    mtu: int | None = None
    offloads: dict[str, bool] = {}
    counters: dict[str, int] = {}


class Process(msgspec.Struct, frozen=True, omit_defaults=True):
    """A process that listens: its limit of open files (soft, hard; None for none), and how many it has open."""

    number: int
    program: str
    source: Source
    files_soft: int | None = None
    files_hard: int | None = None
    files_open: int | None = None


class Told(StrEnum):
    """What the kernel tells in its log that matters to TCP."""

    SYN_FLOODING = "SYN flooding"
    CONNTRACK_FULL = "conntrack table full"
    CONNTRACK_FULL_ELSEWHERE = "conntrack table full elsewhere"
    TCP_MEMORY = "out of TCP memory"
    ORPHANS = "too many orphaned sockets"
    TIME_WAIT_FULL = "TIME-WAIT table full"
    NEIGHBOURS = "neighbour table full"
    MEMORY = "out of memory"
    LINK = "link down or up"
    TABLES = "size of a table"
    VERSION = "kernel's version"


class LogLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the kernel's log, without control characters; `uptime` in seconds since boot, where it says so."""

    told: Told
    text: str
    source: Source
    uptime: float | None = None


class Namespace(msgspec.Struct, frozen=True, omit_defaults=True):
    """A network namespace; the machine's own has the name "".

    `counters` only rise; `gauges` go up and down: "sockstat.TCP.tw", "ss.timewait". A sysctl of the whole machine
    stands in the machine's own namespace alone (Machine.sysctl looks there too). `unknown` says why something is
    missing that somebody tried to read: by the name of a field.
    """

    name: str
    sysctls: dict[str, Fact[str]] = {}
    counters: tuple[Sample, ...] = ()
    gauges: tuple[Sample, ...] = ()
    listeners: tuple[Listener, ...] = ()
    sockets: tuple[Sockets, ...] = ()
    conntrack: tuple[TrackedTable, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    unknown: dict[str, Unknown] = {}

    def counter(self, name: str) -> Fact[int] | Unknown:
        """The last value of a counter: "TcpExt.ListenOverflows"."""
        return counters.latest(self.counters, name)

    def gauge(self, name: str) -> Fact[int] | Unknown:
        """The last value of a gauge: "sockstat.TCP.tw"."""
        return counters.latest(self.gauges, name)

    def rate(self, name: str) -> Rate | Unknown:
        """How fast a counter rises, by two samples."""
        return counters.rate(self.counters, name)

    def sockets_now(self) -> Sockets | Unknown:
        """The sockets of the list that has most of them; of several, the list that shows most, or the last."""
        return self._list_by("total", "timers", "info")

    def sockets_that_repeat(self) -> Sockets | Unknown:
        """The sockets of a list that shows timers, where there is one: other lists do not know who repeats itself."""
        return self._list_by("timers", "total", "info")

    def sockets_with_info(self) -> Sockets | Unknown:
        """The sockets of a list that has numbers of tcp_info, where there is one: of `ss -i`, or of a snapshot."""
        return self._list_by("info", "total", "timers")

    def _list_by(self, *what: str) -> Sockets | Unknown:
        """The list with most of the first of these, of several with most of the next, or the last."""

        def rank(table: Sockets) -> tuple[int | float, ...]:
            return *(getattr(table, each) for each in what), table.taken.epoch if table.taken else 0.0

        return max(self.sockets, key=rank, default=None) or self.unknown.get("sockets", NOWHERE)


class Machine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A machine: `namespaces` with its own first, and what belongs to all of them.

    `uptime` in seconds. `memory` in bytes, by the names of /proc/meminfo. `softnet` counts for each processor:
    "softnet.dropped.cpu0". `notices` say in a line each what could not be read or is odd.
    """

    namespaces: tuple[Namespace, ...]
    files: tuple[FileRead, ...] = ()
    notices: tuple[str, ...] = ()
    kernel: Fact[str] | Unknown = NOWHERE
    build: Fact[str] | Unknown = NOWHERE
    distribution: Fact[str] | Unknown = NOWHERE
    uptime: Fact[float] | Unknown = NOWHERE
    processors: Fact[int] | Unknown = NOWHERE
    numa_nodes: Fact[int] | Unknown = NOWHERE
    kernel_options: dict[str, Fact[str]] = {}
    memory: dict[str, Fact[int]] = {}
    softnet: tuple[Sample, ...] = ()
    processes: tuple[Process, ...] = ()
    log: tuple[LogLine, ...] = ()
    captures: tuple[Captured, ...] = ()

    @property
    def own(self) -> Namespace:
        """The machine's own namespace."""
        return self.namespaces[0]

    @property
    def version(self) -> KernelVersion | None:
        """The kernel's version, exact where the build names a stable release; None where no file has it."""
        if isinstance(self.kernel, Unknown):
            return None
        try:
            return KernelVersion.from_uname(self.kernel.value, self.build.value if isinstance(self.build, Fact) else "")
        except BadInput:
            return None

    def sysctl(self, name: str, namespace: Namespace | None = None) -> Fact[str] | Unknown:
        """A sysctl as in force in a namespace; those of the whole machine stand in its own."""
        for place in (namespace or self.own, self.own):
            if name in place.sysctls:
                return place.sysctls[name]
        return NOWHERE

    def since_boot(self, name: str, namespace: Namespace | None = None) -> Rate | Unknown:
        """The average since boot of a counter: it says nothing about now.

        Unknown for other namespaces than the machine's own: nobody knows how much younger than the machine they are.
        """
        if namespace is not None and namespace.name != MAIN:
            return Unknown("nothing says how old the namespace is")
        value = self.own.counter(name)
        if isinstance(value, Unknown):
            return value
        if isinstance(self.uptime, Unknown):
            return Unknown("no file says how long the machine is up")
        return Rate(name, value.value, self.uptime.value, (value.source, self.uptime.source), since_boot=True)
