"""What the program of `harness snapshot` printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from harness.errors import BadInput
from harness.evidence.types import Endpoint, SocketTimer
from harness.incident.conntrack import Tracked, TrackedTable
from harness.incident.counters import LeftOut, Sample
from harness.incident.draft import Listed
from harness.incident.facts import Basis, Fact, Moment, Unknown
from harness.incident.machine import MAIN, FileRead, Interface, LogLine, Process, Told
from harness.incident.reading.counters import COLUMNS
from harness.incident.reading.lines import plain
from harness.incident.snapshot_file import SCHEMA, SnapshotFile
from harness.incident.sockets import Connection, Direction, Flow, Look, Rest, Sockets

if TYPE_CHECKING:
    from harness.incident.draft import SpaceDraft
    from harness.incident.facts import Source
    from harness.incident.reading.context import Context
    from harness.incident.snapshot_file import CounterSample, MachineFacts, NamespaceSeen, NotableSocket, SoftnetSample

_decoder = msgspec.json.Decoder(SnapshotFile)


def read_snapshot(content: bytes, context: Context) -> None:
    """Read a snapshot; BadInput for what is none, or is of another schema."""
    try:
        snapshot = _decoder.decode(content)
        msgspec.json.encode(snapshot)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, OverflowError) as error:
        raise BadInput(f"{context.file}: not a whole snapshot: {error}") from None
    if snapshot.schema != SCHEMA or not snapshot.namespaces:
        raise BadInput(f"{context.file}: a snapshot of schema {snapshot.schema}, this harness reads {SCHEMA}")
    context.taken = Moment(snapshot.taken, Basis.SAID)
    source = context.source(1)
    _machine(snapshot.machine, context, source)
    for told, count, uptime in snapshot.log:
        _log(told, count, uptime, context)
    _processes(snapshot, context)
    names = {process.number: plain(process.program, 32) for process in snapshot.processes}
    for number, seen in enumerate(snapshot.namespaces):
        # The first is the program's own, whatever it calls it.
        _Space(context, MAIN if number == 0 else plain(seen.name, 64), snapshot, names).read(seen)
    if snapshot.namespaces_left_out:
        context.draft.notice(
            f"{context.file}: {snapshot.namespaces_left_out} more network namespaces were not looked at"
        )
    context.draft.files.append(FileRead(source, "harness snapshot", 1, context.namespace, context.taken))


def _machine(machine: MachineFacts, context: Context, source: Source) -> None:
    draft = context.draft
    pretty = machine.distribution.get("PRETTY_NAME", machine.distribution.get("NAME", ""))
    facts = {"kernel": machine.kernel, "build": machine.build, "distribution": pretty}
    for name, text in facts.items():
        context.say(name, Fact(plain(text), source))
    numbers = {"uptime": machine.uptime, "processors": machine.processors, "numa_nodes": machine.numa_nodes}
    for name, number in numbers.items():
        if number is not None:
            context.say(name, Fact(number, source))
    for name, value in machine.options.items():
        draft.kernel_option(name, Fact(plain(value), source), context.taken)
    for name, size in machine.memory.items():
        draft.memory_of(name, Fact(size, source), context.taken)
    for sample in machine.softnet:
        _softnet(sample, context, source)


def _softnet(sample: SoftnetSample, context: Context, source: Source) -> None:
    numbers: dict[str, int] = {}
    for processor, values in enumerate(sample.processors):
        for name, value in zip(COLUMNS, values, strict=False):
            numbers[f"softnet.{name}.cpu{processor}"] = value
            numbers[f"softnet.{name}"] = numbers.get(f"softnet.{name}", 0) + value
    if numbers:
        facts = {name: Fact(value, source) for name, value in numbers.items()}
        taken = Moment(sample.taken, Basis.SAID)
        context.draft.softnet.append(Sample(source, facts, ("softnet",), LeftOut.NOTHING, taken))


def _log(told: str, count: int, uptime: float, context: Context) -> None:
    if told in set(Told):
        line = LogLine(Told(told), f"{told}: {count} lines, the last at {uptime:.3f} s", context.source(1), uptime)
        context.draft.tell(line)


def _processes(snapshot: SnapshotFile, context: Context) -> None:
    for process in snapshot.processes:
        limits = process.files_soft, process.files_hard, process.files_open
        seen = Process(process.number, plain(process.program, 32), context.source(1), *limits)
        context.draft.process(seen, context.taken)


class _Space:
    """One namespace of a snapshot."""

    def __init__(self, context: Context, name: str, snapshot: SnapshotFile, programs: dict[int, str]) -> None:
        self.context = context
        self.source = context.source(1)
        self.space: SpaceDraft = context.draft.space(name)
        self.names = snapshot.counter_names
        self.programs = programs

    def read(self, seen: NamespaceSeen) -> None:
        for sample in seen.samples:
            self._sample(sample)
        for name, value in seen.sysctls.items():
            self.context.draft.sysctl(
                self.space, plain(name, 200), Fact(plain(value, 200), self.source), self.context.taken
            )
        self._listeners(seen)
        self._sockets(seen)
        for interface in seen.interfaces:
            name = plain(interface.name, 32)
            said = Interface(name, self.source, interface.mtu, interface.offloads, interface.counters)
            self.space.interface(said, self.context.taken)
        self._conntrack(seen)

    def _sample(self, sample: CounterSample) -> None:
        taken = Moment(sample.taken, Basis.SAID)
        named = {f"{group}.{name}": 0 for group, names in self.names.items() for name in names}
        named |= {f"{group}.{name}": n for group, table in sample.counters.items() for name, n in table.items()}
        gauges = {
            f"sockstat.{group}.{name}": n for group, table in sample.sockstat.items() for name, n in table.items()
        }
        groups = tuple(self.names)
        for numbers, samples, of in (
            (named, self.space.counters, groups),
            (gauges, self.space.gauges, ("sockstat",)),
        ):
            facts = {name: Fact(value, self.source) for name, value in numbers.items()}
            samples.append(Sample(self.source, facts, of, LeftOut.NOTHING, taken))

    def _listeners(self, seen: NamespaceSeen) -> None:
        for listener in seen.listeners:
            held_by = tuple((self.programs.get(number, ""), number) for number in listener.processes)
            for epoch, waiting, limit, drops in listener.looks:
                look = Look(self.source, waiting, limit, drops, Moment(epoch, Basis.SAID))
                self.space.listener(_endpoint(listener.local), plain(listener.mark, 32), look, held_by)
        if seen.listeners_left_out:
            self.context.draft.notice(f"{self.context.file}: {seen.listeners_left_out} more listeners were not listed")

    def _sockets(self, seen: NamespaceSeen) -> None:
        table = seen.sockets
        flows = tuple(
            Flow(
                Direction(flow.direction), plain(flow.state, 16), _endpoint(flow.local), _endpoint(flow.peer),
                flow.sockets, self.source, flow.peers, flow.recv_q, flow.send_q, flow.with_recv_q, flow.with_send_q,
                flow.retransmitting, flow.most_retransmits,
            )
            for flow in table.flows
        )  # fmt: skip
        notable = tuple(map(self._notable, table.notable))
        states = {plain(state, 16): n for state, n in table.states.items()}
        taken = Moment(table.taken, Basis.SAID)
        ready = Sockets(
            self.source, table.total, states, flows, notable, Rest(*table.rest), taken, "harness snapshot",
            timers=True, info=True,
        )  # fmt: skip
        self.space.lists.append(Listed(lambda _: ready))

    def _notable(self, seen: NotableSocket) -> Connection:
        kind, seconds, retransmits = seen.timer
        timer = SocketTimer(plain(kind, 16), seconds, retransmits) if kind else None
        ends = _endpoint(seen.local), _endpoint(seen.peer)
        return Connection(plain(seen.state, 16), *ends, seen.recv_q, seen.send_q, self.source, timer, seen.info)

    def _conntrack(self, seen: NamespaceSeen) -> None:
        table = seen.conntrack
        statistics = {f"conntrack.{plain(name, 32)}": Fact(n, self.source) for name, n in table.statistics.items()}
        statistics.pop("conntrack.entries", None)
        # Since the samples have them as well, those here add nothing.
        if statistics and "conntrack" not in self.names:
            sample = Sample(self.source, statistics, ("conntrack",), LeftOut.NOTHING, self.context.taken)
            self.space.counters.append(sample)
        if table.total is None:
            why = "the snapshot's user may not read it, or there is none"
            self.space.unknown["conntrack"] = Unknown(why)
            return
        flows = tuple(
            Tracked(
                plain(flow.protocol, 16), plain(flow.state, 16), _endpoint(flow.destination), flow.entries, self.source,
                flow.sources, _endpoint(flow.answers_from) if flow.answers_from[0] else None, plain(flow.seen_as, 64),
                flow.ports, flow.unanswered,
            )
            for flow in table.flows
        )  # fmt: skip
        left_out = table.total - sum(flow.entries for flow in flows)
        states = {plain(state, 16): n for state, n in table.states.items()}
        self.space.conntrack.append(TrackedTable(self.source, table.total, states, flows, left_out, self.context.taken))


def _endpoint(pair: tuple[str, int]) -> Endpoint:
    return Endpoint(plain(pair[0], 64), pair[1])
