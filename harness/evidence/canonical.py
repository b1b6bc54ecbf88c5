"""The canonical form of a run: its evidence without the stamps, which two runs never have in common.

A stamp is what the kernel draws at random, or what a clock reads. STAMPS names all of them. In the canonical form each
is replaced by its name in ‹ ›; all else stands as it was measured, so that two runs can be compared byte for byte.

What is a stamp follows from the kind of a value (harness.evidence.values), and a value's path from its place: phases by
their order, comparisons by their order in the phase. What things are called (titles, labels, names of series) is not
part of the form, so that a scenario may be reworded.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.evidence.types import Check, Choice, Judgement, Law, Premise
from harness.evidence.values import Kind, Value
from harness.laws.ranges import AtLeast, AtMost, Between
from harness.observe.segments import bases

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.evidence.types import Comparison, Endpoint, Moved, Phase, Run, Series, SocketRow, SocketTable, Wanted
    from harness.observe.packet import Packet
    from harness.observe.segments import Segment

STAMPS = {
    "date": "when a run began; a time of day that a program printed",
    "clock": "what a clock read: a duration, a number with a fraction, ticks, what is left of a timer, the time of a "
    "packet and the timestamp in it. The judgement of it stands, and so does a number that is to be exactly that",
    "port": "a port that was drawn, from net.ipv4.ip_local_port_range as it is by default or as the run set it",
    "listed": "which sockets are listed, where there are more: they are sorted by their ports",
    "polled": "a course of time: how often the scenario looked, and what it saw then",
    "source": "address and port of a sender that a flood made up (198.18.0.0/15, 2001:2::/48)",
    "number": "a number of 32 bits that was drawn: an initial sequence number, a cookie, an offset of timestamps, a "
    "seed. The sequence numbers of packets count from the first of their side",
    "process": "the number of a process, of a lab",
    "counted before": "a counter's values at the start and at the end of a phase: by how much it moved stands",
    "multicast report": "IPv6 says at random times which groups it hears (RFC 3810): packets, and what counts them",
    "header": "of a packet: Ethernet addresses, IP's identification, flow label and checksums",
}


class Topic(StrEnum):
    """What a line of the form is about."""

    VERDICT = "verdict"
    KERNEL = "kernel"
    PACKETS = "packets"
    IMPAIRMENTS = "impairments"
    PHASES = "phases"
    MEASURED = "measured"
    MEMORY = "memory"
    PREDICTED = "what was predicted"
    JUDGED = "judged"
    COUNTERS = "counters"
    SOCKETS = "sockets when listed"
    KNOBS = "knobs"
    SERIES = "series"
    NOTED = "noted"


# net.ipv4.ip_local_port_range, where nobody has set it.
DEFAULT_PORTS = range(32768, 61000)
PORT_RANGE = "net.ipv4.ip_local_port_range"
# What a clock reads, and what is reckoned from that.
CLOCKS = frozenset({Kind.SECONDS, Kind.TICKS, Kind.NUMBER})
# Above this an integer in a program's output is a drawn one; one in a thousand of those drawn is below.
DRAWN_NUMBERS = range(1 << 22, 1 << 32)
ENDPOINT = re.compile(r"(?<=[\d\]*]:)\d{1,5}\b|(?<= :)\d{1,5}\b")
MADE_UP = re.compile(r"2001:2:0:[0-9a-f:]+|198\.1[89]\.\d+\.\d+")

# Stamps within what a program printed.
OUTPUTS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("date", re.compile(r"\d{4}[/-]\d\d[/-]\d\d[ T]\d\d:\d\d:\d\d|\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d"), "‹date›"),
    ("process", re.compile(r"(?<=/run/lab)\d+|\b\d+#\d+(?=:)|(?<=\bpid=)\d+"), "‹process›"),
    ("source", re.compile(rf"\[?(?:{MADE_UP.pattern})\]?:\d+"), "‹source›"),
    ("clock", re.compile(r"(?<=timer:\()(\w+),[^,)]+"), r"\1,‹clock›"),
    ("clock", re.compile(r"(?<= )(tsval|tsecr) [1-9]\d*"), r"\1 ‹clock›"),
    ("clock", re.compile(r"(?<![\d.])\d+\.\d{3,}(?![\d.])"), "‹clock›"),
    ("number", re.compile(r"(?<=fast_open )[0-9a-f]{8,}"), "‹number›"),
)  # fmt: skip
ONE_PORT = re.compile(r"(\d{4,5})([ \t])\1")
LONG_NUMBER = re.compile(r"(?<![\d.])\d{7,10}(?![\d.])")

# What a multicast report is counted in beside the counters of multicast packets and bytes.
WITH_MULTICAST = {
    "Ip6.InReceives": "Ip6.InMcastPkts",
    "Ip6.InNoECTPkts": "Ip6.InMcastPkts",
    "Ip6.InOctets": "Ip6.InMcastOctets",
    "Ip6.OutRequests": "Ip6.OutMcastPkts",
    "Ip6.OutTransmits": "Ip6.OutMcastPkts",
    "Ip6.OutOctets": "Ip6.OutMcastOctets",
    "Icmp6.OutMsgs": "Icmp6.OutMLDv2Reports",
    "Icmp6.OutType143": "Icmp6.OutMLDv2Reports",
    "Icmp6.OutMLDv2Reports": "Icmp6.OutMLDv2Reports",
}


@dataclass
class Form:
    """A run in canonical form: `lines` has the value at each path, `topics` what each is about.

    `stamps` says how many values were replaced, by name. The paths are places; nothing is to be read from them.
    """

    lines: dict[str, str] = field(default_factory=dict)
    topics: dict[str, Topic] = field(default_factory=dict)
    stamps: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """The form as text, a line for each value, sorted by path."""
        return "".join(f"{path}: {self.lines[path]}\n" for path in sorted(self.lines))


def canonical(run: Run, packets: Iterable[tuple[str, Packet]] = ()) -> Form:
    """A run of the evidence, with the packets of its capture as read_pcapng() has them."""
    return _Writer(drawn_ports(run)).write(run, list(packets))


def measured_form(value: Value, wanted: Iterable[Wanted], ranges: tuple[range, ...]) -> str:
    """What one comparison measured, in canonical form; `wanted` are the sides that it was held against.

    `ranges` are drawn_ports() of the run. Two values with the same form differ by a stamp alone.
    """
    writer = _Writer(ranges)
    return json.dumps(writer.stored(value, exact=_is_exact(value, wanted)), ensure_ascii=False)


def drawn_ports(run: Run) -> tuple[range, ...]:
    """What a run's ports were drawn from: the default, and what the run set it to."""
    texts = {
        text
        for phase in run.phases
        for knobs in phase.knobs.values()
        if PORT_RANGE in knobs
        for text in (knobs[PORT_RANGE].before, knobs[PORT_RANGE].now)
    }
    bounds = (re.fullmatch(r"(\d+)\s+(\d+)", text) for text in sorted(texts))
    return DEFAULT_PORTS, *(range(int(bound[1]), int(bound[2]) + 1) for bound in bounds if bound)


