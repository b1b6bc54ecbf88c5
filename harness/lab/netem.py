"""netem on an interface: a queueing discipline of the kernel that delays, loses, doubles and paces what leaves by it.

A netem for the way, which all frames enter, and where there is a rate another within it, whose queue is the
bottleneck's alone: the limit of one netem for both would count frames that are under way as waiting. Messages and
attributes are those of include/uapi/linux/rtnetlink.h, pkt_sched.h and gen_stats.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from harness.errors import HarnessError, Unsupported
from harness.lab import netlink, nft
from harness.lab.box_program import UNDER_WAY
from harness.lab.line import nanoseconds, share
from harness.lab.netns import Namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lab.line import Line

NETLINK_ROUTE = 0
NEW_QDISC, GET_QDISC = 36, 38
CREATE = netlink.NLM_F_REQUEST | netlink.NLM_F_ACK | netlink.NLM_F_CREATE | 0x200  # NLM_F_EXCL
# struct tcmsg: family, interface, handle, parent, info.
TRAFFIC = struct.Struct("=B3xiIII")
ROOT = 0xFFFFFFFF
WAY, BOTTLENECK = 1 << 16, 2 << 16
KIND, OPTIONS, STATS2 = 1, 2, 7
# struct tc_netem_qopt: delay, limit, loss, gap, duplicate, jitter; times in units of 64 ns (PSCHED_SHIFT).
QOPT = struct.Struct("=IIIIII")
TICK = 64
REORDER, RATE, PRNG_SEED = 3, 6, 14
# struct tc_netem_reorder and tc_netem_rate.
PROBABILITY, PACE = struct.Struct("=II"), struct.Struct("=IiIi")
SEED = struct.Struct("=Q")
# Within one netem a rate keeps frames in their order, and this one takes no time to speak of: 0.4 us a frame.
IN_ORDER = 0xFFFFFFFF
# TCA_STATS_BASIC (struct gnet_stats_basic) and TCA_STATS_QUEUE (struct gnet_stats_queue: length, backlog, drops, …).
BASIC, QUEUE = 1, 3
PACKETS, DROPS = struct.Struct("=QI"), struct.Struct("=III")
IPV6, NEXT_HEADER, HOP_BY_HOP = 0x86DD, 6, b"\0"


@dataclass(frozen=True)
class Ability:
    """Whether this kernel has netem, and whether that takes a seed, so that its chance can come again."""

    exists: bool
    takes_seed: bool = False
    why_not: str = ""

    def lacks(self, line: Line) -> str:
        """What netem cannot do of a line; "" if it can do all of it."""
        if not self.exists:
            return self.why_not
        if line.is_random and not self.takes_seed:
            return "netem of this kernel takes no seed, and its losses never come again"
        if line.duplicate and line.rate is not None:
            return "netem does not double frames (duplicate) where another one has the rate"
        return ""


@cache
def ability() -> Ability:
    """What this kernel can do, tried once, in a namespace that is gone afterwards."""
    tried = Namespace()
    try:
        _add(tried, "lo", ROOT, WAY, QOPT.pack(0, 1, 0, 0, 0, 0) + netlink.attribute(PRNG_SEED, SEED.pack(7)))
        without_chatter(tried, ["lo"])
        options = next(options for handle, options, _ in _disciplines(tried, "lo") if handle == WAY)
        return Ability(exists=True, takes_seed=PRNG_SEED in netlink.attributes(options[QOPT.size :]))
    except Unsupported as error:
        return Ability(exists=False, why_not=str(error))
    finally:
        tried.close()


def attach(namespace: Namespace, interface: str, line: Line, seed: int) -> None:
    """Let what leaves by an interface fare as the line says; chance is drawn from a seed of 64 bits.

    Unsupported where the kernel has no netem.
    """
    way = QOPT.pack(
        nanoseconds(line.delay) // TICK,
        UNDER_WAY,
        share(line.loss),
        int(line.reorder > 0),
        share(line.duplicate),
        nanoseconds(line.jitter) // TICK,
    )
    if line.reorder:
        way += netlink.attribute(REORDER, PROBABILITY.pack(share(line.reorder), 0))
    if line.jitter:
        way += netlink.attribute(RATE, PACE.pack(IN_ORDER, 0, 0, 0))
    if line.is_random:
        way += netlink.attribute(PRNG_SEED, SEED.pack(seed))
    _add(namespace, interface, ROOT, WAY, way)
    if line.rate is not None:
        pace = netlink.attribute(RATE, PACE.pack(line.bytes_a_second, 0, 0, 0))
        _add(namespace, interface, WAY | 1, BOTTLENECK, QOPT.pack(0, line.frames_queued, 0, 0, 0, 0) + pace)


def without_chatter(namespace: Namespace, interfaces: list[str]) -> None:
    """Drop the reports of multicast groups (MLD, RFC 3810) that arrive at interfaces.

    A host sends them when it likes, up to a second after it has an address, and they would be numbered as well.
    """
    rule = (*nft.ethertype(IPV6), *nft.Match(nft.NETWORK_HEADER, NEXT_HEADER, HOP_BY_HOP).expressions(), *nft.drop())
    chains = {f"chatter-{name}": nft.Chain("ingress", 0, (rule,), device=name) for name in interfaces}
    nft.Table(namespace, "chatter", chains, "netdev")


@dataclass(frozen=True)
class Counted:
    """What netem has counted: frames that passed, that it lost on the way, that found no room, that are on the way."""

    passed: int
    lost: int
    overflowed: int
    waiting: int


def counted(namespace: Namespace, interface: str) -> Counted:
    """What has become of the frames at an interface that has a line."""
    passed = {WAY: 0, BOTTLENECK: 0}
    dropped = dict(passed)
    waiting = 0
    for handle, _, statistics in _disciplines(namespace, interface):
        if handle in passed:
            passed[handle] = PACKETS.unpack_from(statistics[BASIC])[1]
            length, _, dropped[handle] = DROPS.unpack_from(statistics[QUEUE])
            # The one without counts also what the one within holds (netem_enqueue()).
            waiting = max(waiting, length)
    # What the one within drops is counted by the one without as well (netem_dequeue()).
    return Counted(passed[WAY], dropped[WAY] - dropped[BOTTLENECK], dropped[BOTTLENECK], waiting)


def _add(namespace: Namespace, interface: str, parent: int, handle: int, options: bytes) -> None:
    body = TRAFFIC.pack(0, _index(namespace, interface), handle, parent, 0)
    body += netlink.text(KIND, "netem") + netlink.attribute(OPTIONS, options)
    with _talk(namespace) as talking:
        talking.send(netlink.message(NEW_QDISC, CREATE, 1, body))
        for _, _, answer in netlink.messages(talking.recv(1 << 16)):
            number = -netlink.ERRNO.unpack_from(answer)[0]
            if number in (errno.ENOENT, errno.EOPNOTSUPP):
                raise Unsupported("the running kernel has no netem (CONFIG_NET_SCH_NETEM)")
            if number:
                raise HarnessError(f"netem refused at {interface}: {os.strerror(number)}")


def _disciplines(namespace: Namespace, interface: str) -> Iterator[tuple[int, bytes, dict[int, bytes]]]:
    """Handle, options and statistics of each queueing discipline of an interface."""
    index = _index(namespace, interface)
    flags = netlink.NLM_F_REQUEST | netlink.NLM_F_DUMP
    with _talk(namespace) as talking:
        talking.send(netlink.message(GET_QDISC, flags, 1, TRAFFIC.pack(0, index, 0, 0, 0)))
        while True:
            for kind, _, body in netlink.messages(talking.recv(1 << 16)):
                if kind == netlink.NLMSG_DONE:
                    return
                _, where, handle, _, _ = TRAFFIC.unpack_from(body)
                if where == index:
                    found = netlink.attributes(body[TRAFFIC.size :])
                    yield handle, found.get(OPTIONS, b""), netlink.attributes(found.get(STATS2, b""))


def _index(namespace: Namespace, interface: str) -> int:
    with namespace:
        return socket.if_nametoindex(interface)


def _talk(namespace: Namespace) -> socket.socket:
    with namespace:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE)
