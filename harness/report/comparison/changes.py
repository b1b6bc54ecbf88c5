"""What changed between two kernels, or between two runs: verdicts, measurements, defaults, counters; with numbers."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import msgspec

from harness.evidence.differences import (
    CounterDifference,
    Difference,
    Place,
    counter_differences,
    differences,
    moved_counters,
)
from harness.evidence.types import Kernel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.evidence.types import Run
    from harness.report.comparison.sides import ClaimSides, Sides, TestSides
    from harness.report.table import Cell, Column


class TestChange(msgspec.Struct, frozen=True):
    """What two runs of a test have differently; `differences` also has what moved as it may."""

    test: str
    said: tuple[str, str]
    differences: list[Difference]
    counters: list[CounterDifference]

    @property
    def changed(self) -> list[Difference]:
        """The measurements that changed."""
        return [difference for difference in self.differences if difference.changed]

    @property
    def by_place(self) -> list[tuple[Place, list[Difference]]]:
        """The measurements that changed, by phase."""
        places: dict[Place, list[Difference]] = {}
        for difference in self.changed:
            places.setdefault(difference.place, []).append(difference)
        return list(places.items())


class ClaimChange(msgspec.Struct, frozen=True):
    """A claim with something that differs; `said` is what became of it on each side, `reasons` why."""

    claim: str
    statement: str
    said: tuple[str, str]
    reasons: tuple[str, str]
    tests: list[TestChange]

    @property
    def verdict_changed(self) -> bool:
        """Whether a verdict is another."""
        return any(first != second for first, second in (self.said, *(test.said for test in self.tests)))

    @property
    def changed(self) -> bool:
        """Whether anything is, beside what moved as it may."""
        return self.verdict_changed or any(test.changed for test in self.tests)


class Default(msgspec.Struct, frozen=True):
    """A sysctl that had another value before anybody set it."""

    sysctl: str
    before: str
    after: str


class CounterUse(msgspec.Struct, frozen=True):
    """A counter that moved on one side alone, and for how many claims it did."""

    counter: str
    before: int
    after: int


class SideName(msgspec.Struct, frozen=True):
    """A side: its kernel, and what it is called."""

    label: str
    kernel: Kernel


class Changes(msgspec.Struct, frozen=True):
    """Everything that differs between two sides.

    `compared` counts claims, `empty` the tests that came to nothing on either side, `within` the measurements that
    moved as they may. `alone` are the tests that were run on one side only.
    """

    before: SideName
    after: SideName
    compared: int
    empty: int
    within: int
    claims: list[ClaimChange]
    alone: tuple[list[str], list[str]]
    defaults: list[Default]
    counters: list[CounterUse]

    @property
    def same(self) -> bool:
        """Whether nothing changed, and both ran the same tests."""
        return not self.claims and not any(self.alone)


def changes(sides: Sides) -> Changes:
    """What differs between two sides."""
    claims = sides.claims()
    tests = {each.claim.name: list(each.tests()) for each in claims}
    empty = sum(test.are_empty for each in tests.values() for test in each)
    every = [
        change
        for each in claims
        if each.before and each.after and (change := _claim(each, tests[each.claim.name])) is not None
    ]
    changed = [change for change in every if change.changed]
    changed.sort(key=lambda change: (not change.verdict_changed, change.claim))
    return Changes(
        before=_name(sides.before),
        after=_name(sides.after),
        compared=len(every),
        empty=empty,
        within=sum(not difference.changed for each in every for test in each.tests for difference in test.differences),
        claims=changed,
        alone=(list(_alone(claims, tests, 0)), list(_alone(claims, tests, 1))),
        defaults=_defaults(claims),
        counters=_counters_of_one_side(claims),
    )


def _name(column: Column) -> SideName:
    return SideName(column.label, column.kernel)


def _claim(sides: ClaimSides, tests: Sequence[TestSides]) -> ClaimChange | None:
    """What the sides have of a claim; None if no test of it came to anything on both."""
    assert sides.before
    assert sides.after
    both = [(test.test, test.runs) for test in tests if test.runs is not None and not test.are_empty]
    if not both:
        return None
    reasons = _reason(sides.before), _reason(sides.after)
    changed = [_test(test, *runs) for test, runs in both]
    claim = sides.claim
    return ClaimChange(claim.name, claim.statement, (sides.before.said, sides.after.said), reasons, changed)


def _test(test: str, before: Run, after: Run) -> TestChange:
    counters = counter_differences(before, after)
    return TestChange(test, (before.said, after.said), differences(before, after), counters)


def _reason(cell: Cell) -> str:
    return "; ".join(dict.fromkeys(entry.run.reason for entry in cell.entries if entry.run.reason))


def _alone(claims: Sequence[ClaimSides], tests: dict[str, list[TestSides]], side: int) -> Iterable[str]:
    """The tests that only one side ran; a claim of which it ran all, by its name alone."""
    for each in claims:
        name = each.claim.name
        if each.cells[1 - side] is None:
            yield name
        elif each.cells[side] is not None:
            ours = [test for test in tests[name] if (test.after if side == 0 else test.before) is None]
            yield from (f"{name} {test.test}" for test in ours)


def _defaults(claims: Sequence[ClaimSides]) -> list[Default]:
    before, after = (_knobs(_runs(claims, side)) for side in (0, 1))
    return [
        Default(name, before[name], after[name])
        for name in sorted(before.keys() & after.keys())
        if before[name] != after[name]
    ]


def _runs(claims: Iterable[ClaimSides], side: int) -> Iterable[Run]:
    cells = (each.cells[side] for each in claims)
    return (entry.run for cell in cells if cell is not None for entry in cell.entries)


def _knobs(runs: Iterable[Run]) -> dict[str, str]:
    """The first value of each sysctl that was set; the one seen most often, where scenarios set one before."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        for phase in run.phases:
            for knobs in phase.knobs.values():
                for name, knob in knobs.items():
                    seen[name][knob.before] += 1
    # Of two that were seen as often it is not the first one: that would be another one in another order.
    return {name: max(counts, key=lambda value: (counts[value], value)) for name, counts in seen.items()}


def _counters_of_one_side(claims: Sequence[ClaimSides]) -> list[CounterUse]:
    counts: tuple[Counter[str], Counter[str]] = Counter(), Counter()
    for each in claims:
        if each.before and each.after:
            for side in (0, 1):
                counts[side].update(set().union(*(moved_counters(run) for run in _runs([each], side))))
    names = sorted(counts[0].keys() ^ counts[1].keys())
    return [CounterUse(name, counts[0][name], counts[1][name]) for name in names]
