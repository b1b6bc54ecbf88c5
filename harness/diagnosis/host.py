"""What the machine itself cannot keep up with: its processors, its sockets, its routes, open files of its programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.diagnosis.findings import Certainty, Finding, Place, Where, reason
from harness.diagnosis.thresholds import THRESHOLDS
from harness.incident.counters import Rate, rate
from harness.incident.machine import Told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.diagnosis.findings import Reason
    from harness.diagnosis.view import View
    from harness.incident.machine import Process

SOFTNET, BACKLOG, REVERSE, FILES, NEIGHBOURS = (
    "processor-backlog", "socket-backlog", "reverse-path", "descriptors-used-up", "neighbour-table-full",
)  # fmt: skip


def softnet(view: View) -> Iterator[Finding]:
    """Packets that a processor drops as its queue of received ones is full. They are the whole machine's."""
    every = {name for sample in view.machine.softnet for name in sample.numbers if "dropped" in name}
    names = sorted(name for name in every if ".cpu" in name) or sorted(every)
    rates = [found for name in names if isinstance(found := rate(view.machine.softnet, name), Rate)]
    dropping = [each for each in rates if each.amount and THRESHOLDS["packets-dropped"].reached(each.per_second)]
    if not view.is_own or not dropping:
        return
    most = view.sysctls("net.core.netdev_max_backlog")
    reasons = [
        reason(
            f"{each.counter} rises by {each.per_second:.3g} a second ({each.amount} in {each.seconds:.1f} s)",
            *each.sources,
        )
        for each in dropping[:4]
    ]
    if most:
        reasons.append(reason(f"netdev_max_backlog is {most[0][0]} packets for each processor", most[1]))
    what = "The machine drops packets that it has received, before any socket sees them: a processor does not keep up"
    yield Finding(
        SOFTNET, what, THRESHOLDS["packets-dropped"].sure, Place(Where.MACHINE, "this machine"), tuple(reasons)
    )


def dropped_at_sockets(view: View) -> Iterator[Finding]:
    """Segments that are dropped as the program that reads the socket does not keep up."""
    yield from _per_second(
        view,
        "TcpExt.TCPBacklogDrop",
        BACKLOG,
        "Segments are dropped at sockets whose programs do not keep up: their backlog is full (net.core.rmem_max)",
    )


def reverse_path(view: View) -> Iterator[Finding]:
    """Packets that the machine refuses as their way back would be another one."""
    yield from _per_second(
        view,
        "TcpExt.IPReversePathFilter",
        REVERSE,
        "Packets are dropped as the way back to their sender leaves by another interface (rp_filter)",
    )


def _per_second(view: View, counter: str, diagnosis: str, what: str) -> Iterator[Finding]:
    found = view.rose(counter)
    if found is None or (found.now and not THRESHOLDS["packets-dropped"].reached(found.per_second)):
        return
    sure = THRESHOLDS["packets-dropped"].sure if found.now else Certainty.POSSIBLE
    yield Finding(
        diagnosis, what, sure, Place(Where.MACHINE, "this machine", namespace=view.space.name), (found.reason,)
    )


def descriptors(view: View) -> Iterator[Finding]:
    """A program that listens and may open no more files: accept() fails, and its queue fills."""
    for process in view.machine.processes:
        if not process.files_soft or process.files_open is None:
            continue
        share = process.files_open / process.files_soft
        held = [listener for listener in view.space.listeners if process.number in listener.processes]
        if held and THRESHOLDS["descriptors-nearly"].reached(share):
            place = view.at(held[0])
            sure = Certainty.CERTAIN if share >= 1 else THRESHOLDS["descriptors-nearly"].sure
            yield Finding(FILES, _of(process, full=share >= 1), sure, place, (_open(process),))


def _of(process: Process, *, full: bool) -> str:
    how = "may open no more files: accept() fails with EMFILE" if full else "may soon open no more files"
    return f"{process.program} (process {process.number}) {how}"


def _open(process: Process) -> Reason:
    return reason(f"it has {process.files_open} files open, of {process.files_soft} that it may", process.source)


def neighbours(view: View) -> Iterator[Finding]:
    """The table of neighbours was full: packets to new ones are not sent."""
    told = view.told(Told.NEIGHBOURS)
    if told:
        what = "The table of neighbours (ARP) was full at some time: nothing could be sent to hosts that were not in it"
        yield Finding(NEIGHBOURS, what, Certainty.POSSIBLE, view.table("neigh.default.gc_thresh3"), tuple(told))
