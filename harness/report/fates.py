"""What became of segments that a capture saw: dropped by the scenario, lost on the way, or of no effect.

Of those that the scenario itself dropped or held, the evidence has the rules. For all others it follows from what came
after. Who sends again what has to be acknowledged (SYN, FIN, data) has not had the acknowledgement: either the segment
or the acknowledgement did not get through, and the last one that was seen is the one. The ACK that ends a handshake was
dropped if the listener's side is half-open all the same. Where both ends were captured, what left the one and never
reached the other was lost between them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from harness.lab.impairment import Flags, bits
from harness.report.arrows import WRAP, Fate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harness.evidence.types import Phase
    from harness.lab.impairment import Impairment, SegmentMatch
    from harness.observe.segments import Segment
    from harness.report.arrows import Arrow, Content, Endpoint

# How far a segment acknowledges that acknowledges nothing.
NOTHING = -WRAP


def settle(
    arrows: Sequence[Arrow],
    phases: Sequence[Phase],
    impairments: Iterable[Impairment],
    *,
    owners: Mapping[str, str],
    captured: set[str],
) -> None:
    """Mark what became of each of these arrows, which are in the order of time.

    `owners` are hosts by address, `captured` the hosts where somebody looked.
    """
    for rule in impairments:
        _impaired(arrows, rule)
    for arrow in arrows:
        if arrow.left is not None and arrow.came is None and arrow.target in captured:
            arrow.fate = Fate.LOST
    for leg in _legs(arrows):
        _Leg(owners).follow(leg)
    _half_open(arrows, phases)


def _impaired(arrows: Iterable[Arrow], rule: Impairment) -> None:
    """Mark what a rule of the scenario dropped or held; nothing, where by its own count it dropped fewer."""
    until = math.inf if rule.until is None else rule.until
    met = [arrow for arrow in arrows if arrow.target == rule.host and _meets(arrow.segment, rule.match)]
    within = [arrow for arrow in met if rule.since <= _arrival(arrow) <= until]
    start = rule.match.first - 1
    taken = within[start : None if rule.match.count is None else start + rule.match.count]
    if len(taken) > rule.dropped:
        return
    held = rule.kind == "hold"
    released: dict[object, deque[Arrow]] = defaultdict(deque)
    for arrow in met if held else ():
        if _arrival(arrow) > until and not arrow.late:
            released[_frame(arrow)].append(arrow)
    for arrow in taken:
        arrow.fate = arrow.fate or (Fate.HELD if held else Fate.TAKEN)
        if held and released[_frame(arrow)]:
            released[_frame(arrow)].popleft().late = True


def _arrival(arrow: Arrow) -> float:
    """When it came, or left where nobody saw it come: most cables take no time to speak of."""
    return arrow.time if arrow.came is None else arrow.came


def _meets(segment: Segment, match: SegmentMatch) -> bool:
    """Whether it is one of those that a rule means (harness.traffic.impair)."""
    if match.flags is not None and not Flags.of(match.flags).meet(bits(segment.flags), segment.length):
        return False
    wanted = ((match.sport, segment.sport), (match.dport, segment.dport), (match.ack, segment.ack))
    return all(number is None or number == seen for number, seen in wanted)


def _frame(arrow: Arrow) -> object:
    """What is the same of the very segment, not only of the same data."""
    return arrow.ends, arrow.content, arrow.segment.ack, arrow.segment.tsval


def _legs(arrows: Iterable[Arrow]) -> Iterable[list[Arrow]]:
    """The arrows between two hosts that are of the same pair of endpoints."""
    legs: dict[object, list[Arrow]] = defaultdict(list)
    for arrow in arrows:
        legs[frozenset(arrow.ends), frozenset((arrow.source, arrow.target))].append(arrow)
    return legs.values()


@dataclass(slots=True)
class _Train:
    """A segment and its repetitions: the last of them, and how much the other side had sent when it was sent."""

    last: Arrow
    sent: int


@dataclass(slots=True)
class _Side:
    """What one side of a leg sent that has to be acknowledged, and what the other side answered.

    Sequence numbers count from `base`, which a new connection moves. `answers` are the other side's segments since
    then, `acknowledged` how far each acknowledges. `peaks` are the answers that no later one outdoes, by how far they
    acknowledge (falling) and their place (rising): which answer was the last to acknowledge something, is looked up.
    """

    base: int | None = None
    trains: dict[Content, _Train] = field(default_factory=dict)
    answers: list[Arrow] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    peaks: list[tuple[int, int]] = field(default_factory=list)
    doubtful: list[Arrow] = field(default_factory=list)

    def count(self, number: int) -> int:
        """A sequence number as it counts from the base, negative if before it."""
        return (number - (self.base or 0) + WRAP // 2) % WRAP - WRAP // 2

    def end(self, arrow: Arrow) -> int:
        """What acknowledges one of this side's segments: the number behind it."""
        return self.count(arrow.segment.next_seq)

    def begin(self, arrow: Arrow) -> None:
        """A SYN that was not sent before begins a connection."""
        self.base = arrow.segment.seq
        for part in (self.trains, self.answers, self.acknowledged, self.peaks):
            part.clear()

    def answer(self, arrow: Arrow) -> None:
        """Note a segment of the other side."""
        if self.base is None:
            return
        reach = NOTHING
        if arrow.acknowledges:
            reach = self.count(arrow.segment.ack)
            while self.peaks and self.peaks[-1][0] <= reach:
                self.peaks.pop()
            self.peaks.append((reach, len(self.answers)))
        self.answers.append(arrow)
        self.acknowledged.append(reach)

    def last_acknowledgement(self, train: _Train) -> Arrow | None:
        """The last answer since a segment was sent that acknowledges it."""
        peaks = bisect_right(self.peaks, -self.end(train.last), key=lambda peak: -peak[0])
        if not peaks or (place := self.peaks[peaks - 1][1]) < train.sent:
            return None
        return self.answers[place]

    def unfollowed(self) -> Iterator[Arrow]:
        """Of the doubtful segments of this side, those that the other side never acknowledged from then on."""
        furthest = list(accumulate(reversed(self.acknowledged), max))[::-1]
        for arrow in self.doubtful:
            place = bisect_left(self.answers, arrow.time, key=lambda answer: answer.time)
            if place == len(furthest) or furthest[place] < self.end(arrow):
                yield arrow
        self.doubtful.clear()


