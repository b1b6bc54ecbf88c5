"""Segments that are refused for their timestamps: clients behind one address, and clocks that are behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.diagnosis.findings import Certainty, Finding, reason
from harness.diagnosis.thresholds import THRESHOLDS
from harness.diagnosis.view import reasons_of, rising
from harness.incident.facts import Fact
from harness.incident.sockets import Direction, taker
from harness.laws.boundaries import before

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.diagnosis.findings import Place
    from harness.diagnosis.view import View

RECYCLE, REFUSED = "nat-and-tw-recycle", "timestamps-refused"
# By tcp_tw_recycle, of SYNs; by PAWS, of segments of connections and of TIME-WAIT (see harness.observe.paws).
OF_ADDRESSES = "TcpExt.PAWSPassive"
OF_TIME_WAIT = "TcpExt.PAWSTimewait"
OF_CONNECTIONS = ("TcpExt.PAWSEstab", "TcpExt.PAWSActive")


def tw_recycle(view: View) -> Iterator[Finding]:
    """tcp_tw_recycle on a kernel that has it: of clients behind one address those with lower clocks are shut out."""
    knob = view.sysctls("net.ipv4.tcp_tw_recycle")
    refused = view.rose(OF_ADDRESSES)
    on = knob is not None and knob[0] == [1]
    if not (on or refused) or (view.kernel is not None and not before("tw-recycle-is-gone", view.kernel)):
        return
    reasons = reasons_of(refused)
    if knob:
        reasons.append(reason(f"net.ipv4.tcp_tw_recycle is {knob[0][0]}", knob[1]))
    timestamps = view.sysctl("net.ipv4.tcp_timestamps")
    if timestamps == 0:
        return
    if refused:
        what = "SYNs of clients that share an address (NAT) get no answer: tcp_tw_recycle compares their timestamps"
    else:
        what = "tcp_tw_recycle is on: clients that share an address (NAT) will get no answer to their SYNs"
    sure = Certainty.CERTAIN if rising([refused]) and on else Certainty.LIKELY if refused and on else Certainty.POSSIBLE
    yield Finding(RECYCLE, what, sure, view.table("tcp_tw_recycle"), tuple(reasons))


def timestamps_refused(view: View) -> Iterator[Finding]:
    """Segments of connections that PAWS refuses, more than the network doubles; SYNs that a TIME-WAIT refuses."""
    at_time_wait = view.rose(OF_TIME_WAIT)
    on_connections = [view.rose(name) for name in OF_CONNECTIONS]
    fast = [one for one in on_connections if one and one.now and THRESHOLDS["paws"].reached(one.per_second)]
    if not (fast or rising([at_time_wait])):
        return
    reasons = reasons_of(at_time_wait, *fast)
    rfc1337 = view.machine.sysctl("net.ipv4.tcp_rfc1337", view.space)
    if isinstance(rfc1337, Fact) and rfc1337.value.strip() == "1":
        reasons.append(
            reason("tcp_rfc1337 is 1: an RST does not end a TIME-WAIT, so a refused SYN stays refused", rfc1337.source)
        )
    what = (
        "Segments are refused for their timestamps: two clients come through one port of a NAT, or old ones arrive late"
    )
    sure = Certainty.LIKELY if rising([at_time_wait]) else THRESHOLDS["paws"].sure
    yield Finding(REFUSED, what, sure, _busiest(view), tuple(reasons))


def _busiest(view: View) -> Place:
    """The service with the most TIME-WAIT of its own: there a SYN can meet one."""
    waiting = view.flows(Direction.IN, "TIME-WAIT")
    if not waiting:
        return view.somewhere("a connection that the files do not show")
    flow = max(waiting, key=lambda each: each.sockets)
    listener = taker(view.space.listeners, flow.local)
    return view.at(listener) if listener else view.towards(flow.local)
