"""What connections cost in memory: the kernel's own, measured on a machine that others use as well."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from harness.errors import Forbidden, NotReady, Unsupported
from harness.observe import count, ss
from harness.observe.memory import caches, total
from harness.traffic.crowd import crowd
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Host, Pair
    from harness.observe.memory import Cache
    from harness.traffic.crowd import Crowd

# Of `ss -m`: what the receive buffer holds (misc/ss.c, print_skmeminfo()).
RECEIVE_MEMORY = re.compile(r"skmem:\(r(\d+),")
# How often a measurement is tried that others disturb.
TRIES = 30
# The memory is steady when it has been so for four looks and has moved by less than this for a connection, in bytes.
STEADY = 256


@dataclass(frozen=True)
class Memory:
    """TCP sockets and bytes of slab of the whole machine, and the caches of a connection where one may read them."""

    sockets: int
    slab: int
    caches: dict[str, Cache]

    @classmethod
    def now(cls, host: Host) -> Memory:
        """What the kernel has at the moment."""
        with host.open("/proc/thread-self/net/sockstat") as table:
            (allocated,) = re.findall(r"^TCP: .* alloc (\d+)", table.read(), re.MULTILINE)
        found: dict[str, Cache] = {}
        with suppress(Forbidden, Unsupported):
            found = caches(socket_cache(host), "sock_inode_cache", "filp", "dentry")
        return cls(int(allocated), total("Slab"), found)

    def since(self, before: Memory, connections: int) -> Growth:
        """What has come since, for each of so many connections."""
        objects = {name: (now.objects - before.caches[name].objects) / connections for name, now in self.caches.items()}
        return Growth((self.slab - before.slab) / connections, objects)


@dataclass(frozen=True)
class Growth:
    """What a connection added, both ends: bytes of all slabs, and objects of each cache that one may read."""

    slab: float
    objects: dict[str, float]

    @classmethod
    def middle(cls, growths: list[Growth]) -> Growth:
        """The middle of several measurements, number by number: others use the machine's memory as well."""
        objects = {name: median(each.objects[name] for each in growths) for name in growths[0].objects}
        return cls(median(each.slab for each in growths), objects)


def socket_cache(host: Host) -> str:
    """The name of the cache that the sockets of the host's family come from."""
    return "TCP" if host.family == socket.AF_INET else "TCPv6"


def grow(pair: Pair, connections: int, *, tries: int = TRIES) -> tuple[Growth, Crowd]:
    """Make so many connections; once more if others on this machine opened or closed many of theirs meanwhile.

    NotReady if they did so the first time and `tries` times more.
    """
    before = steady(pair.client, connections)
    everyone = crowd(pair.client, pair.server, connections)
    after = Memory.now(pair.client)
    disturbed = abs(after.sockets - before.sockets - 2 * connections) > connections // 50
    if disturbed:
        end(pair, everyone)
        if not tries:
            raise NotReady("memory: others on this machine open and close so many connections that ours cannot be told")
        return grow(pair, connections, tries=tries - 1)
    return after.since(before, connections), everyone


def grow_repeatedly(pair: Pair, connections: int, times: int = 3) -> tuple[Growth, Crowd]:
    """Make them, end them and make them again; the middle of what each made, and the connections of the last."""
    growths = []
    for _ in range(times - 1):
        growth, everyone = grow(pair, connections)
        growths.append(growth)
        end(pair, everyone)
    growth, everyone = grow(pair, connections)
    return Growth.middle([*growths, growth]), everyone


def steady(host: Host, connections: int) -> Memory:
    """The memory at a moment at which others are quiet, and what was released has been given back (call_rcu()).

    After ten seconds in vain, the memory as it is then.
    """
    seen = [Memory.now(host)]

    def is_steady() -> bool:
        seen.append(Memory.now(host))
        sockets, slab = [each.sockets for each in seen[-4:]], [each.slab for each in seen[-4:]]
        return len(seen) > 8 and max(sockets) - min(sockets) < 50 and max(slab) - min(slab) < connections * STEADY

    with suppress(NotReady):
        until(is_steady, deadline=10, what="the machine's memory to be steady")
    return seen[-1]


def end(pair: Pair, everyone: Crowd) -> None:
    """Reset all connections, and wait until their sockets have gone."""
    everyone.close()
    until(lambda: count(pair.client) == count(pair.server) == 0, deadline=60, what="the connections to end")


def given_back(pair: Pair, everyone: Crowd, wanted: float, *, deadline: float = 60) -> int:
    """End all connections; the bytes of slab that came back, once they are as many as wanted (NotReady)."""
    full = Memory.now(pair.client)
    end(pair, everyone)

    def back() -> int:
        released = full.slab - Memory.now(pair.client).slab
        return released if released > wanted else 0

    return until(back, deadline=deadline, what="the memory to come back")


def receive_memory(host: Host) -> int:
    """The bytes of memory that the receive buffers of a host's connections hold, as ss -m shows them."""
    rows = ss.rows(host, "-tnm", "state", "established")
    return sum(int(held) for row in rows for held in RECEIVE_MEMORY.findall(" ".join(row.details)))