class _Leg:
    """What passed between two hosts for one pair of endpoints; it is read once, from the first segment to the last."""

    def __init__(self, owners: Mapping[str, str]) -> None:
        self._owners = owners
        self._sides: dict[str, _Side] = defaultdict(_Side)

    def follow(self, leg: Iterable[Arrow]) -> None:
        """Mark what did not get through before each repetition."""
        for arrow in leg:
            side = self._sides[arrow.source]
            other = self._sides[arrow.target] if arrow.target != arrow.source else _Side()
            self._sent(arrow, side, other)
            if arrow.segment.flags == "S":
                other.trains.clear()  # a new connection from this side
            other.answer(arrow)
        for side in self._sides.values():
            self._mark_all(side.unfollowed())
            for train in side.trains.values():
                if train.last.segment.flags == "S" and train.last.again and len(side.answers) == train.sent:
                    self._mark(train.last)

    def _sent(self, arrow: Arrow, side: _Side, other: _Side) -> None:
        """Note a segment at the side that sent it: it begins a train, or it is a repetition."""
        content = arrow.content
        train = side.trains.get(content)
        if side.base is None:
            side.base = arrow.segment.seq
        if train is not None:
            self._repeated(arrow, train, side, other)
            if "S" in arrow.segment.flags:
                side.trains = {content: train}
            return
        if "S" in arrow.segment.flags:
            self._mark_all(side.unfollowed())
            side.begin(arrow)
        if arrow.must_be_acknowledged:
            side.trains[content] = _Train(arrow, len(side.answers))

    def _repeated(self, arrow: Arrow, train: _Train, side: _Side, other: _Side) -> None:
        if arrow.late:
            arrow.again = train.last.again
            train.last = arrow
            return
        self._blame(train, side, other, arrow.time)
        arrow.again = train.last.again + 1
        train.last, train.sent = arrow, len(side.answers)

    def _blame(self, train: _Train, side: _Side, other: _Side, again: float) -> None:
        """Mark what made a segment be sent `again` then: the last acknowledgement of it, or else the segment itself.

        What was still under way then came all the same, and is not to blame.
        """
        answer = side.last_acknowledgement(train)
        if _is_under_way(answer or train.last, again):
            return
        if answer is None:
            # A SYN that met a challenge ACK was answered, though not as it wished (RFC 5961 section 4).
            if not (train.last.segment.flags == "S" and len(side.answers) > train.sent):
                self._mark(train.last)
        elif answer.must_be_acknowledged:
            # If it is acknowledged it came: whoever repeats himself all the same has other reasons.
            other.doubtful.append(answer)
        else:
            self._mark(answer)

    def _mark_all(self, arrows: Iterable[Arrow]) -> None:
        for arrow in arrows:
            self._mark(arrow)

    def _mark(self, arrow: Arrow) -> None:
        if arrow.fate is not Fate.ARRIVED:
            return
        if arrow.came is None:
            arrow.fate = Fate.UNANSWERED
        else:
            arrow.fate = Fate.DROPPED if self._owners.get(arrow.segment.dst) == arrow.target else Fate.IGNORED


def _is_under_way(arrow: Arrow, moment: float) -> bool:
    """Whether a segment that was seen to leave came later than that."""
    return arrow.left is not None and arrow.came is not None and arrow.left <= moment < arrow.came


def _half_open(arrows: Iterable[Arrow], phases: Iterable[Phase]) -> None:
    """Mark the ACKs that should have made a connection of what the socket tables show as half-open to the end."""
    states: dict[tuple[Endpoint, Endpoint], set[str]] = defaultdict(set)
    for phase in phases:
        for table in phase.sockets.values():
            for row in table.rows:
                ends = (row.local.address, row.local.port), (row.peer.address, row.peer.port)
                states[ends].add(row.state)
    half_open = {ends for ends, seen in states.items() if seen == {"SYN-RECV"}}
    for arrow in arrows:
        source, destination = arrow.ends
        if (destination, source) in half_open and arrow.came is not None and arrow.acknowledges:
            arrow.fate = arrow.fate or Fate.DROPPED
