"""From a capture to what passed between hosts: who sent each segment to whom, and which were lost or not heeded.

A capture says what a host's interface saw, and when; whether a segment was dropped it does not say. Of those that the
scenario itself dropped or held, the evidence has the rules. For all others it follows from what came after. Who sends
again what has to be acknowledged (SYN, FIN, data) has not had the acknowledgement: either the segment or the
acknowledgement did not get through, and the last one that was seen is the one. The ACK that ends a handshake was
dropped if the listener's side is half-open all the same. Where both ends were captured, what left the one and never
reached the other was lost between them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.observe.segments import bases

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.observe.capture import Packet
    from harness.observe.segments import Segment

Endpoint = tuple[str, int]
WRAP = 1 << 32
# With more hosts than this the diagram is cut into one for each client.
MOST_LANES = 4


class Fate(StrEnum):
    """What became of a segment, as far as the capture tells."""

    ARRIVED = ""
    TAKEN = "taken"  # a rule of the scenario dropped it on arrival, as a cable that loses it
    HELD = "held"  # a rule of the scenario dropped it on arrival, and it was delivered later
    DROPPED = "dropped"  # it reached the host whose address it bears, and had no effect there
    LOST = "lost"  # it left one captured host and never reached the other
    IGNORED = "ignored"  # a crafted peer got it and sent the same again
    UNANSWERED = "unanswered"  # it left the captured host, and the other side acted as if it had not


@dataclass
class Arrow:
    """A segment on its way between two hosts.

    `left` and `came` are when it was seen to leave the one and to reach the other, in seconds since the epoch; None
    where nobody looked. `again` counts how often the same was sent before; `late` is a held one that was let go.
    """

    segment: Segment
    source: str
    target: str
    left: float | None
    came: float | None
    seq: int = 0
    ack: int = 0
    fate: Fate = Fate.ARRIVED
    again: int = 0
    late: bool = False

    @property
    def time(self) -> float:
        """When it was first seen."""
        return self.left if self.left is not None else self.came or 0.0

    @property
    def must_be_acknowledged(self) -> bool:
        """Whether it takes up sequence numbers."""
        return bool(self.segment.length or set(self.segment.flags) & {"S", "F"})

    @property
    def end(self) -> int:
        """The sequence number behind it."""
        return (self.segment.seq + self.segment.length + sum(flag in self.segment.flags for flag in "SF")) % WRAP

    def acknowledges(self, end: int) -> bool:
        """Whether it acknowledges everything before `end`."""
        flags = self.segment.flags
        return "A" in flags and "R" not in flags and (self.segment.ack - end) % WRAP < WRAP // 2

    @property
    def content(self) -> tuple[Any, ...]:
        """What is the same when it is sent again."""
        return self.segment.seq, self.segment.length, "S" in self.segment.flags, "F" in self.segment.flags


@dataclass
class Exchange:
    """What passed between clients and one listening endpoint, in the order of time; `lanes` from left to right."""

    service: Endpoint
    arrows: list[Arrow] = field(default_factory=list)
    lanes: list[str] = field(default_factory=list)


class _Sighting(NamedTuple):
    host: str
    segment: Segment


def exchanges(
    packets: Iterable[tuple[str, Packet]],
    phases: Sequence[dict[str, Any]],
    impairments: Sequence[dict[str, Any]] = (),
) -> list[Exchange]:
    """What was captured, an exchange for each listening endpoint.

    `phases` and `impairments` are those of the evidence: they tell whose the addresses are, and what the scenario
    dropped. A rule that cannot be read marks nothing.
    """
    sightings = [
        _Sighting(host, segment)
        for host, packet in packets
        if (segment := packet.segment()) and packet.interface != "lo"
    ]
    sightings.sort(key=lambda one: one.segment.time)
    owners = _owners(phases)
    arrows = _arrows(sightings, owners)
    for arrow, (seq, ack) in zip(arrows, bases(arrow.segment for arrow in arrows), strict=True):
        arrow.seq, arrow.ack = (arrow.segment.seq - seq) % WRAP, (arrow.segment.ack - ack) % WRAP
    for rule in impairments:
        with suppress(AttributeError, KeyError, TypeError):
            _impaired(arrows, rule)
    _lost_between(arrows, {one.host for one in sightings})
    _not_heeded(arrows, owners)
    _half_open(arrows, phases)
    return _by_service(arrows)


def _owners(phases: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Host by address, from the socket tables."""
    owners: dict[str, str] = {}
    for phase in phases:
        for host, table in phase.get("sockets", {}).items():
            for row in table.get("rows", ()):
                address = str(row[3]).rpartition(":")[0].strip("[]")
                if address not in ("0.0.0.0", "::", "*"):
                    owners.setdefault(address, host)
    return owners


