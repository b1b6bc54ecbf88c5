"""What is seen and is no finding, with the reason why not: what others take for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.diagnosis.findings import Remark, files_of
from harness.diagnosis.ports import port_range
from harness.diagnosis.syn_queue import COOKIES, SYNCOOKIES
from harness.diagnosis.thresholds import THRESHOLDS
from harness.diagnosis.view import short
from harness.incident.facts import Fact
from harness.incident.machine import Told
from harness.incident.sockets import Direction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.diagnosis.view import View

# What alert rules of others look at since boot.
LOUD = (
    "TcpExt.ListenOverflows", "TcpExt.ListenDrops", "TcpExt.TCPReqQFullDrop", "TcpExt.TCPReqQFullDoCookies",
    "TcpExt.TCPTimeWaitOverflow", "TcpExt.TCPBacklogDrop", "TcpExt.PruneCalled", "TcpExt.TCPMemoryPressures",
)  # fmt: skip


def remarks(view: View) -> Iterator[Remark]:
    """All remarks about a namespace."""
    yield from _still(view)
    yield from _cookies_always(view)
    yield from _time_wait(view)
    yield from _tables_of_others(view)


def _still(view: View) -> Iterator[Remark]:
    """Counters that are high, or not 0, and do not rise."""
    for name in LOUD:
        value, rate = view.space.counter(name), view.moved(name)
        if not isinstance(value, Fact) or not value.value:
            continue
        if rate is not None and rate.amount == 0:
            says = f"{short(name)} is {value.value} since boot and did not rise in {rate.seconds:.0f} s: nothing of now"
            yield Remark(says, files_of(rate.sources))
        elif rate is None and not THRESHOLDS["counted-since-boot"].reached(value.value):
            says = f"{short(name)} is {value.value} since boot: when, the files do not say"
            yield Remark(says, files_of([value.source]))


def _cookies_always(view: View) -> Iterator[Remark]:
    found = view.sysctls(SYNCOOKIES)
    counted = view.space.counter(COOKIES)
    if found and found[0] == [2] and isinstance(counted, Fact) and counted.value:
        says = "tcp_syncookies is 2: TCPReqQFullDoCookies counts every SYN, though no queue is full"
        yield Remark(says, files_of([found[1], counted.source]))


def _time_wait(view: View) -> Iterator[Remark]:
    """Many TIME-WAIT that are no trouble: whether they are is a question of ports towards one destination."""
    there, waiting = port_range(view), view.gauge("sockstat.TCP.tw")
    if there is None or waiting is None or waiting.value < THRESHOLDS["ports-nearly"].at * there.size:
        return
    if view.sockets is None:
        says = (
            f"{waiting.value} sockets are in TIME-WAIT, connect() has {there.size} ports: trouble only if they are "
            f"towards one destination, which a list of the sockets would say (ss -tan)"
        )
        yield Remark(says, files_of([waiting.source]))
        return
    out = [flow.sockets for flow in view.flows(Direction.OUT, "TIME-WAIT")]
    says = (
        f"{waiting.value} sockets are in TIME-WAIT, which is no trouble by itself: at most {max(out, default=0)} of "
        f"them are of one destination, where connect() has {there.size} ports"
    )
    yield Remark(says, files_of([waiting.source]))


def _tables_of_others(view: View) -> Iterator[Remark]:
    """What the log says of the tables of other network namespaces: containers, mostly."""
    for told in view.told(Told.CONNTRACK_FULL_ELSEWHERE):
        says = (
            f"a table of tracked connections of another network namespace was full, not this machine's own: {told.says}"
        )
        yield Remark(says, told.files)
