"""Tables and limits of the kernel's that are full: TIME-WAIT, tracked connections, memory of TCP, orphans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.diagnosis.findings import Certainty, Finding, reason
from harness.diagnosis.ports import gateway_has_none_left
from harness.diagnosis.thresholds import THRESHOLDS
from harness.diagnosis.view import reasons_of, rising
from harness.incident.facts import Fact
from harness.incident.machine import Told
from harness.laws.boundaries import before

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.diagnosis.findings import Reason
    from harness.diagnosis.view import View

TIME_WAIT, CONNTRACK, MEMORY, ORPHANS = "time-wait-cap", "conntrack-full", "tcp-memory", "orphans"
BUCKETS = "net.ipv4.tcp_max_tw_buckets"
NETFILTER = "net.netfilter.nf_conntrack_"
# Since boot one does not know when: of a log, too, unless it has been rotated.
LOGGED = Certainty.POSSIBLE


def time_wait(view: View) -> Iterator[Finding]:
    """TIME-WAIT at its cap: what would exceed it is destroyed at once."""
    over = view.rose("TcpExt.TCPTimeWaitOverflow")
    reasons = reasons_of(over)
    waiting, most = view.gauge("sockstat.TCP.tw"), view.sysctl(BUCKETS)
    # The machine's number cannot be held against a namespace's, nor the other way round.
    counts_machine = view.kernel is not None and before("time-wait-counted-per-namespace", view.kernel)
    high = False
    if waiting and most and (view.is_own or not counts_machine):
        high = THRESHOLDS["time-wait"].reached(waiting.value / most)
        reasons.append(
            reason(f"{waiting.value} sockets are in TIME-WAIT, tcp_max_tw_buckets is {most}", waiting.source)
        )
    told = view.told(Told.TIME_WAIT_FULL)
    if not (over or high or told):
        return
    sure = Certainty.CERTAIN if rising([over]) else THRESHOLDS["time-wait"].sure if high else LOGGED
    what = "TIME-WAIT has reached tcp_max_tw_buckets: connections that end are forgotten at once"
    if high and not over:
        what = "TIME-WAIT is about to reach tcp_max_tw_buckets: then connections that end are forgotten at once"
    yield Finding(TIME_WAIT, what, sure, view.table("tcp_max_tw_buckets"), (*reasons, *told))


def conntrack(view: View) -> Iterator[Finding]:
    """The table of tracked connections is full, or nearly: packets of new connections are dropped."""
    tracked, most = _tracked(view), view.sysctl(f"{NETFILTER}max")
    share = tracked.value / most if tracked and most else 0.0
    dropped = [view.rose(f"conntrack.{name}") for name in ("drop", "early_drop")]
    told = [] if _is_of_others(view) else view.told(Told.CONNTRACK_FULL)
    full = THRESHOLDS["conntrack-full"].reached(share)
    nearly = THRESHOLDS["conntrack-nearly"].reached(share)
    if not (full or nearly or told):
        return
    reasons = reasons_of(*dropped) if full or nearly else _why_dropped(view)
    if tracked and most:
        reasons.insert(0, reason(f"{tracked.value} connections are tracked, of at most {most}", tracked.source))
    reasons += [*told, *_most_of_it(view)]
    if full and (rising(dropped) or told):
        sure = Certainty.CERTAIN
    else:
        sure = THRESHOLDS["conntrack-full" if full else "conntrack-nearly"].sure if share else LOGGED
    how = "is full" if full else "was full at some time" if told and not nearly else "is nearly full"
    what = (
        f"The table of tracked connections {how}: packets of new connections are dropped, at the server and behind it"
    )
    yield Finding(CONNTRACK, what, sure, view.table("nf_conntrack_max"), tuple(reasons))


def _is_of_others(view: View) -> bool:
    """Whether a line of the kernel's log about a full table is about another namespace's.

    Old kernels name no namespace there, and new ones give the number of a namespace that is gone to the next. This one
    has dropped nothing for want of an entry (`nf_conntrack_in` counts `drop`, net/netfilter/nf_conntrack_core.c). Or it
    is a gateway without a port, whose new entries clash with others, which counts as `drop` and as `insert_failed`.
    Without such a gateway the two numbers settle nothing: `insert_failed` counts clashes that were resolved as well.
    """
    dropped, failed = _drops_and_clashes(view)
    if dropped is None:
        return False
    clashes = failed.value if failed else 0
    return dropped.value == 0 or (clashes >= dropped.value and gateway_has_none_left(view))


def _drops_and_clashes(view: View) -> tuple[Fact[int] | None, Fact[int] | None]:
    dropped, failed = (view.space.counter(f"conntrack.{name}") for name in ("drop", "insert_failed"))
    return dropped if isinstance(dropped, Fact) else None, failed if isinstance(failed, Fact) else None


def _why_dropped(view: View) -> list[Reason]:
    """How many packets were dropped, and how many of them may have been so for another cause than a full table."""
    dropped, failed = _drops_and_clashes(view)
    if not (dropped and failed and failed.value):
        return []
    says = f"{dropped.value} packets were dropped, and {failed.value} new entries clashed with others, which may be why"
    return [reason(says, dropped.source, failed.source)]


def _tracked(view: View) -> Fact[int] | None:
    """How many connections are tracked, by whichever file says so."""
    for name in ("conntrack.count", "conntrack.entries"):
        if found := view.gauge(name):
            return found
    # Each namespace has a count of its own, so that the machine's is not a container's.
    here = f"{NETFILTER}count" in view.space.sysctls
    counted = view.sysctls(f"{NETFILTER}count") if here else None
    if counted and len(counted[0]) == 1:
        return Fact(counted[0][0], counted[1])
    table = view.tracked
    return Fact(table.total, table.source) if table else None


def _most_of_it(view: View) -> list[Reason]:
    """What the table is full of: where to, in which state, and for how long it is remembered."""
    table, reasons = view.tracked, []
    if table and table.flows:
        flow = max(table.flows, key=lambda each: each.entries)
        to = f"{flow.entries} of {table.total} entries go to {flow.destination} ({flow.protocol} {flow.state})"
        reasons.append(reason(to, flow.source))
    timeout = view.sysctls(f"{NETFILTER}tcp_timeout_established")
    if timeout and len(timeout[0]) == 1:
        hours = timeout[0][0] / 3600
        reasons.append(reason(f"an idle connection is remembered for {hours:.3g} hours", timeout[1]))
    return reasons


def tcp_memory(view: View) -> Iterator[Finding]:
    """The memory that TCP may have is used up. It is the whole machine's, so it is looked at once."""
    pages, limits = view.gauge("sockstat.TCP.mem"), view.sysctls("net.ipv4.tcp_mem")
    pressures, aborts = view.rose("TcpExt.TCPMemoryPressures"), view.rose("TcpExt.TCPAbortOnMemory")
    told = view.told(Told.TCP_MEMORY)
    if not view.is_own:
        return
    reasons, sure = [], None
    if pages and limits and len(limits[0]) == 3 and limits[0][2]:
        _, pressure, most = limits[0]
        says = f"TCP has {pages.value} pages, tcp_mem is {' '.join(map(str, limits[0]))}"
        reasons.append(reason(says, pages.source, limits[1]))
        if pages.value >= most:
            sure = Certainty.CERTAIN
        elif THRESHOLDS["memory-nearly"].reached(pages.value / most) or pages.value > pressure:
            sure = THRESHOLDS["memory-nearly"].sure
    if sure is None:
        sure = Certainty.LIKELY if rising([pressures]) else Certainty.POSSIBLE if told or pressures else None
    if sure is None:
        return
    reasons += [*reasons_of(pressures, aborts), *told]
    what = "TCP has hardly any memory left of tcp_mem: buffers shrink, segments are dropped, connections are reset"
    yield Finding(MEMORY, what, sure, view.table("tcp_mem"), tuple(reasons))


def orphans(view: View) -> Iterator[Finding]:
    """Too many sockets that no program holds any more: the kernel resets them. They are the whole machine's."""
    now, most = view.gauge("sockstat.TCP.orphan"), view.sysctl("net.ipv4.tcp_max_orphans")
    told = view.told(Told.ORPHANS)
    if not view.is_own:
        return
    share = now.value / most if now and most else 0.0
    level = next((name for name in ("orphans-many", "orphans-some") if THRESHOLDS[name].reached(share)), None)
    if level is None and not told:
        return
    reasons = [reason(f"{now.value} orphans, tcp_max_orphans is {most}", now.source)] if now and most else []
    reasons += [*reasons_of(view.rose("TcpExt.TCPAbortOnMemory")), *told]
    what = (
        "Connections that their programs have closed, and that do not end, are nearly as many as tcp_max_orphans allows"
    )
    sure = Certainty.CERTAIN if level and told else THRESHOLDS[level].sure if level else LOGGED
    yield Finding(ORPHANS, what, sure, view.table("tcp_max_orphans"), tuple(reasons))
