"""What objects of the kernel take in memory, measured on a machine that others use as well."""

from __future__ import annotations

import re
import socket
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import Forbidden, NotReady, Unsupported
from harness.lab.netns import Namespace
from harness.laws.ranges import between
from harness.observe import shell
from harness.observe.memory import cache, total
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.lab import Host
    from harness.laws.ranges import Range

EHASH = "net.ipv4.tcp_ehash_entries"
CHILD_EHASH = "net.ipv4.tcp_child_ehash_entries"
HASH_TABLE = re.compile(r"entries: (\d+) \(order: -?\d+, (\d+) bytes")
# How far measurements in a row may lie apart, in bytes a socket, where the cache may be read, and where it may not.
AGREED, AGREED_IN_TOTAL = 25, 80
# A table of so many slots, 32 MiB, shows in the total. What others do meanwhile is mostly less than half a byte a slot;
# three tables that differ by less have not been disturbed, or all in the same way.
SLOTS = 1 << 22
AGREED_A_SLOT = 0.25
PORT_CACHES = ("tcp_bind_bucket", "tcp_bind2_bucket")


class Each(NamedTuple):
    """Bytes that each of many sockets has taken, and what that should be by the kernel's own account."""

    bytes: int
    account: Range


def time_wait_cache(host: Host) -> str:
    """The name of the cache that the TIME-WAIT of the lab's family come from."""
    return "tw_sock_TCP" if host.family == socket.AF_INET else "tw_sock_TCPv6"


def bytes_of(name: str) -> int | None:
    """Bytes that the objects of a cache take in the whole machine; None where this user may not know."""
    try:
        objects = cache(name)
    except (Forbidden, Unsupported):
        return None
    return round(objects.objects * objects.each)


def bytes_each(make: Callable[[], int], name: str) -> Each:
    """Bytes of kernel memory for each socket that `make` makes; it returns how many.

    Out of the slab where it may be read: objects of the cache `name` times the bytes that one takes. Elsewhere out of
    the total of all slabs, which has the kernel's other work in it. Three measurements in a row must agree: then
    nobody else on the machine made or freed any meanwhile; NotReady if that is not so within five minutes.
    """

    def measure() -> float:
        before = _taken(name)
        sockets = make()
        return (_taken(name) - before) / sockets

    apart = AGREED_IN_TOTAL if bytes_of(name) is None else AGREED
    return Each(round(_agreed(measure, apart)), _account(name))


def bytes_per_hash_slot(host: Host) -> int | None:
    """Bytes for each slot of the hash table of connections: the machine's, or one that is made for this question.

    The command of a document asks the kernel log, which may have forgotten, or be root's. None where the kernel makes
    no other tables either. Three tables in a row must agree, as in bytes_each().
    """
    entries = HASH_TABLE.search(shell.printed(host, 'dmesg | grep "TCP established hash table"'))
    if entries:
        return int(entries[2]) // int(entries[1])
    if CHILD_EHASH not in host.sysctl:
        return None
    host.sysctl[CHILD_EHASH] = SLOTS
    return round(_agreed(lambda: _table_of_its_own(host) / SLOTS, AGREED_A_SLOT))


def hash_slots(host: Host) -> str | None:
    """How many slots the hash table of connections has, where a sysctl says so; negative if all share it."""
    return host.sysctl[EHASH] if EHASH in host.sysctl else None  # noqa: SIM401 - Sysctls has no get()


def bytes_of_a_port() -> dict[str, int]:
    """Bytes of what the kernel keeps for each bound port, by cache, where it says so to this user."""
    sizes = {}
    for name in PORT_CACHES:
        try:
            sizes[name] = int(Path("/sys/kernel/slab", name, "slab_size").read_text())
        except OSError:
            continue
    return sizes


def _agreed(measure: Callable[[], float], apart: float) -> float:
    """The middle of three measurements in a row that lie no further apart; NotReady after five minutes without."""
    seen: list[float] = []

    def agreed() -> bool:
        seen.append(measure())
        return len(seen) >= 3 and max(seen[-3:]) - min(seen[-3:]) <= apart

    until(agreed, deadline=300, what="a machine quiet enough to measure memory")
    return statistics.median(seen[-3:])


def _table_of_its_own(host: Host) -> float:
    """Bytes of the hash table of a namespace that is made in a host, with what others took or gave back meanwhile."""
    before = total("VmallocUsed")
    with host:
        child = Namespace()
    try:
        taken = total("VmallocUsed") - before
        with child:
            slots = int(Path("/proc/sys", EHASH.replace(".", "/")).read_text())
    finally:
        child.close()
    if slots != SLOTS:
        raise NotReady(f"the hash table of a new namespace has {slots} slots, not {SLOTS}")
    # A namespace is taken apart in the background: its table would be counted with the next.
    until(lambda: total("VmallocUsed") - before < taken / 2, deadline=60, what="the end of a namespace's hash table")
    return taken


def _taken(name: str) -> float:
    return bytes_of(name) or total("SUnreclaim")


def _account(name: str) -> Range:
    """What an object should take: what the cache says; of one that may not be read, what all kernels have."""
    try:
        each = cache(name).each
    except (Forbidden, Unsupported):
        return between(150, 700)
    return between(0.9 * each, 1.15 * each)
