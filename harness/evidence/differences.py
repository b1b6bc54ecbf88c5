"""What differs between two runs of a test: measurements and counters, decided by kinds, roles and places.

Phases are matched by their kind and place (the second control with the second control), comparisons by their place in
the phase. What they are called decides nothing: where two phases have different numbers of comparisons, equal labels
are lined up first, and that is a hint.

A measurement has changed if it was judged otherwise, if it is of another kind, or if it is another value where one
value was to be. It has not if it moved within the range that it had to be in, or as what a clock reads and what the
kernel draws moves from run to run (harness.evidence.canonical).
"""

from __future__ import annotations

from collections import Counter
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import TYPE_CHECKING

import msgspec

from harness.evidence.canonical import drawn_ports, measured_form, sides_of
from harness.evidence.types import NOISE, Comparison, Judgement, PhaseKind, Result, is_wrong, judged
from harness.evidence.values import Kind, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.evidence.types import Moved, Phase, Run, Wanted

Ports = tuple[range, ...]


class Place(msgspec.Struct, frozen=True):
    """A phase of a test: its kind, the how many-th of that kind it is, and what it is called."""

    kind: PhaseKind
    number: int
    title: str

    def __str__(self) -> str:
        return f"{self.kind} {self.number}: {self.title}"


class Difference(msgspec.Struct, frozen=True):
    """A comparison that is not the same on both sides; None where a side does not have it.

    `changed` is false for one that moved as it may.
    """

    place: Place
    what: str
    before: Comparison | None
    after: Comparison | None
    changed: bool

    @property
    def by(self) -> str:
        """How far a number moved: the difference, and the factor where there is one."""
        return distance(_number(self.before), _number(self.after))

    @property
    def judged(self) -> tuple[str, str]:
        """What came of it on each side."""
        first, second = (judged(side) if side is not None else "not measured" for side in (self.before, self.after))
        return first, second


class CounterDifference(msgspec.Struct, frozen=True):
    """A counter that moved by another amount."""

    place: Place
    host: str
    name: str
    before: int
    after: int


def differences(before: Run, after: Run) -> list[Difference]:
    """The comparisons of two runs of a test that are not the same."""
    ports = drawn_ports(before), drawn_ports(after)
    return [
        Difference(place, (second or first).what, first, second, changed)  # type: ignore[union-attr]
        for place, left, right in _phases(before, after)
        for first, second in _lined_up(left.comparisons if left else (), right.comparisons if right else ())
        if (changed := _changed(first, second, ports)) is not None
    ]


def counter_differences(before: Run, after: Run) -> list[CounterDifference]:
    """The counters of two runs of a test that moved otherwise, in the phases that both have."""
    return [
        CounterDifference(place, host, name, *amounts)
        for place, left, right in _phases(before, after)
        if left is not None and right is not None
        for host in dict.fromkeys([*left.counters, *right.counters])
        for name, amounts in _amounts(left.counters.get(host, {}), right.counters.get(host, {}))
    ]


def moved_counters(run: Run) -> set[str]:
    """The counters that moved anywhere in a run, without those that always do."""
    return {
        name
        for phase in run.phases
        for counters in phase.counters.values()
        for name in counters
        if not name.endswith(NOISE)
    }


def distance(before: float | None, after: float | None) -> str:
    """How far a number moved: the difference, and the factor where there is one; "" without two numbers."""
    if before is None or after is None:
        return ""
    factor = f", ×{after / before:.3g}" if before and before != after else ""
    return f"{after - before:+.6g}{factor}"


def _number(comparison: Comparison | None) -> float | None:
    value = None if comparison is None else comparison.measured.value
    return None if isinstance(value, (bool, str)) else value


def _phases(before: Run, after: Run) -> Iterator[tuple[Place, Phase | None, Phase | None]]:
    """The phases of both sides by kind and place, in the order of the first side."""
    ours, theirs = _by_place(before), _by_place(after)
    for kind, number in dict.fromkeys([*ours, *theirs]):
        left, right = ours.get((kind, number)), theirs.get((kind, number))
        phase = right or left
        assert phase is not None
        yield Place(kind, number, phase.title), left, right


def _by_place(run: Run) -> dict[tuple[PhaseKind, int], Phase]:
    seen: Counter[PhaseKind] = Counter()
    places: dict[tuple[PhaseKind, int], Phase] = {}
    for phase in run.phases:
        seen[phase.kind] += 1
        places[phase.kind, seen[phase.kind]] = phase
    return places


def _lined_up(
    before: Sequence[Comparison], after: Sequence[Comparison]
) -> Iterator[tuple[Comparison | None, Comparison | None]]:
    """The comparisons of a phase by place; where one side has more, what stands between equal labels is."""
    if len(before) == len(after):
        yield from zip(before, after, strict=True)
        return
    if len(before) > len(after):
        # What is lined up must not depend on which side is the first: SequenceMatcher is not symmetrical.
        yield from ((ours, theirs) for theirs, ours in _lined_up(after, before))
        return
    ours, theirs = ([(type(each), each.what) for each in side] for side in (before, after))
    lined_up = SequenceMatcher(None, ours, theirs, autojunk=False)
    for _, start, end, other_start, other_end in lined_up.get_opcodes():
        yield from zip_longest(before[start:end], after[other_start:other_end])


def _changed(before: Comparison | None, after: Comparison | None, ports: tuple[Ports, Ports]) -> bool | None:
    """Whether a comparison has changed; None if it is the same."""
    if before is None or after is None:
        return True
    if type(before) is not type(after) or judged(before) != judged(after):
        return True
    if not _same_kinds(before.measured, after.measured):
        return True
    if before.measured == after.measured:
        return None
    forms = [
        measured_form(side.measured, sides_of(side), drawn) for side, drawn in zip((before, after), ports, strict=True)
    ]
    return not (_has_room(before) or _has_room(after) or forms[0] == forms[1])


def _same_kinds(before: Value, after: Value) -> bool:
    """Whether two values are of the same kinds; nothing is of any kind, and so is what only one of them has."""
    if Kind.NOTHING in (before.kind, after.kind):
        return True
    if before.kind is not after.kind:
        return False
    parts = all(_same_kinds(*pair) for pair in zip(before.parts, after.parts, strict=False))
    common = before.fields.keys() & after.fields.keys()
    return parts and all(_same_kinds(before.fields[name], after.fields[name]) for name in common)


def _has_room(comparison: Comparison) -> bool:
    """Whether what it met is more than one value."""
    return not is_wrong(comparison) and not isinstance(_met(comparison), Value)


def _met(comparison: Comparison) -> Wanted:
    if not isinstance(comparison, Judgement):
        return comparison.wanted
    return comparison.kernel if comparison.result is Result.KERNEL else comparison.document


def _amounts(before: dict[str, Moved], after: dict[str, Moved]) -> Iterator[tuple[str, tuple[int, int]]]:
    for name in dict.fromkeys([*before, *after]):
        amounts = (before[name].by if name in before else 0), (after[name].by if name in after else 0)
        if amounts[0] != amounts[1] and not name.endswith(NOISE):
            yield name, amounts
