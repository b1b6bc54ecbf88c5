"""The picture while it is made: readers put in what they find, in whatever order the files come."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from harness.evidence.types import Endpoint
from harness.incident.machine import MAIN, FileRead, Interface, LogLine, Machine, Namespace, Process
from harness.incident.sockets import Listener, Rest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from harness.incident.captured import Captured
    from harness.incident.conntrack import TrackedTable
    from harness.incident.counters import Sample
    from harness.incident.facts import Fact, Moment, Source, Unknown
    from harness.incident.sockets import Look, Sockets

MOST_LOG_LINES = 2000
# Sysctls that count something: two files may well differ.
COUNTS = re.compile(r"(_count|-nr|[-_]state|aio-nr|\.nr_\w+|fs\.dentry-negative|random\.|boot_id|uuid)$")

# What is known of a process and of an interface by one file or by another.
OF_PROCESS = ("program", "files_soft", "files_hard", "files_open")
OF_INTERFACE = ("mtu", "offloads", "counters")


# A time, a file, and a line of it.
Order = tuple[float, str, int]
Thing = TypeVar("Thing", Process, Interface)


class Listed(NamedTuple):
    """A list of sockets, which is summed up when it is known who listens: `half` is 4 or 6 of /proc/net/tcp or tcp6."""

    summed_up: Callable[[set[int]], Sockets]
    half: int = 0


def when(source: Source, taken: Moment | None) -> Order:
    """What sorts facts from the first to the last: their times, and their files where these are alike."""
    return taken.epoch if taken else 0.0, source.file, source.line


def _is_last(read_at: dict[str, Order], name: str, source: Source, taken: Moment | None) -> bool:
    """Whether nothing later was read of it; if so, it is remembered as the last."""
    place = when(source, taken)
    if place < read_at.get(name, place):
        return False
    read_at[name] = place
    return True


def _stand(
    facts: dict[str, Fact[Any]], read_at: dict[str, Order], name: str, value: Fact[Any], taken: Moment | None
) -> bool:
    """Let a fact stand, unless a later one does; whether it does now."""
    is_last = _is_last(read_at, name, value.source, taken)
    if is_last:
        facts[name] = value
    return is_last


def _of_both(before: Thing | None, new: Thing, fields: Iterable[str], *, is_last: bool) -> Thing:
    """What two files say of one thing: the last, with what it lacks from the first."""
    if before is None:
        return new
    first, last = (before, new) if is_last else (new, before)
    lacks = {name: getattr(first, name) for name in fields if getattr(last, name) in (None, "", {})}
    return msgspec.structs.replace(last, **lacks)


@dataclass
class Seen:
    """What was seen of a listener, as it was read."""

    looks: list[Look] = field(default_factory=list)
    processes: dict[int, None] = field(default_factory=dict)


@dataclass
class SpaceDraft:
    """A network namespace while it is read."""

    name: str
    sysctls: dict[str, Fact[str]] = field(default_factory=dict)
    read_at: dict[str, Order] = field(default_factory=dict)
    counters: list[Sample] = field(default_factory=list)
    gauges: list[Sample] = field(default_factory=list)
    listeners: dict[tuple[Endpoint, str], Seen] = field(default_factory=dict)
    listening: set[int] = field(default_factory=set)
    lists: list[Listed] = field(default_factory=list)
    conntrack: list[TrackedTable] = field(default_factory=list)
    interfaces: dict[str, Interface] = field(default_factory=dict)
    unknown: dict[str, Unknown] = field(default_factory=dict)
    called: dict[int, str] = field(default_factory=dict)

    def listener(self, local: Endpoint, mark: str, look: Look, held_by: tuple[tuple[str, int], ...] = ()) -> None:
        """One more look at a listener; `mark` is empty, or "#2" for a second one there, where the output has none."""
        for name, number in held_by:
            # netstat shows the begin of a command line, cut off; ss the whole name.
            self.called[number] = max(self.called.get(number, ""), name, key=lambda each: (len(each), each))
        self.listening.add(local.port)
        seen = self.listeners.setdefault((local, mark), Seen())
        seen.looks.append(look)
        seen.processes |= dict.fromkeys(number for _, number in held_by if number)

    def interface(self, seen: Interface, taken: Moment | None) -> None:
        """A network interface; what the last file does not say of it, another one may."""
        is_last = _is_last(self.read_at, f"interface {seen.name}", seen.source, taken)
        self.interfaces[seen.name] = _of_both(self.interfaces.get(seen.name), seen, OF_INTERFACE, is_last=is_last)

    def _listeners(self) -> Iterator[Listener]:
        """The listeners, as far as they are told apart by their addresses and marks."""
        for (local, mark), seen in self.listeners.items():
            yield Listener(local, in_order(seen.looks), mark, processes=tuple(seen.processes))

    def _sockets(self) -> Iterator[Sockets]:
        """The lists of sockets; what /proc/net/tcp and tcp6 list are two halves of one, in whatever order they come."""
        halves: dict[int, list[Sockets]] = {0: [], 4: [], 6: []}
        for listed in self.lists:
            halves[listed.half].append(listed.summed_up(self.listening))
        yield from halves[0]
        for six in halves[6]:
            four = min(halves[4], key=partial(_apart, six), default=None)
            if four:
                halves[4].remove(four)
            yield both(four, six) if four else six
        yield from halves[4]

    def finish(self) -> Namespace:
        """The namespace as it is now."""
        return Namespace(
            self.name,
            dict(sorted(self.sysctls.items())),
            tuple(self.counters),
            tuple(self.gauges),
            tuple(
                sorted(
                    map(self._named, one_each(by_address(self._listeners()))),
                    key=lambda each: (each.local.port, each.local.address, each.mark),
                )
            ),
            tuple(self._sockets()),
            tuple(self.conntrack),
            tuple(interface for _, interface in sorted(self.interfaces.items())),
            self.unknown,
        )

    def _named(self, listener: Listener) -> Listener:
        """A listener with the names of the processes that hold it."""
        numbers = tuple(sorted(listener.processes))
        programs = tuple(dict.fromkeys(self.called[number] for number in numbers if self.called[number]))
        return msgspec.structs.replace(listener, programs=programs, processes=numbers)


def _apart(six: Sockets, four: Sockets) -> tuple[bool, float, int]:
    """How far two halves are from one another: in their names, in time, and in lines."""
    times = [table.taken.epoch if table.taken else 0.0 for table in (four, six)]
    return (
        four.source.file + "6" != six.source.file,
        abs(times[1] - times[0]),
        abs(six.source.line - four.source.line) if four.source.file == six.source.file else 1 << 31,
    )


def in_order(looks: Iterable[Look]) -> tuple[Look, ...]:
    """Looks from the first to the last."""
    return tuple(sorted(looks, key=lambda look: when(look.source, look.taken)))


def joined(first: Listener, second: Listener) -> Listener:
    """What two outputs say of one listener."""
    processes = dict.fromkeys((*first.processes, *second.processes))
    mark = second.mark if not first.mark or first.mark.startswith("#") else first.mark
    return Listener(first.local, in_order((*first.looks, *second.looks)), mark, processes=tuple(processes))


def by_address(seen: Iterable[Listener]) -> Iterable[Listener]:
    """Listeners by address: what ss calls * is 0.0.0.0 of an old one and :: of a new one, as other outputs call it."""
    named: dict[tuple[Endpoint, str], Listener] = {}
    seen = tuple(seen)
    places = {listener.local for listener in seen}
    for listener in seen:
        local = listener.local
        known = [Endpoint(address, local.port) for address in ("0.0.0.0", "::")] if local.address == "*" else []
        place = next((each for each in known if each in places), local)
        before = named.get((place, listener.mark))
        moved = msgspec.structs.replace(listener, local=place)
        named[place, listener.mark] = joined(before, moved) if before else moved
    return named.values()


def one_each(seen: Iterable[Listener]) -> Iterator[Listener]:
    """Each listener once, though some outputs have marks and others none.

    Where several share a port, nothing tells which of them an output without marks means: what has marks is kept, and
    the rest only if it saw a full queue that the others did not, or limits that they do not know.
    """
    places: dict[Endpoint, list[Listener]] = {}
    for listener in seen:
        places.setdefault(listener.local, []).append(listener)
    for several in places.values():
        marked = [listener for listener in several if listener.mark and not listener.mark.startswith("#")]
        others = [listener for listener in several if listener not in marked]
        if len(marked) == 1 and len(others) <= 1:
            yield reduce(joined, others, marked[0])
            continue
        yield from marked
        seen_full = any(listener.was_full for listener in marked)
        # netstat -e and /proc/net/tcp have marks, and know no limits.
        known = any(map(knows_its_limit, marked))
        for other in others:
            if not marked or (other.was_full and not seen_full) or (knows_its_limit(other) and not known):
                yield other


def knows_its_limit(listener: Listener) -> bool:
    """Whether a look shows how long the queue may be."""
    return any(look.limit is not None for look in listener.looks)


def both(first: Sockets, second: Sockets) -> Sockets:
    """Two lists of sockets as one."""
    states = {
        state: first.states.get(state, 0) + second.states.get(state, 0)
        for state in dict.fromkeys((*first.states, *second.states))
    }
    return msgspec.structs.replace(
        first,
        total=first.total + second.total,
        states=states,
        flows=(*first.flows, *second.flows),
        notable=(*first.notable, *second.notable),
        rest=Rest(first.rest.flows + second.rest.flows, first.rest.sockets + second.rest.sockets),
        timers=first.timers or second.timers,
        info=first.info or second.info,
    )


@dataclass
class Draft:
    """A machine while it is read; `facts` are fields of Machine by their names."""

    spaces: dict[str, SpaceDraft] = field(default_factory=lambda: {MAIN: SpaceDraft(MAIN)})
    facts: dict[str, Fact[Any]] = field(default_factory=dict)
    said_at: dict[str, Order] = field(default_factory=dict)
    files: list[FileRead] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    kernel_options: dict[str, Fact[str]] = field(default_factory=dict)
    memory: dict[str, Fact[int]] = field(default_factory=dict)
    softnet: list[Sample] = field(default_factory=list)
    processes: dict[int, Process] = field(default_factory=dict)
    log: list[LogLine] = field(default_factory=list)
    captures: list[Captured] = field(default_factory=list)

    def space(self, name: str) -> SpaceDraft:
        """A namespace by its name."""
        return self.spaces.setdefault(name, SpaceDraft(name))

    def say(self, fact: str, value: Fact[Any], taken: Moment | None) -> None:
        """A fact of the machine; of several the last stands, and one that differs may be odd."""
        before, is_last = self.facts.get(fact), _stand(self.facts, self.said_at, fact, value, taken)
        if before and before.value != value.value and fact in ("kernel", "processors"):
            first, last = (before, value) if is_last else (value, before)
            self.notice(f"{fact} is {first} and {last}: are these the files of two machines?")

    def sysctl(self, space: SpaceDraft, name: str, value: Fact[str], taken: Moment | None) -> None:
        """A sysctl in force; of several the last stands, by their times, and by their files where these are alike."""
        before, is_last = space.sysctls.get(name), _stand(space.sysctls, space.read_at, name, value, taken)
        if before and before.value != value.value and not COUNTS.search(name):
            first, last = (before, value) if is_last else (value, before)
            self.notice(f"{name} is {first} and {last}; the last one counts")

    def process(self, process: Process, taken: Moment | None) -> None:
        """A process; what the last file does not say of it, another one may."""
        number = process.number
        is_last = _is_last(self.said_at, f"process {number}", process.source, taken)
        self.processes[number] = _of_both(self.processes.get(number), process, OF_PROCESS, is_last=is_last)

    def memory_of(self, name: str, size: Fact[int], taken: Moment | None) -> None:
        """A line of /proc/meminfo, in bytes; of several the last stands."""
        if _is_last(self.said_at, f"memory {name}", size.source, taken):
            self.memory[name] = size

    def kernel_option(self, name: str, value: Fact[str], taken: Moment | None) -> None:
        """An option of the kernel's configuration; of several the last stands."""
        _stand(self.kernel_options, self.said_at, name, value, taken)

    def notice(self, line: str) -> None:
        """A line about what is odd, once, and not thousands of them."""
        if line not in self.notices and len(self.notices) < 200:
            self.notices.append(line)

    def tell(self, line: LogLine) -> None:
        """A line of the log; of very many, the last ones are kept."""
        self.log.append(line)
        if len(self.log) > 2 * MOST_LOG_LINES:
            del self.log[:MOST_LOG_LINES]

    def _listening(self, spaces: list[SpaceDraft]) -> Iterator[Process]:
        """The processes that listen, and those of which a snapshot says so."""
        holders = {number for space in spaces for each in space.listeners.values() for number in each.processes}
        for number, process in sorted(self.processes.items()):
            if number in holders or process.program:
                yield process

    def finish(self) -> Machine:
        """The machine."""
        ordered = [self.spaces[MAIN], *(space for name, space in sorted(self.spaces.items()) if name != MAIN)]
        return Machine(
            tuple(space.finish() for space in ordered),
            files=tuple(self.files),
            notices=tuple(self.notices),
            kernel_options=self.kernel_options,
            memory=self.memory,
            softnet=tuple(self.softnet),
            processes=tuple(self._listening(ordered)),
            log=tuple(self.log[-MOST_LOG_LINES:]),
            captures=tuple(self.captures),
            **self.facts,
        )
