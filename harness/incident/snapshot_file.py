"""What the program of `harness snapshot` prints, as types: docs/snapshot.schema.json is made from them, schema 1.

Addresses and names are pseudonyms. Times are seconds since the epoch, sizes bytes.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

SCHEMA: Final = 1

Address = tuple[str, int]
Direction = Literal["in", "out"]


class SoftnetSample(msgspec.Struct, frozen=True):
    """For each processor at one moment: packets processed, dropped, and how often its time was over."""

    taken: float
    processors: list[list[int]]


class MachineFacts(msgspec.Struct, frozen=True):
    """The machine: `page` is the size of a page, the unit of sockstat's `mem` and of tcp_mem.

    `softnet` has two samples. `root` says whether the program ran as root.
    """

    kernel: str
    build: str
    architecture: str
    distribution: dict[str, str]
    options: dict[str, str]
    processors: int | None
    numa_nodes: int
    page: int
    memory: dict[str, int]
    softnet: list[SoftnetSample]
    root: bool
    uptime: float | None = None


class CounterSample(msgspec.Struct, frozen=True):
    """Counters that are not 0, by group and name, and all of sockstat, at one moment."""

    taken: float
    counters: dict[str, dict[str, int]]
    sockstat: dict[str, dict[str, int]]


class ListenerSeen(msgspec.Struct, frozen=True):
    """A listener; a look is its time, the queue's length, its limit, the drops; null: the kernel does not say."""

    local: Address
    mark: str
    looks: list[tuple[float, int, int | None, int | None]]
    processes: list[int] = []


class FlowSeen(msgspec.Struct, frozen=True, array_like=True):
    """The sockets of one state between a service and who uses it; see Flow of harness.incident.sockets.

    Coming in, the peer's port is 0, going out the local one; a peer "" stands for all that are not listed.
    """

    direction: Direction
    state: str
    local: Address
    peer: Address
    sockets: int
    recv_q: int
    send_q: int
    with_recv_q: int
    with_send_q: int
    retransmitting: int
    most_retransmits: int
    peers: int


class NotableSocket(msgspec.Struct, frozen=True):
    """A socket that stands out: its timer is kind, seconds and retransmits; `info` are numbers of its tcp_info."""

    state: str
    local: Address
    peer: Address
    recv_q: int
    send_q: int
    timer: tuple[str, float, int]
    info: dict[str, float]


class SocketTableSeen(msgspec.Struct, frozen=True):
    """All sockets but listeners; `way` is "inet_diag" or "/proc/net/tcp". `rest`: flows and sockets not listed."""

    taken: float
    way: str
    total: int
    states: dict[str, int]
    flows: list[FlowSeen]
    rest: tuple[int, int]
    notable: list[NotableSocket]


class InterfaceSeen(msgspec.Struct, frozen=True):
    """A network interface with its offloads and counters."""

    name: str
    mtu: int | None
    offloads: dict[str, bool]
    counters: dict[str, int]


class TrackedSeen(msgspec.Struct, frozen=True, array_like=True):
    """Entries of a firewall's table that go to one place; see Tracked of harness.incident.conntrack."""

    protocol: str
    state: str
    destination: Address
    seen_as: str
    answers_from: Address
    entries: int
    unanswered: int
    sources: int
    ports: int


class ConntrackSeen(msgspec.Struct, frozen=True):
    """The statistics of conntrack, and its table where the program might read it."""

    statistics: dict[str, int]
    total: int | None = None
    states: dict[str, int] = {}
    flows: list[TrackedSeen] = []


class NamespaceSeen(msgspec.Struct, frozen=True):
    """A network namespace; the program's own comes first, with the name "". Of others: the sysctls that differ."""

    name: str
    samples: list[CounterSample]
    sysctls: dict[str, str]
    sockets: SocketTableSeen
    listeners: list[ListenerSeen]
    interfaces: list[InterfaceSeen]
    conntrack: ConntrackSeen
    listeners_left_out: int = 0


class ProcessSeen(msgspec.Struct, frozen=True):
    """A process that listens: its limit of open files, and how many it has."""

    number: int
    program: str
    files_soft: int | None = None
    files_hard: int | None = None
    files_open: int | None = None


class SnapshotFile(msgspec.Struct, frozen=True):
    """A whole snapshot; `log` has what the kernel's log tells of TCP, how often, and the uptime of the last time."""

    schema: int
    program: Literal["harness snapshot"]
    taken: float
    machine: MachineFacts
    log: list[tuple[str, int, float]]
    counter_names: dict[str, list[str]]
    processes: list[ProcessSeen]
    namespaces: list[NamespaceSeen]
    namespaces_left_out: int
    took: float
