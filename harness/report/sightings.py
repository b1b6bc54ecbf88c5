"""From a capture to what passed between hosts: who sent each segment to whom, an exchange for each service.

A capture says what a host's interface saw, and when; what became of a segment follows from the rest (fates).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from harness.observe.segments import bases
from harness.report import fates
from harness.report.arrows import WRAP, Arrow, Exchange

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.evidence.types import Phase
    from harness.lab.impairment import Impairment, LineUsed
    from harness.observe.packet import Packet
    from harness.observe.segments import Segment
    from harness.report.arrows import Endpoint

# With more hosts than this the diagram is cut into one for each client.
MOST_LANES = 4
ANY = frozenset({"0.0.0.0", "::", "*"})


class _Sighting(NamedTuple):
    host: str
    segment: Segment


def exchanges(
    packets: Iterable[tuple[str, Packet]],
    phases: Sequence[Phase],
    impairments: Sequence[Impairment] = (),
    lines: Sequence[LineUsed] = (),
) -> list[Exchange]:
    """What was captured, an exchange for each listening endpoint.

    `phases`, `impairments` and `lines` are those of the run: they tell whose the addresses are, what the scenario
    dropped, and how long a segment is under way.
    """
    sightings = [
        _Sighting(host, segment)
        for host, packet in packets
        if packet.interface != "lo" and (segment := packet.segment())
    ]  # fmt: skip
    sightings.sort(key=lambda sighting: sighting.segment.time)
    owners = _owners(phases)
    arrows = _arrows(sightings, owners, lines)
    for arrow, (seq, ack) in zip(arrows, bases(arrow.segment for arrow in arrows), strict=True):
        arrow.seq, arrow.ack = (arrow.segment.seq - seq) % WRAP, (arrow.segment.ack - ack) % WRAP
    fates.settle(arrows, phases, impairments, owners=owners, captured={sighting.host for sighting in sightings})
    return _by_service(arrows)


def _owners(phases: Sequence[Phase]) -> dict[str, str]:
    """Host by address, from the socket tables."""
    owners: dict[str, str] = {}
    for phase in phases:
        for host, table in phase.sockets.items():
            for row in table.rows:
                if row.local.address not in ANY:
                    owners.setdefault(row.local.address, host)
    return owners


def _arrows(sightings: Sequence[_Sighting], owners: dict[str, str], lines: Sequence[LineUsed]) -> list[Arrow]:
    """An arrow for each segment; what was seen at both ends is the same."""
    arrows: list[Arrow] = []
    on_their_way: dict[object, list[Arrow]] = defaultdict(list)
    for host, segment in sightings:
        same = (*segment.four_tuple, segment.seq, segment.ack, segment.flags, segment.length, segment.tsval)
        if segment.direction == "out":
            arrow = Arrow(segment, host, owners.get(segment.dst, segment.dst), segment.time, None)
            on_their_way[same].append(arrow)
            arrows.append(arrow)
        elif (arrow_here := _take(on_their_way[same], host, segment, lines)) is not None:
            arrow_here.came, arrow_here.target = segment.time, host
        else:
            arrows.append(Arrow(segment, owners.get(segment.src, segment.src), host, None, segment.time))
    return arrows


def _take(on_their_way: list[Arrow], host: str, segment: Segment, lines: Sequence[LineUsed]) -> Arrow | None:
    """Which of several arrows that are alike has come here: the last of those that left early enough."""
    for place in range(len(on_their_way) - 1, -1, -1):
        arrow = on_their_way[place]
        if (
            arrow.source != host
            and arrow.target in (host, segment.dst)
            and segment.time - arrow.time >= _least(lines, arrow.source, host)
        ):
            return on_their_way.pop(place)
    return None


def _least(lines: Sequence[LineUsed], source: str, target: str) -> float:
    """For how many seconds a segment between two hosts is under way at least: no time to speak of on most cables.

    By the clocks of two captures a millisecond more or less.
    """
    takes = [
        line.delay - line.jitter - 0.001
        for line in lines
        if {source, target} <= set(line.between) and not line.reorder
    ]  # fmt: skip
    return max(0.0, min(takes, default=0.0))


def _by_service(arrows: Sequence[Arrow]) -> list[Exchange]:
    """An exchange for each service; where many clients would make it wide, one for each client."""
    weights = _weights(arrows)
    of_service: dict[Endpoint, Exchange] = {}
    services: dict[frozenset[Endpoint], Endpoint] = {}
    for arrow in arrows:
        source, destination = arrow.ends
        pair = frozenset((source, destination))
        if pair not in services:
            # Where nothing speaks for either end, it is the one that was first spoken to.
            services[pair] = max((destination, source), key=lambda end: weights.get(end, 0))
        service = services[pair]
        of_service.setdefault(service, Exchange(service)).arrows.append(arrow)
    parts = []
    for exchange in of_service.values():
        exchange.lanes = _lanes(exchange)
        parts += [exchange] if len(exchange.lanes) <= MOST_LANES else _by_client(exchange)
    return parts


def _weights(arrows: Iterable[Arrow]) -> dict[Endpoint, int]:
    """How much speaks for each endpoint being the one that listens: how many peers it has, and SYNs it was sent."""
    peers: dict[Endpoint, set[Endpoint]] = defaultdict(set)
    asked: set[Endpoint] = set()
    for arrow in arrows:
        source, destination = arrow.ends
        peers[source].add(destination)
        peers[destination].add(source)
        if "S" in arrow.segment.flags and "A" not in arrow.segment.flags:
            asked.add(destination)
    return {end: len(seen) + (1 << 20) * (end in asked) for end, seen in peers.items()}


def _by_client(whole: Exchange) -> list[Exchange]:
    parts: dict[str, Exchange] = {}
    for arrow in whole.arrows:
        client = arrow.source if arrow.ends[1] == whole.service else arrow.target
        parts.setdefault(client, Exchange(whole.service)).arrows.append(arrow)
    for part in parts.values():
        part.lanes = _lanes(part)
    return list(parts.values())


def _lanes(exchange: Exchange) -> list[str]:
    """Those who send to the service on the left, those who pass on in the middle, the service on the right."""
    to_service = [arrow for arrow in exchange.arrows if arrow.ends[1] == exchange.service]
    senders = dict.fromkeys(arrow.source for arrow in to_service)
    receivers = dict.fromkeys(arrow.target for arrow in to_service)
    everyone = dict.fromkeys([*senders, *receivers])
    for arrow in exchange.arrows:
        everyone |= dict.fromkeys((arrow.source, arrow.target))
    return sorted(everyone, key=lambda lane: (lane in receivers) * 2 - (lane in senders))
