"""Ports that are used up: of this machine towards a destination, or of the address that a gateway gives to others."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.diagnosis.findings import Certainty, Finding, reason
from harness.diagnosis.thresholds import THRESHOLDS
from harness.incident.sockets import Direction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.diagnosis.view import Counted, View
    from harness.evidence.types import Endpoint
    from harness.incident.conntrack import Tracked
    from harness.incident.facts import Source
    from harness.incident.sockets import Flow

USED_UP, GATEWAY = "ports-used-up", "gateway-ports-used-up"
RANGE, RESERVED = "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"
# A port, or a first and a last one.
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


@dataclass(frozen=True)
class Range:
    """The ports that connect() draws from: how many, the first and last, and how many are reserved."""

    first: int
    last: int
    reserved: int
    source: Source

    @property
    def size(self) -> int:
        """How many there are to draw from."""
        return max(self.last - self.first + 1 - self.reserved, 1)


def ports_used_up(view: View) -> Iterator[Finding]:
    """A destination towards which hardly a local port is free: each four-tuple can be used once."""
    there = port_range(view)
    if there is None:
        return
    towards: dict[tuple[str, Endpoint], list[Flow]] = defaultdict(list)
    for flow in view.flows(Direction.OUT):
        if flow.peer.address:
            towards[flow.local.address, flow.peer].append(flow)
    for (address, peer), flows in towards.items():
        used = sum(flow.sockets for flow in flows if not taken_over(view, flow))
        if THRESHOLDS["ports-nearly"].reached(used / there.size):
            yield _used_up(view, there, address, peer, flows)


def port_range(view: View) -> Range | None:
    """The range in force here; None where no file has it."""
    found = view.sysctls(RANGE)
    if found is None or len(found[0]) != 2:
        return None
    (first, last), source = found
    spelled = view.machine.sysctl(RESERVED, view.space)
    return Range(first, last, reserved_within(getattr(spelled, "value", ""), first, last), source)


def reserved_within(spelled: str, first: int, last: int) -> int:
    """How many ports of a range are reserved: "8080,30000-30010"."""
    count = 0
    for part in filter(None, (part.strip() for part in spelled.split(","))):
        if ends := _PORTS.fullmatch(part):
            low, high = int(ends[1]), int(ends[2] or ends[1])
            count += max(min(high, last) - max(low, first) + 1, 0)
    return count


def taken_over(view: View, flow: Flow) -> bool:
    """Whether connect() uses such a socket's port again: TIME-WAIT, by tcp_tw_reuse; 2 is for loopback alone."""
    if flow.state != "TIME-WAIT" or view.sysctl("net.ipv4.tcp_timestamps") == 0:
        return False
    reuse = view.sysctl("net.ipv4.tcp_tw_reuse")
    return reuse == 1 or (reuse == 2 and is_loopback(flow.peer.address))


def is_loopback(address: str) -> bool:
    """127.0.0.0/8 or ::1, also where IPv4 is written as IPv6."""
    return address.removeprefix("::ffff:").startswith("127.") or address == "::1"


def _used_up(view: View, there: Range, address: str, peer: Endpoint, flows: list[Flow]) -> Finding:
    used, waiting = sum(flow.sockets for flow in flows), sum(f.sockets for f in flows if f.state == "TIME-WAIT")
    share = used / there.size
    gone = THRESHOLDS["ports-gone"].reached(share)
    reserved = f", {there.reserved} of them reserved" if there.reserved else ""
    reasons = (
        reason(f"{used} local ports of {address} are in use towards {peer}", flows[0].source),
        reason(f"connect() has {there.size} to draw from, {there.first} to {there.last}{reserved}", there.source),
        reason(f"{waiting} of them are in TIME-WAIT, each for 60 s", flows[0].source),
    )
    how = "are used up" if gone else "are nearly used up"
    what = f"The local ports towards {peer} {how}: connect() fails with EADDRNOTAVAIL (Cannot assign requested address)"
    sure = THRESHOLDS["ports-gone" if gone else "ports-nearly"].sure
    return Finding(USED_UP, what, sure, view.towards(peer), reasons)


def gateway_ports(view: View) -> Iterator[Finding]:
    """A gateway that masquerades, and has no port left outside towards a destination."""
    failed = view.rose("conntrack.insert_failed")
    for seen_as, destination, flows in translated(view):
        gone, none_left = _gone(flows), _none_left(view, flows, failed)
        if none_left or THRESHOLDS["ports-nearly"].reached(_share(flows)):
            yield _gateway(view, seen_as, destination, flows, failed, gone=gone)


def gateway_has_none_left(view: View) -> bool:
    """Whether new connections through a gateway find no port, not only few, so that their entries clash."""
    failed = view.rose("conntrack.insert_failed")
    return any(_none_left(view, flows, failed) for _, _, flows in translated(view))


def _share(flows: list[Tracked]) -> float:
    return sum(flow.ports for flow in flows) / THRESHOLDS["nat-ports"].at


def _gone(flows: list[Tracked]) -> bool:
    return THRESHOLDS["ports-gone"].reached(_share(flows))


def _none_left(view: View, flows: list[Tracked], failed: Counted | None) -> bool:
    return _gone(flows) or (bool(failed) and _alone(view, flows))


def translated(view: View) -> Iterator[tuple[str, Endpoint, list[Tracked]]]:
    """The tracked connections of TCP whose source is changed: the address outside, the destination, the flows."""
    groups: dict[tuple[str, Endpoint], list[Tracked]] = defaultdict(list)
    table = view.tracked
    for flow in table.flows if table else ():
        if flow.seen_as and flow.protocol == "tcp":
            groups[flow.seen_as, flow.answers_from or flow.destination].append(flow)
    for (seen_as, destination), flows in groups.items():
        yield seen_as, destination, flows


def _alone(view: View, flows: list[Tracked]) -> bool:
    """Whether a group is most of the table, and each of its entries has a port of its own, as when none is left."""
    table, entries = view.tracked, sum(flow.entries for flow in flows)
    ports = sum(flow.ports for flow in flows)
    return bool(table) and THRESHOLDS["nat-alike"].reached(entries) and entries == ports and (
        entries * 2 >= sum(flow.entries for flow in (table.flows if table else ()) if flow.protocol == "tcp")
    )  # fmt: skip


def _gateway(
    view: View, seen_as: str, destination: Endpoint, flows: list[Tracked], failed: Counted | None, *, gone: bool
) -> Finding:
    used, entries = sum(flow.ports for flow in flows), sum(flow.entries for flow in flows)
    reasons = [
        reason(
            f"{entries} connections to {destination} leave as {seen_as} and have {used} ports there", flows[0].source
        ),
        reason(f"a masquerading gateway has {THRESHOLDS['nat-ports'].at:.0f}, unless its rule says otherwise"),
    ]
    if failed:
        reasons.append(failed.reason)
    what = (
        f"The gateway has no port left of {seen_as} towards {destination}: "
        f"it drops the SYNs of new connections, and tells nobody"
    )
    now = failed is not None and failed.now
    sure = Certainty.CERTAIN if gone and now else Certainty.LIKELY if gone or now else Certainty.POSSIBLE
    return Finding(GATEWAY, what, sure, view.towards(destination), tuple(reasons))
