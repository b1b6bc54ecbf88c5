"""The connections that a host's packet filter keeps track of, which a gateway does with all that it translates."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import Unsupported

if TYPE_CHECKING:
    from harness.lab import Host

TABLE = "/proc/thread-self/net/nf_conntrack"
STATISTICS = "/proc/thread-self/net/stat/nf_conntrack"
# net/netfilter/nf_conntrack_standalone.c, ct_seq_show(): family, protocol, seconds left, the protocol's state, and the
# four-tuple of what came first.
ROW = re.compile(r"ipv\d +\d+ tcp +6 (\d+) (\w+) src=\S+ dst=\S+ sport=(\d+) dport=(\d+) ")


class Tracked(NamedTuple):
    """An entry for a TCP connection: the seconds that it has left, its state, the ports of who spoke first."""

    seconds_left: int
    state: str
    ports: tuple[int, int]


def tracked(host: Host, ports: tuple[int, int]) -> Tracked | None:
    """The entry of a connection by its ports, (client's, server's); None if there is none.

    Unsupported where the kernel does not list them (CONFIG_NF_CONNTRACK_PROCFS).
    """
    try:
        with host.open(TABLE) as table:
            entries = parse(table.read())
    except FileNotFoundError:
        raise Unsupported(f"the running kernel has no {TABLE} (CONFIG_NF_CONNTRACK_PROCFS)") from None
    return next((entry for entry in entries if entry.ports == ports), None)


def drop_expired(host: Host) -> None:
    """Have the filter drop the entries whose time is over; nothing is done where the kernel does not list them.

    Since 4.9 an entry that has expired stays until somebody comes across it, as who reads the table does. Up to 4.20
    (seen on 4.14.67, read in 4.19.108) a translation to a range of one port does not look for one there
    (net/netfilter/nf_nat_proto_common.c, nf_nat_l4proto_unique_tuple(): the last port is taken unseen), and the packet
    is dropped for the clash.
    """
    with contextlib.suppress(FileNotFoundError), host.open(TABLE) as table:
        table.read()


def statistics(host: Host) -> dict[str, int]:
    """What the filter has counted since the host began, by the names of `conntrack -S`, all processors together.

    `drop` are packets of connections for which the table had no room, `insert_failed` those of connections that were
    not to be told from another (net/netfilter/nf_conntrack_standalone.c, ct_cpu_seq_show()).
    """
    try:
        with host.open(STATISTICS) as printed:
            names, *processors = (line.split() for line in printed)
    except FileNotFoundError:
        raise Unsupported(f"the running kernel has no {STATISTICS} (CONFIG_NF_CONNTRACK_PROCFS)") from None
    columns = zip(*([int(word, 16) for word in words] for words in processors), strict=True)
    return {name: sum(column) for name, column in zip(names, columns, strict=True) if name != "entries"}


def parse(text: str) -> list[Tracked]:
    """The TCP connections of the table."""
    rows = (ROW.match(line) for line in text.splitlines())
    return [Tracked(int(row[1]), row[2], (int(row[3]), int(row[4]))) for row in rows if row]