def _arrows(sightings: Sequence[_Sighting], owners: dict[str, str]) -> list[Arrow]:
    """One for each segment; one that was seen at both ends is one."""
    arrows: list[Arrow] = []
    on_their_way: dict[tuple[Any, ...], list[Arrow]] = defaultdict(list)
    for host, segment in sightings:
        same = (*segment.four_tuple, segment.seq, segment.ack, segment.flags, segment.length, segment.tsval)
        if segment.direction == "out":
            arrow = Arrow(segment, host, owners.get(segment.dst, segment.dst), segment.time, None)
            on_their_way[same].append(arrow)
            arrows.append(arrow)
            continue
        waiting = [one for one in on_their_way[same] if one.source != host and one.target in (host, segment.dst)]
        if waiting:
            # Of several that are alike the last: a cable takes no time to speak of.
            waiting[-1].came, waiting[-1].target = segment.time, host
            on_their_way[same].remove(waiting[-1])
        else:
            arrows.append(Arrow(segment, owners.get(segment.src, segment.src), host, None, segment.time))
    return arrows


def _lost_between(arrows: Iterable[Arrow], captured: set[str]) -> None:
    for arrow in arrows:
        if arrow.left is not None and arrow.came is None and arrow.target in captured:
            arrow.fate = Fate.LOST


def _impaired(arrows: Iterable[Arrow], rule: dict[str, Any]) -> None:
    """Mark what a rule of the scenario dropped or held; nothing, where by its own count it dropped fewer."""
    match, since = rule["match"], rule["since"]
    until = rule["until"] if rule["until"] is not None else math.inf
    # A cable takes no time to speak of: when it left is when it came.
    met = [one for one in arrows if one.target == rule["host"] and _meets(one.segment, match)]
    within = [one for one in met if since <= one.time <= until]
    start = match.get("first", 1) - 1
    taken = within[start : start + match["count"] if "count" in match else None]
    if len(taken) > rule["dropped"]:
        return
    held = rule["kind"] == "hold"
    for arrow in taken:
        arrow.fate = arrow.fate or (Fate.HELD if held else Fate.TAKEN)
        if held and (again := next((one for one in met if one.time > until and _same_frame(one, arrow)), None)):
            again.late = True


def _meets(segment: Segment, match: dict[str, Any]) -> bool:
    """Whether it is one of those that a rule means (harness.traffic.impair)."""
    if "flags" in match and set(segment.flags) & set("FSRPA") != set(match["flags"]):
        return False
    return all(getattr(segment, key) == match[key] for key in ("sport", "dport", "ack") if key in match)


def _same_frame(one: Arrow, other: Arrow) -> bool:
    """Whether it is the very segment, not only the same data."""
    return not one.late and (one.segment.four_tuple, one.content, one.segment.ack, one.segment.tsval) == (
        other.segment.four_tuple, other.content, other.segment.ack, other.segment.tsval
    )  # fmt: skip


def _not_heeded(arrows: Sequence[Arrow], owners: dict[str, str]) -> None:
    legs: dict[frozenset[Any], list[Arrow]] = defaultdict(list)
    for arrow in arrows:
        ends = frozenset({(arrow.segment.src, arrow.segment.sport), (arrow.segment.dst, arrow.segment.dport)})
        legs[frozenset({ends, arrow.source, arrow.target})].append(arrow)
    for leg in legs.values():
        for index, arrow in enumerate(leg):
            if arrow.must_be_acknowledged and not arrow.again:
                _follow(leg, index, owners)


def _follow(leg: Sequence[Arrow], index: int, owners: dict[str, str]) -> None:
    """Follow one segment through its repetitions, and mark what did not get through before each."""
    last, back = leg[index], list[Arrow]()
    for later in leg[index + 1 :]:
        if later.source != last.source:
            if later.segment.flags == "S":
                return  # a new connection from the other side
            back.append(later)
        elif later.content == last.content and later.late:
            later.again = last.again
            last = later
        elif later.content == last.content:
            _blame(last, back, leg[index + 1 :], owners)
            later.again = last.again + 1
            last, back = later, []
        elif "S" in later.segment.flags:
            return  # a new connection
    if last.segment.flags == "S" and last.again and not _answered(leg, last):
        _mark(last, owners)


