"""What a diagnosis looks at: one network namespace of a machine, asked for numbers that are there or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.diagnosis.findings import Place, Reason, Where, files_of, reason
from harness.diagnosis.thresholds import THRESHOLDS
from harness.incident.counters import Rate
from harness.incident.facts import Fact, Source, Unknown
from harness.incident.sockets import Direction, Sockets

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.evidence.types import Endpoint
    from harness.incident.conntrack import TrackedTable
    from harness.incident.machine import Machine, Namespace, Process, Told
    from harness.incident.sockets import Connection, Flow, Listener
    from harness.laws.kernel import KernelVersion


@dataclass(frozen=True)
class Counted:
    """How far a counter rose: `now`, between two samples, or since boot, which says nothing of now."""

    name: str
    amount: int
    now: bool
    says: str
    sources: tuple[Source, ...]
    seconds: float | None = None

    @property
    def per_second(self) -> float:
        """The rate; 0 where nothing gives one."""
        return self.amount / self.seconds if self.seconds else 0.0

    @property
    def reason(self) -> Reason:
        """As a reason of a finding."""
        return reason(self.says, *self.sources)


@dataclass(frozen=True)
class View:
    """A namespace of a machine."""

    machine: Machine
    space: Namespace

    @property
    def kernel(self) -> KernelVersion | None:
        """The machine's, where a file names it."""
        return self.machine.version

    @property
    def is_own(self) -> bool:
        """Whether it is the machine's own namespace, with which the whole machine is looked at."""
        return self.space is self.machine.own

    def moved(self, name: str) -> Rate | None:
        """How far a counter rose between two samples, 0 too; None where there are no two."""
        rate = self.space.rate(name)
        return rate if isinstance(rate, Rate) else None

    def rose(self, name: str) -> Counted | None:
        """A counter that rises now; or, where nothing gives a rate, one that is high since boot. None otherwise."""
        rate = self.space.rate(name)
        if isinstance(rate, Rate):
            return counted(rate) if THRESHOLDS["moved"].reached(rate.amount) else None
        value = self.space.counter(name)
        if isinstance(value, Unknown) or not THRESHOLDS["counted-since-boot"].reached(value.value):
            return None
        boot = self.machine.since_boot(name, self.space)
        if isinstance(boot, Rate):
            return counted(boot)
        says = f"{short(name)} is {value.value} since boot; nothing says how much of it is of now"
        return Counted(name, value.value, now=False, says=says, sources=(value.source,))

    def counted_alike(self, *names: str) -> tuple[bool, list[int]] | None:
        """Counters that can be subtracted: all as they rose now, True; or all since boot, False. None: one is unknown.

        A counter that the kernel does not have is 0.
        """
        rates = [self.space.rate(name) for name in names]
        values = [self.space.counter(name) for name in names]
        absent = [isinstance(value, Unknown) and "no such counter" in value.why for value in values]
        if all(gone or isinstance(rate, Rate) for rate, gone in zip(rates, absent, strict=True)):
            return True, [rate.amount if isinstance(rate, Rate) else 0 for rate in rates]
        if all(gone or isinstance(value, Fact) for value, gone in zip(values, absent, strict=True)):
            return False, [value.value if isinstance(value, Fact) else 0 for value in values]
        return None

    def gauge(self, name: str) -> Fact[int] | None:
        """A gauge: "sockstat.TCP.tw"."""
        value = self.space.gauge(name)
        return value if isinstance(value, Fact) else None

    def sysctls(self, name: str) -> tuple[list[int], Source] | None:
        """The numbers of a sysctl in force here; None where no file has it, or it is no list of numbers."""
        value = self.machine.sysctl(name, self.space)
        if isinstance(value, Unknown):
            return None
        try:
            return [int(word) for word in value.value.split()], value.source
        except ValueError:
            return None

    def sysctl(self, name: str) -> int | None:
        """A sysctl that is one number."""
        found = self.sysctls(name)
        return found[0][0] if found and len(found[0]) == 1 else None

    @property
    def sockets(self) -> Sockets | None:
        """The sockets, where a file lists them."""
        table = self.space.sockets_now()
        return table if isinstance(table, Sockets) else None

    def flows(self, direction: Direction, *states: str) -> list[Flow]:
        """The flows of a direction, in these states or in all."""
        return flows_of(self.sockets, direction, states)

    def timed(self, direction: Direction, *states: str) -> list[Flow]:
        """The flows, of a list that shows who repeats itself: netstat without -o and ss without -o or -i do not."""
        table = self.space.sockets_that_repeat()
        return flows_of(table if isinstance(table, Sockets) else None, direction, states)

    @property
    def notable(self) -> tuple[Connection, ...]:
        """The sockets that stand alone, with their numbers of tcp_info where a list has them."""
        table = self.space.sockets_with_info()
        return table.notable if isinstance(table, Sockets) else ()

    @property
    def tracked(self) -> TrackedTable | None:
        """The largest table of tracked connections."""
        return max(self.space.conntrack, key=lambda table: table.total, default=None)

    def processes_of(self, listener: Listener) -> list[Process]:
        """The processes that hold a listener."""
        return [process for process in self.machine.processes if process.number in listener.processes]

    def told(self, what: Told) -> list[Reason]:
        """What the kernel's log says of a thing: the last line, and how many there are."""
        lines = [line for line in self.machine.log if line.told is what]
        if not lines or not self.is_own:
            return []
        last = max(lines, key=lambda line: line.uptime or 0.0)
        when = f" at {last.uptime:.0f} s of uptime" if last.uptime is not None else ""
        return [reason(f"the kernel's log says so {len(lines)} times, the last{when}: {last.text[:120]}", last.source)]

    # Where something is wrong.

    def at(self, listener: Listener) -> Place:
        """The place of a listener."""
        return Place(Where.LISTENER, str(listener), listener.local, listener.programs, self.space.name)

    def towards(self, endpoint: Endpoint) -> Place:
        """The place of a destination."""
        return Place(Where.DESTINATION, str(endpoint), endpoint, namespace=self.space.name)

    def table(self, name: str) -> Place:
        """A table or a limit of the kernel's."""
        return Place(Where.TABLE, name, namespace=self.space.name)

    def somewhere(self, name: str) -> Place:
        """A place that the files do not show."""
        return Place(Where.UNKNOWN, name, namespace=self.space.name)


