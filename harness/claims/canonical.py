"""The canonical form of a run: its evidence without the stamps, which two runs never have in common.

A stamp is what the kernel draws at random, or what a clock reads. STAMPS names all of them. In the canonical form each
is replaced by its name in ‹ ›; all else stands as it was measured, so that two runs can be compared byte for byte.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.errors import BadInput
from harness.observe.segments import bases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from harness.observe.capture import Packet
    from harness.observe.segments import Segment

STAMPS = {
    "date": "when a run began; a time of day that a program printed",
    "clock": "what a clock read: a duration, a number with a fraction, ticks, what is left of a timer, the time of a "
    "packet and the timestamp in it. The judgement of it stands, and so does a number that is to be exactly that",
    "port": "a port that was drawn, from net.ipv4.ip_local_port_range as it is by default or as the run set it",
    "listed": "which sockets are listed, where there are more: they are sorted by their ports",
    "source": "address and port of a sender that a flood made up (198.18.0.0/15, 2001:2::/48)",
    "number": "a number of 32 bits that was drawn: an initial sequence number, a cookie, an offset of timestamps. The "
    "sequence numbers of packets count from the first of their side",
    "process": "the number of a process, of a lab",
    "counted before": "a counter's values at the start and at the end of a phase: by how much it moved stands",
    "multicast report": "IPv6 says at random times which groups it hears (RFC 3810): packets, and what counts them",
    "header": "of a packet: Ethernet addresses, IP's identification, flow label and checksums",
}

# net.ipv4.ip_local_port_range, where nobody has set it.
DEFAULT_PORTS = range(32768, 61000)
PORT_RANGE = "net.ipv4.ip_local_port_range"
# Above this an integer is a drawn one; one in a thousand of those drawn is below.
DRAWN_NUMBERS = range(1 << 22, 1 << 32)
# Integers that a clock read are told by what they are called.
CLOCK_WORDS = re.compile(r"\b(ticks|seconds|microseconds|ms|offsets)\b")
# How the ranges of harness.laws.ranges are written down: those of a clock's are often computed from what it read.
RANGE = re.compile(r"^(?:between|at least|at most) ")
IN_RANGE = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])")
PORT_WORDS = re.compile(r"\b[sd]?ports?\b")
ENDPOINT = re.compile(r"(?<=[\d\]*]:)\d{1,5}\b|(?<= :)\d{1,5}\b")
ONE_PORT = re.compile(r"(\d{4,5})([ \t])\1")

# Stamps within text.
TEXTS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("date", re.compile(r"\d{4}[/-]\d\d[/-]\d\d[ T]\d\d:\d\d:\d\d|\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d"), "‹date›"),
    ("process", re.compile(r"(?<=/run/lab)\d+|\b\d+#\d+(?=:)|(?<=\bpid=)\d+"), "‹process›"),
    ("source", re.compile(r"\[2001:2:0:[0-9a-f:]+\]:\d+|\b198\.1[89]\.\d+\.\d+:\d+"), "‹source›"),
    ("clock", re.compile(r"(?<=timer:\()(\w+),[^,)]+"), r"\1,‹clock›"),
    ("clock", re.compile(r"^([\w ]+?) [\d.e+-]+s(?=, \d+ retransmits$)"), r"\1 ‹clock›"),
    ("clock", re.compile(r"(?<= )(tsval|tsecr) [1-9]\d*"), r"\1 ‹clock›"),
    ("clock", re.compile(r"(?<![\d.])\d+\.\d{3,}(?![\d.])"), "‹clock›"),
    ("number", re.compile(r"(?<=fast_open )[0-9a-f]{8,}"), "‹number›"),
)  # fmt: skip
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
    """A run in canonical form: `lines` has the value at each path; `stamps` says how many were replaced."""

    lines: dict[str, str] = field(default_factory=dict)
    stamps: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """The form as text, a line for each value, sorted by path: the order of an object's keys says nothing."""
        return "".join(f"{path}: {self.lines[path]}\n" for path in sorted(self.lines))


def canonical(run: dict[str, Any], packets: Iterable[tuple[str, Packet]] = ()) -> Form:
    """A run of the evidence, with the packets of its capture as read_pcapng() has them; BadInput if it is not one."""
    captured = list(packets)
    try:
        return _Run(_drawn_ports(run, captured)).form(run, captured)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise BadInput(f"{run.get('nodeid')}: not a run as the evidence has them: {error}") from None


def measured(run: dict[str, Any]) -> Callable[[dict[str, Any]], list[str]]:
    """A function that gives what one of the run's comparisons measured, in canonical form."""
    ports = _drawn_ports(run, ())
    return lambda comparison: _Run(ports).measured(comparison)


def _drawn_ports(run: dict[str, Any], packets: Iterable[tuple[str, Packet]]) -> set[int]:
    """The drawn ports that stand behind an address somewhere in the run, or in its packets."""
    found = {int(port) for port in ENDPOINT.findall(json.dumps(run, ensure_ascii=False))}
    for _, packet in packets:
        if segment := packet.segment():
            found |= {segment.sport, segment.dport}
    ranges = [DEFAULT_PORTS, *_ranges(run)]
    return {port for port in found if any(port in one for one in ranges)}


def _ranges(run: dict[str, Any]) -> Iterator[range]:
    """What the run set the range of ports to."""
    for phase in run.get("phases", ()):
        for knobs in phase.get("knobs", {}).values():
            for value in knobs.get(PORT_RANGE, ()):
                low, high = map(int, value.split())
                yield range(low, high + 1)