def _is_exact(measured: Value, wanted: Iterable[Wanted]) -> bool:
    """Whether it is one of the values that it was to be: then it is compared, though a clock read it."""
    return any(isinstance(side, Value) and side.plain() == measured.plain() for side in wanted)


def sides_of(comparison: Comparison) -> tuple[Wanted, ...]:
    """What a comparison holds the measurement against."""
    return (comparison.document, comparison.kernel) if isinstance(comparison, Judgement) else (comparison.wanted,)


class _Writer:
    """Writes the form of one run, piece by piece."""

    def __init__(self, ports: tuple[range, ...]) -> None:
        self._ports = ports
        self._form = Form()

    def write(self, run: Run, packets: list[tuple[str, Packet]]) -> Form:
        """All of a run."""
        self._put("kernel", Topic.KERNEL, [run.kernel.release, run.kernel.version, run.kernel.machine])
        self._put("test", Topic.KERNEL, [run.nodeid, run.params, *map(_option, run.options)])
        self._put("started", Topic.KERNEL, self._stamp("date"))
        self._put("duration", Topic.KERNEL, self._stamp("clock"))
        self._put("verdict", Topic.VERDICT, [run.outcome, run.verdict, run.expected])
        if run.absence is not None:
            self._put("absence", Topic.VERDICT, self.stored(run.absence.shown))
        for number, rule in enumerate(run.impairments):
            times = [self._stamp("clock"), self._stamp("clock") if rule.until is not None else None]
            match = {name: part for name, part in vars(rule.match).items() if name != "ack" or part is None}
            match |= {} if rule.match.ack is None else {"ack": self._stamp("number")}
            match |= {name: self._port(port) for name in ("sport", "dport") if (port := match[name]) is not None}
            self._put(f"impairments/{number}", Topic.IMPAIRMENTS, [rule.kind, rule.host, match, times, rule.dropped])
        for number, line in enumerate(run.lines):
            asked = {name: part for name, part in vars(line).items() if name not in ("seed", "towards")}
            seed = self._stamp("number") if line.drawn else line.seed
            self._put(f"lines/{number}", Topic.IMPAIRMENTS, [asked, seed])
        for number, phase in enumerate(run.phases):
            self._phase(f"phases/{number}", phase)
        self._put("phases/left out", Topic.PHASES, run.phases_left_out)
        self._packets(packets)
        return self._form

    def stored(self, value: Value, *, exact: bool = False) -> object:
        """A value without its stamps; `exact` keeps what a clock read."""
        if value.kind is Kind.SEVERAL:
            return [self.stored(part, exact=exact) for part in value.parts]
        if value.kind is Kind.NAMED:
            return {name: self.stored(part, exact=exact) for name, part in value.fields.items()}
        return [str(value.kind), self._scalar(value, exact=exact)]

    def _scalar(self, value: Value, *, exact: bool) -> object:
        plain = value.value
        if value.kind in CLOCKS and not exact:
            return self._stamp("clock")
        if value.kind is Kind.DRAWN:
            return self._stamp("number")
        if value.kind is Kind.PORT and isinstance(plain, int):
            return self._port(plain)
        if value.kind is Kind.ADDRESS and isinstance(plain, str):
            return ENDPOINT.sub(lambda match: str(self._port(int(match[0]))), plain)
        if value.kind is Kind.OUTPUT and isinstance(plain, str):
            return self._output(plain)
        # 1 and 1.0 are the same number, as 0 and -0.0 are: what JSON has depends on who wrote it.
        return int(plain) if isinstance(plain, float) and plain.is_integer() else plain

    def _stamp(self, name: str) -> str:
        self._form.stamps[name] += 1
        return f"‹{name}›"

    def _put(self, path: str, topic: Topic, content: object) -> None:
        self._form.lines[path] = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        self._form.topics[path] = topic

    def _port(self, number: int) -> int | str:
        return self._stamp("port") if any(number in ports for ports in self._ports) else number

    def _phase(self, path: str, phase: Phase) -> None:
        self._put(path, Topic.PHASES, [phase.kind, bool(phase.interrupted), phase.comparisons_left_out])
        for number, comparison in enumerate(phase.comparisons):
            self._comparison(f"{path}/comparisons/{number}", comparison)
        for host, knobs in phase.knobs.items():
            for name, knob in knobs.items():
                self._put(f"{path}/knobs/{host}/{name}", Topic.KNOBS, [knob.before, knob.now])
        for host, counters in phase.counters.items():
            self._counters(f"{path}/counters/{host}", counters)
        for host, table in phase.sockets.items():
            self._sockets(f"{path}/sockets/{host}", table)
        for number, note in enumerate(phase.notes):
            self._put(f"{path}/notes/{number}", Topic.NOTED, self.stored(note.value))
        for number, series in enumerate(phase.series):
            self._series(f"{path}/series/{number}", series)

    def _comparison(self, path: str, comparison: Comparison) -> None:
        wanted = sides_of(comparison)
        exact = _is_exact(comparison.measured, wanted)
        about = Topic.MEMORY if _holds(comparison.measured, Kind.BYTES) else Topic.MEASURED
        self._put(f"{path}/measured", about, self.stored(comparison.measured, exact=exact))
        clock = _holds(comparison.measured, *CLOCKS)
        self._put(f"{path}/wanted", Topic.PREDICTED, [self._wanted(side, clock=clock, exact=exact) for side in wanted])
        self._put(f"{path}/judged", Topic.JUDGED, _judged(comparison))

    def _wanted(self, wanted: Wanted, *, clock: bool, exact: bool) -> object:
        """A side of a comparison; the bounds of a clock's range are often reckoned from what another clock read."""
        if isinstance(wanted, Value):
            return self.stored(wanted, exact=exact)
        if isinstance(wanted, Choice):
            return ["one of", *(self.stored(option, exact=exact) for option in wanted.options)]
        if isinstance(wanted, Law):
            return [wanted.name, {name: self.stored(part, exact=True) for name, part in wanted.fields.items()}]
        bounds = _bounds(wanted)
        return [type(wanted).__name__, *(self._stamp("clock") if clock else bound for bound in bounds)]

    def _counters(self, path: str, counters: dict[str, Moved]) -> None:
        moved = {name: counter.by for name, counter in counters.items()}
        for name, multicast in WITH_MULTICAST.items():
            if name in moved:
                moved[name] -= counters[multicast].by if multicast in counters else 0
        for name, by in moved.items():
            if "McastPkts" in name or "McastOctets" in name or not by:
                self._stamp("multicast report")
            else:
                self._stamp("counted before")
                self._put(f"{path}/{name}", Topic.COUNTERS, f"{by:+d}")

    def _sockets(self, path: str, table: SocketTable) -> None:
        self._put(path, Topic.SOCKETS, [table.total, table.states])
        if len(table.rows) < table.total:
            self._put(f"{path}/rows", Topic.SOCKETS, self._stamp("listed"))
            return
        # Rows are sorted by their ports, which were drawn.
        for number, row in enumerate(sorted(map(self._socket, table.rows))):
            self._put(f"{path}/rows/{number}", Topic.SOCKETS, row)

    def _socket(self, row: SocketRow) -> str:
        timer = "" if row.timer is None else f"{row.timer.kind} {self._stamp('clock')} {row.timer.retransmits}"
        return f"{row.state} {row.recv_q} {row.send_q} {self._endpoint(row.local)} {self._endpoint(row.peer)} {timer}"

    def _endpoint(self, endpoint: Endpoint) -> str:
        if MADE_UP.fullmatch(endpoint.address):
            return self._stamp("source")
        return f"{endpoint.address} {self._port(endpoint.port)}"

    def _series(self, path: str, series: Series) -> None:
        kinds = [str(series.kind), str(series.x_kind), series.unit, series.x]
        self._put(path, Topic.SERIES, kinds)
        if series.x_kind in CLOCKS:
            self._put(f"{path}/points", Topic.SERIES, self._stamp("polled"))
            return
        points = [[x, self._stamp("clock") if series.kind in CLOCKS else y] for x, y in series.points]
        self._put(f"{path}/points", Topic.SERIES, points)

    def _output(self, text: str) -> str:
        for name, pattern, instead in OUTPUTS:
            text, many = pattern.subn(instead, text)
            self._form.stamps.update({name: many} if many else {})
        text = ENDPOINT.sub(lambda match: str(self._port(int(match[0]))), text)
        text = ONE_PORT.sub(lambda match: f"{self._port(int(match[1]))}{match[2]}{self._port(int(match[1]))}", text)
        return LONG_NUMBER.sub(
            lambda match: self._stamp("number") if int(match[0]) in DRAWN_NUMBERS else match[0], text
        )

    def _packets(self, packets: list[tuple[str, Packet]]) -> None:
        """The packets that each host saw, in their order within each connection; other than TCP by their size alone."""
        hosts: dict[str, list[Segment]] = defaultdict(list)
        others: Counter[str] = Counter()
        for host, packet in packets:
            segment = packet.segment()
            if segment is not None:
                hosts[f"{host}:{packet.interface}"].append(segment)
            elif _is_multicast_report(packet):
                self._stamp("multicast report")
            else:
                path = f"packets/{host}/other/{others[host]}"
                others[host] += 1
                self._put(path, Topic.PACKETS, f"{packet.direction} {packet.length} bytes")
        for place, segments in hosts.items():
            for connection, flow in enumerate(_flows(segments), 1):
                for number, line in enumerate(flow):
                    self._form.stamps["header"] += 1
                    self._put(f"packets/{place}/{connection}/{number}", Topic.PACKETS, self._output(line))