def flows_of(table: Sockets | None, direction: Direction, states: tuple[str, ...]) -> list[Flow]:
    """The flows of a list in a direction, in these states or in all."""
    return [
        flow
        for flow in (table.flows if table else ())
        if flow.direction is direction and (not states or flow.state in states)
    ]


def counted(rate: Rate) -> Counted:
    """A rate as something that was counted."""
    name = short(rate.counter)
    if rate.since_boot:
        says = f"{name} is {rate.amount} since boot, {rate.per_second:.3g} a second on average: nothing of now"
    else:
        when = f"{rate.amount} in {rate.seconds:.1f} s" + (", by the times of the files" if rate.by_files else "")
        says = f"{name} rises by {rate.per_second:.3g} a second ({when})"
    return Counted(rate.counter, rate.amount, not rate.since_boot, says, rate.sources, rate.seconds)


def short(name: str) -> str:
    """A counter as the operator's commands print it, without its group."""
    return name.rpartition(".")[2]


def sources_of(*counters: Counted | None) -> tuple[str, ...]:
    """The files of counters."""
    return files_of(source for counter in counters if counter for source in counter.sources)


def reasons_of(*counters: Counted | None) -> list[Reason]:
    """The reasons that counters are, those that rose."""
    return [counter.reason for counter in counters if counter]


def rising(counters: Iterable[Counted | None]) -> bool:
    """Whether one of them rises now."""
    return any(counter is not None and counter.now for counter in counters)
