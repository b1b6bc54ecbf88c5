"""SYNs that find no room: a flood, or a backlog that is too short; and drops at a listener that nothing explains."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.diagnosis.findings import Certainty, Finding, Where, reason
from harness.diagnosis.thresholds import THRESHOLDS
from harness.diagnosis.view import reasons_of, rising
from harness.incident.machine import Told
from harness.incident.sockets import Direction, taker
from harness.laws.boundaries import before
from harness.laws.queues import Knobs, half_open

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.diagnosis.findings import Place, Reason
    from harness.diagnosis.view import Counted, View
    from harness.incident.sockets import Listener

FLOOD, TOO_SHORT, SYNS, UNEXPLAINED = "syn-flood", "backlog-too-short", "syn-queue-full", "drops-unexplained"
COOKIES, DROPPED = "TcpExt.TCPReqQFullDoCookies", "TcpExt.TCPReqQFullDrop"
SENT, RETURNED = "TcpExt.SyncookiesSent", "TcpExt.SyncookiesRecv"
LISTEN_DROPS, OVERFLOWS, REFUSED = "TcpExt.ListenDrops", "TcpExt.ListenOverflows", "TcpExt.PAWSPassive"
SYNCOOKIES = "net.ipv4.tcp_syncookies"
WHAT = {
    FLOOD: "{where} is under a SYN flood: SYNs come that are never acknowledged, and fill its SYN queue",
    TOO_SHORT: "The backlog of {where} is too short for its real clients: their SYNs fill its SYN queue",
    SYNS: "The SYN queue of {where} is full: by a flood, or because it is too short; the numbers do not say which",
}


@dataclass(frozen=True)
class HalfOpen:
    """The half-open connections of a listener: how many, how many at most, and how many were answered twice."""

    listener: Listener
    now: int
    most: int | None
    repeated: int

    @property
    def is_full(self) -> bool:
        """Whether there is hardly room for another one."""
        return bool(self.most) and THRESHOLDS["half-open-full"].reached(self.now / (self.most or 1))


def syn_queue(view: View) -> Iterator[Finding]:
    """A SYN queue that is full, with what speaks for a flood and what for clients that are too many."""
    full = [queue for queue in queues(view) if queue.is_full]
    dropped = [_cookies(view), view.rose(DROPPED)]
    if full or any(dropped) or _last_quarter(view):
        yield _judge(view, full, dropped)


def queues(view: View) -> list[HalfOpen]:
    """The SYN queues of all listeners, the longest first; sockets that share a port share their half-open ones."""
    table = view.sockets
    if table is None:
        return []
    first = {str(each.local): each for each in reversed(view.space.listeners)}
    now, repeated = Counter[str](), Counter[str]()
    for flow in table.flows:
        if flow.state == "SYN-RECV" and (listener := taker(first.values(), flow.local)):
            now[str(listener.local)] += flow.sockets
    for flow in view.timed(Direction.IN, "SYN-RECV"):
        if listener := taker(first.values(), flow.local):
            repeated[str(listener.local)] += flow.retransmitting
    found = [HalfOpen(one, now[place], ceiling(view, one), repeated[place]) for place, one in first.items()]
    return sorted((queue for queue in found if queue.now), key=lambda queue: -queue.now)


def ceiling(view: View, listener: Listener) -> int | None:
    """The most half-open connections by the law of this kernel; None where a file is missing for that."""
    limit, cookies = _limit(listener), view.sysctl(SYNCOOKIES)
    backlog, somaxconn = view.sysctl("net.ipv4.tcp_max_syn_backlog"), view.sysctl("net.core.somaxconn")
    if view.kernel is None or limit is None or cookies is None or backlog is None:
        return None
    return half_open(view.kernel, Knobs(limit, max(limit, somaxconn or limit), backlog, cookies)) or None


def _limit(listener: Listener) -> int | None:
    return next((look.limit for look in reversed(listener.looks) if look.limit is not None), None)


def _cookies(view: View) -> Counted | None:
    """SYNs at a full queue that were answered with cookies. With tcp_syncookies 2 all are, and none of them counts."""
    return None if view.sysctl(SYNCOOKIES) == 2 else view.rose(COOKIES)


def _last_quarter(view: View) -> bool:
    """Whether SYNs are dropped for the last quarter of tcp_max_syn_backlog, which no counter but ListenDrops tells."""
    left = leftover(view)
    return bool(left and left[1] and left[0] and _kept_for_the_known(view))


def _kept_for_the_known(view: View) -> bool:
    return view.sysctl(SYNCOOKIES) == 0 and any(queue.is_full for queue in queues(view))


def _judge(view: View, full: list[HalfOpen], dropped: list[Counted | None]) -> Finding:
    """One finding, named by what the cookies that came back say; without cookies, by the SYN-ACKs sent again."""
    at = full or [queue for queue in queues(view) if _stands_out(view, queue)]
    name, ratio = _which(view, at)
    where = " and ".join(str(queue.listener) for queue in at) or _by_the_log(view) or "a listener"
    reasons = [*reasons_of(*dropped), *(_half_open(queue) for queue in at), *ratio]
    reasons += view.told(Told.SYN_FLOODING)
    now = rising(dropped) or bool(full)
    sure = _sure(name, now=now, known=bool(at))
    return Finding(name, WHAT[name].format(where=where), sure, _place(view, at, where), tuple(reasons))


def _sure(name: str, *, now: bool, known: bool) -> Certainty:
    if not now:
        return Certainty.POSSIBLE
    return Certainty.CERTAIN if name != SYNS and known else Certainty.LIKELY


def _which(view: View, at: list[HalfOpen]) -> tuple[str, list[Reason]]:
    """Flood, too short, or not known; with the numbers that say so."""
    alike = view.counted_alike(SENT, RETURNED)
    if alike and THRESHOLDS["cookies-enough"].reached(alike[1][0]):
        sent, returned = alike[1]
        when = "" if alike[0] else " since boot"
        says = [reason(f"{returned} of {sent} SYN cookies came back with an ACK{when}")]
        if THRESHOLDS["cookies-answered-overload"].reached(returned / sent):
            return TOO_SHORT, says
        return (SYNS if THRESHOLDS["cookies-answered-flood"].reached(returned / sent) else FLOOD), says
    half, repeated = sum(queue.now for queue in at), sum(queue.repeated for queue in at)
    if half and THRESHOLDS["half-open-repeated"].reached(repeated / half):
        return FLOOD, [
            reason(f"of {half} half-open connections {repeated} had their SYN-ACK sent again: nobody answers")
        ]
    return SYNS, []


def _half_open(queue: HalfOpen) -> Reason:
    most = f", of at most {queue.most}" if queue.most else ""
    return reason(f"{queue.now} connections to {queue.listener.local} are half-open{most}", queue.listener.last.source)


def _stands_out(view: View, queue: HalfOpen) -> bool:
    """Whether most of the half-open connections are at this listener."""
    return queue.now * 2 > sum(each.now for each in queues(view))


def _by_the_log(view: View) -> str:
    return "the listener that the kernel's log names" if view.told(Told.SYN_FLOODING) else ""


def _place(view: View, at: list[HalfOpen], where: str) -> Place:
    if len(at) == 1:
        return view.at(at[0].listener)
    place = view.somewhere(where)
    return place if not at else type(place)(Where.LISTENER, where, at[0].listener.local, namespace=view.space.name)


def leftover(view: View) -> tuple[int, bool, int] | None:
    """Drops at listeners that no other counter explains, whether they are of now, and all drops.

    None where a counter is missing. A SYN that was answered with a cookie counted as a drop once.
    """
    names = [LISTEN_DROPS, OVERFLOWS, DROPPED, REFUSED]
    if view.kernel is None or before("cookies-are-no-drops", view.kernel):
        names.append(SENT)
    alike = view.counted_alike(*names)
    if alike is None:
        return None
    now, (drops, *explained) = alike
    left = max(drops - sum(explained), 0)
    least = "moved" if now else "counted-since-boot"
    if not THRESHOLDS[least].reached(left) or not THRESHOLDS["unexplained-drops"].reached(left / max(drops, 1)):
        left = 0
    return left, now, drops


def unexplained(view: View) -> Iterator[Finding]:
    """Drops at a listener that are neither an overflow nor a full SYN queue."""
    left = leftover(view)
    if not left or not left[0] or _kept_for_the_known(view):
        return
    amount, now, drops = left
    when = "between the two samples" if now else "since boot"
    says = f"ListenDrops rose by {drops} {when}, {amount} more than ListenOverflows and TCPReqQFullDrop explain"
    what = "SYNs or ACKs are dropped at a listener, and neither a full accept queue nor a full SYN queue is the cause"
    if view.kernel is None:
        says += "; no file names the kernel, so cookies are taken off, which counted as drops once"
    place = view.somewhere("a listener that the files do not show")
    yield Finding(UNEXPLAINED, what, Certainty.LIKELY if now else Certainty.POSSIBLE, place, (reason(says),))