def _judged(comparison: Comparison) -> list[str]:
    """The role of a comparison, and what came of it."""
    if isinstance(comparison, Judgement):
        return ["document", str(comparison.result)]
    role = {Premise: "premise", Check: "control"}[type(comparison)]
    return [role, "met" if comparison.met else "not met"]


def _holds(value: Value, *kinds: Kind) -> bool:
    """Whether a value is of one of these kinds, or has such a part."""
    parts = (*value.parts, *value.fields.values())
    return value.kind in kinds or any(_holds(part, *kinds) for part in parts)


def _bounds(wanted: Between | AtLeast | AtMost) -> tuple[float, ...]:
    if isinstance(wanted, Between):
        return wanted.low, wanted.high
    return (wanted.low,) if isinstance(wanted, AtLeast) else (wanted.high,)


def _flows(segments: list[Segment]) -> Iterator[list[str]]:
    """The segments of each pair of endpoints as lines, by which pair was seen first."""
    flows: dict[frozenset[tuple[str, int]], list[str]] = defaultdict(list)
    for segment, (seq, ack) in zip(segments, bases(segments), strict=True):
        ends = frozenset(((segment.src, segment.sport), (segment.dst, segment.dport)))
        line = segment.line(since=segment.time, seq_base=seq, ack_base=ack).partition(" ")[2]
        payload = f" {segment.payload.decode(errors='replace')!r}" if segment.payload else ""
        flows[ends].append(f"{segment.direction} {line} ttl {segment.ttl}{payload}")
    yield from flows.values()


def _is_multicast_report(packet: Packet) -> bool:
    """IPv6 with a hop-by-hop header, to a group: a router alert, which no other packet of a lab has."""
    start = 14 if packet.ethernet else 0
    return (
        packet.frame[start : start + 1] == b"\x60" and packet.frame[start + 6] == 0 and packet.frame[start + 24] == 0xFF
    )


def _option(written: str) -> str:
    """An option of pytest by its name without a prefix: evidence from before 0.2 has none."""
    return written.replace("--tcp-", "--")