def _blame(sent: Arrow, back: Sequence[Arrow], leg: Sequence[Arrow], owners: dict[str, str]) -> None:
    """Mark what made `sent` be sent again: the last acknowledgement of it in what came back, or else itself."""
    answer = next((one for one in reversed(back) if one.acknowledges(sent.end)), None)
    if answer is None:
        # A SYN that met a challenge ACK was answered, though not as it wished (RFC 5961 section 4).
        if not (sent.segment.flags == "S" and back):
            _mark(sent, owners)
    elif not (answer.must_be_acknowledged and any(_follows(one, answer) for one in leg)):
        _mark(answer, owners)


def _follows(arrow: Arrow, answer: Arrow) -> bool:
    """Whether an arrow acknowledges an answer, which therefore came: whoever repeats himself then has other reasons."""
    return arrow.source != answer.source and arrow.time >= answer.time and arrow.acknowledges(answer.end)


def _answered(leg: Sequence[Arrow], arrow: Arrow) -> bool:
    return any(one.source != arrow.source and one.time >= arrow.time for one in leg)


def _mark(arrow: Arrow, owners: dict[str, str]) -> None:
    if arrow.fate is not Fate.ARRIVED:
        return
    if arrow.came is None:
        arrow.fate = Fate.UNANSWERED
    else:
        arrow.fate = Fate.DROPPED if owners.get(arrow.segment.dst) == arrow.target else Fate.IGNORED


def _half_open(arrows: Sequence[Arrow], phases: Sequence[dict[str, Any]]) -> None:
    """Mark the ACKs that should have made a connection of what the socket tables show as half-open to the end."""
    states: dict[tuple[str, str], set[str]] = defaultdict(set)
    for phase in phases:
        for table in phase.get("sockets", {}).values():
            for row in table.get("rows", ()):
                states[str(row[3]), str(row[4])].add(str(row[0]))
    half_open = {pair for pair, seen in states.items() if seen == {"SYN-RECV"}}
    for arrow in arrows:
        segment = arrow.segment
        pair = _spelled(segment.dst, segment.dport), _spelled(segment.src, segment.sport)
        if pair in half_open and arrow.came is not None and "A" in segment.flags and "R" not in segment.flags:
            arrow.fate = arrow.fate or Fate.DROPPED


def _spelled(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _by_service(arrows: Sequence[Arrow]) -> list[Exchange]:
    """An exchange for each service; where many clients would make it wide, one for each client."""
    services = _services(arrows)
    found: dict[Endpoint, Exchange] = {}
    of: dict[frozenset[Endpoint], Endpoint] = {}
    for arrow in arrows:
        here, there = _ends(arrow)
        # Where nothing speaks for either end, it is the one that was first spoken to.
        service = of.setdefault(frozenset((here, there)), max((there, here), key=lambda one: services.get(one, 0)))
        found.setdefault(service, Exchange(service)).arrows.append(arrow)
    parts = []
    for exchange in found.values():
        exchange.lanes = _lanes(exchange)
        parts += [exchange] if len(exchange.lanes) <= MOST_LANES else _by_client(exchange)
    return parts


def _services(arrows: Iterable[Arrow]) -> dict[Endpoint, int]:
    """How much speaks for each endpoint being the one that listens: how many peers it has, and SYNs it was sent."""
    peers: dict[Endpoint, set[Endpoint]] = defaultdict(set)
    asked: set[Endpoint] = set()
    for arrow in arrows:
        here, there = _ends(arrow)
        peers[here].add(there)
        peers[there].add(here)
        if "S" in arrow.segment.flags and "A" not in arrow.segment.flags:
            asked.add(there)
    return {one: len(seen) + (1 << 20) * (one in asked) for one, seen in peers.items()}


def _by_client(whole: Exchange) -> list[Exchange]:
    parts: dict[str, Exchange] = {}
    for arrow in whole.arrows:
        _, there = _ends(arrow)
        client = arrow.source if there == whole.service else arrow.target
        parts.setdefault(client, Exchange(whole.service)).arrows.append(arrow)
    for part in parts.values():
        part.lanes = _lanes(part)
    return list(parts.values())


def _ends(arrow: Arrow) -> tuple[Endpoint, Endpoint]:
    return (arrow.segment.src, arrow.segment.sport), (arrow.segment.dst, arrow.segment.dport)


def _lanes(exchange: Exchange) -> list[str]:
    """Those who send to the service on the left, those who pass on in the middle, the service on the right."""
    to_service = [one for one in exchange.arrows if (one.segment.dst, one.segment.dport) == exchange.service]
    senders = dict.fromkeys(one.source for one in to_service)
    receivers = dict.fromkeys(one.target for one in to_service)
    everyone = dict.fromkeys([*senders, *receivers])
    for arrow in exchange.arrows:
        everyone |= dict.fromkeys([arrow.source, arrow.target])
    return sorted(everyone, key=lambda lane: (lane in receivers) * 2 - (lane in senders))
