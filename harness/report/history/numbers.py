"""The numbers of a test through its runs, how far they spread, and which have moved beyond that.

The spread of a number is from the lowest to the highest that it was in the runs since it moved last, four at least. It
has moved when it lies further outside of its spread than that is wide, and by more than clocks and a busy machine do;
and when the next run says so too. A newest run that nobody has repeated yet is told as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median_low
from typing import TYPE_CHECKING

from harness.evidence.values import Kind, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.evidence.types import Run
    from harness.report.history.model import Course

# What is no number to follow: a port, what was drawn, and yes or no.
NUMBERS = frozenset({Kind.COUNT, Kind.NUMBER, Kind.SECONDS, Kind.TICKS, Kind.BYTES})
# So many runs have to be there before a spread says anything.
ENOUGH = 4
# Of a value that is a list or has fields, so many are followed.
PARTS = 8
# What does not count as having moved, whatever the spread: a part of the number, and so much of a clock's reading.
PART = 0.05
LEAST = {Kind.SECONDS: 0.002, Kind.TICKS: 2.0}
# Of how long a test takes on a machine that does other things too.
PART_OF_DURATION, LEAST_OF_DURATION = 0.2, 0.1


@dataclass(frozen=True)
class Room:
    """How far a number may lie outside of its spread without having moved: a part of it, or so much."""

    part: float
    least: float

    def of(self, number: float) -> float:
        """For a number of this size."""
        return max(self.part * abs(number), self.least)


@dataclass(frozen=True)
class Moved:
    """A number that moved: in which run, from which spread to which value; `repeated` says that the next run agrees."""

    at: int
    low: float
    high: float
    value: float
    repeated: bool


@dataclass(frozen=True)
class Numbers:
    """A number through the runs of a test: where it is measured, what it is, its value in each if it has one."""

    place: str
    what: str
    kind: Kind
    unit: str
    values: tuple[float | None, ...]

    @property
    def known(self) -> list[float]:
        """The values that there are."""
        return [value for value in self.values if value is not None]

    @property
    def low(self) -> float:
        """The lowest of all."""
        return min(self.known)

    @property
    def high(self) -> float:
        """The highest of all."""
        return max(self.known)

    @property
    def median(self) -> float:
        """The middle one, the lower of two."""
        return median_low(self.known)

    @property
    def moves(self) -> list[Moved]:
        """Where it moved beyond its spread."""
        return moves(self.values, Room(PART, LEAST.get(self.kind, 0.0)))


def durations(test: Course) -> Numbers:
    """How long a test took in each run, in seconds; where it was run again, its last attempt."""
    values = tuple(None if run is None else run.duration for run in test.runs)
    return Numbers("", "duration", Kind.SECONDS, "s", values)


def duration_moves(numbers: Numbers) -> list[Moved]:
    """Where a duration moved beyond its spread."""
    return moves(numbers.values, Room(PART_OF_DURATION, LEAST_OF_DURATION))


def numbers(test: Course) -> list[Numbers]:
    """The numbers that a test compares, each through all runs; the same number is at the same place in a phase."""
    # By place: what is measured there, as the newest run calls it, and the values.
    named: dict[tuple[object, ...], tuple[str, str, Value]] = {}
    values: dict[tuple[object, ...], dict[int, float]] = {}
    for number, run in test.seen:
        for key, place, what, value in _measured(run):
            named[key] = (place, what, value)
            assert isinstance(value.value, (int, float))
            values.setdefault(key, {})[number] = value.value
    return [
        Numbers(place, what, value.kind, value.unit, tuple(values[key].get(n) for n in range(len(test.runs))))
        for key, (place, what, value) in named.items()
    ]


def moves(values: Sequence[float | None], room: Room) -> list[Moved]:
    """Where a number moved beyond its spread."""
    found: list[Moved] = []
    level: list[float] = []
    known = [(number, value) for number, value in enumerate(values) if value is not None]
    for here, (number, value) in enumerate(known):
        if len(level) < ENOUGH or not _beyond(value, level, room):
            level.append(value)
            continue
        is_newest = here + 1 == len(known)
        # What lies beyond once, and not in the next run, is an outlier: it neither moves the number nor widens it.
        if is_newest or _agrees(known[here + 1][1], value, level, room):
            found.append(Moved(number, min(level), max(level), value, repeated=not is_newest))
            level = [value]
    return found


def _beyond(value: float, level: Sequence[float], room: Room) -> bool:
    low, high = min(level), max(level)
    allowed = max(high - low, room.of(median_low(level)))
    return value > high + allowed or value < low - allowed


def _agrees(following: float, value: float, level: Sequence[float], room: Room) -> bool:
    """Whether the next value lies beyond the spread as well, on the same side."""
    return _beyond(following, level, room) and (following > max(level)) == (value > max(level))


def _measured(run: Run) -> Iterator[tuple[tuple[object, ...], str, str, Value]]:
    """The numbers of a run: a key that says the place, the place and the label in words, the value."""
    counts: dict[object, int] = {}
    for phase in run.phases:
        counts[phase.kind] = counts.get(phase.kind, 0) + 1
        place = f"{phase.kind} {counts[phase.kind]}: {phase.title}"
        for number, comparison in enumerate(phase.comparisons):
            for part, value in _numbers_in(comparison.measured):
                # A run that ended early may have something else at the place: of another role or kind, as a rule.
                key = (phase.kind, counts[phase.kind], number, part, type(comparison), value.kind)
                yield key, place, f"{comparison.what}{part}", value


def _numbers_in(value: Value) -> Iterator[tuple[str, Value]]:
    """The numbers that a value is made of, each with what tells it from the others."""
    if value.kind is Kind.SEVERAL:
        inner = [(f" [{number}]", part) for number, part in enumerate(value.parts[:PARTS], 1)]
    elif value.kind is Kind.NAMED:
        inner = [(f" {name}", part) for name, part in list(value.fields.items())[:PARTS]]
    else:
        inner = [("", value)]
    for name, each in inner:
        if each.kind in NUMBERS and isinstance(each.value, (int, float)) and not isinstance(each.value, bool):
            yield name, each