class _Run:
    """What is put into the form of one run, piece by piece."""

    def __init__(self, ports: set[int]) -> None:
        self._ports = ports
        self._made = Form()

    def form(self, run: dict[str, Any], packets: list[tuple[str, Packet]]) -> Form:
        """All of a run."""
        for key, value in run.items():
            if key == "phases":
                for index, phase in enumerate(value):
                    self._phase(f"phases/{index} {phase.get('kind')}", phase)
            elif key in ("started", "duration"):
                self._put(key, self._stamp("date" if key == "started" else "clock"))
            else:
                self._walk(key, value)
        self._packets(packets)
        return self._made

    def measured(self, comparison: dict[str, Any]) -> list[str]:
        """What a comparison measured, alone."""
        self._comparisons("", [comparison])
        return [value for path, value in self._made.lines.items() if "/measured" in path]

    def _stamp(self, name: str) -> str:
        self._made.stamps[name] += 1
        return f"‹{name}›"

    def _put(self, path: str, value: str) -> None:
        self._made.lines[path] = value

    def _phase(self, path: str, phase: dict[str, Any]) -> None:
        parts: dict[str, Callable[[str, Any], None]] = {
            "comparisons": self._comparisons, "counters": self._counters, "sockets": self._sockets
        }  # fmt: skip
        for key, value in phase.items():
            parts.get(key, self._walk)(f"{path}/{key}", value)

    def _comparisons(self, path: str, comparisons: list[dict[str, Any]]) -> None:
        for index, one in enumerate(comparisons):
            here = f"{path}/{index} {self._text(str(one.get('what')))}"
            sides = [one[side] for side in ("document", "kernel", "wanted") if side in one]
            for key, value in one.items():
                # What is to be one value is compared, though it has a fraction; what is to be in a range is not.
                exact = key != "what" and one.get("measured") in sides
                self._walk(f"{here}/{key}", value, exact=exact)

    def _counters(self, path: str, hosts: dict[str, dict[str, list[int]]]) -> None:
        for host, counters in hosts.items():
            moved = {name: row[2] for name, row in counters.items()}
            for name, multicast in WITH_MULTICAST.items():
                if name in moved:
                    moved[name] -= moved.get(multicast, 0)
            for name, by in moved.items():
                if "McastPkts" in name or "McastOctets" in name or not by:
                    self._stamp("multicast report")
                else:
                    self._stamp("counted before")
                    self._put(f"{path}/{host}/{name}", f"{by:+d}")

    def _sockets(self, path: str, hosts: dict[str, dict[str, Any]]) -> None:
        for host, table in hosts.items():
            self._walk(f"{path}/{host}", {key: value for key, value in table.items() if key != "rows"})
            rows = table.get("rows", [])
            if len(rows) < table.get("total", 0):
                self._put(f"{path}/{host}/rows", self._stamp("listed"))
                continue
            # Rows are sorted by their ports, which were drawn.
            for index, row in enumerate(sorted(" ".join(self._text(str(cell)) for cell in row) for row in rows)):
                self._put(f"{path}/{host}/rows/{index}", row)

    def _walk(self, path: str, value: Any, *, exact: bool = False) -> None:
        """Put a value of any shape; `exact` keeps what a clock read."""
        if isinstance(value, dict):
            for key, one in value.items():
                self._walk(f"{path}/{self._text(str(key))}", one, exact=exact)
        elif isinstance(value, list):
            self._put(f"{path}/length", str(len(value)))
            for index, one in enumerate(value):
                self._walk(f"{path}/{index}", one, exact=exact)
        elif isinstance(value, float) and not exact:
            self._put(path, self._stamp("clock"))
        elif isinstance(value, int) and not isinstance(value, bool):
            self._put(path, self._integer(path, value, exact=exact))
        elif isinstance(value, str):
            in_ticks = not exact and RANGE.match(value) and CLOCK_WORDS.search(path)
            self._put(path, self._text(IN_RANGE.sub(lambda _: self._stamp("clock"), value) if in_ticks else value))
        else:
            self._put(path, json.dumps(value))

    def _integer(self, path: str, value: int, *, exact: bool) -> str:
        if value in self._ports or (value in DEFAULT_PORTS and PORT_WORDS.search(path)):
            return self._stamp("port")
        if not exact and CLOCK_WORDS.search(path):
            return self._stamp("clock")
        if value in DRAWN_NUMBERS and "bytes" not in path:
            return self._stamp("number")
        return str(value)

    def _text(self, text: str) -> str:
        for name, pattern, instead in TEXTS:
            text, many = pattern.subn(instead, text)
            self._made.stamps.update({name: many} if many else {})
        text = ENDPOINT.sub(self._port, text)
        text = ONE_PORT.sub(
            lambda one: f"{self._port(one, 1)}{one[2]}‹port›" if int(one[1]) in self._ports else one[0], text
        )
        return LONG_NUMBER.sub(lambda one: self._stamp("number") if int(one[0]) in DRAWN_NUMBERS else one[0], text)

    def _port(self, found: re.Match[str], group: int = 0) -> str:
        return self._stamp("port") if int(found[group]) in self._ports else found[group]

    def _packets(self, packets: list[tuple[str, Packet]]) -> None:
        """The packets that each host saw, in their order within each connection; other than TCP by their kind alone."""
        hosts: dict[str, list[Segment]] = defaultdict(list)
        for host, packet in packets:
            segment = packet.segment()
            if segment is not None:
                hosts[f"{host}:{packet.interface}"].append(segment)
            elif _is_multicast_report(packet):
                self._stamp("multicast report")
            else:
                self._put(f"packets/{host}/other/{len(self._made.lines)}", f"{packet.direction} {packet.length} bytes")
        for place, segments in hosts.items():
            for number, flow in enumerate(_flows(segments), 1):
                for index, line in enumerate(flow):
                    self._made.stamps["header"] += 1
                    self._put(f"packets/{place}/connection {number}/{index}", self._text(line))


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
