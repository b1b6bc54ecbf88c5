"""What changed between two kernels, or between two runs: verdicts, measurements, defaults, counters; with numbers.

A measurement has changed if it was judged otherwise, or if it is another value where one value was to be. Where the
claim allows a range, a value that moved within it has not changed, nor has one that differs by a stamp alone
(harness.claims.canonical): a drawn port, say. Such are counted, and shown apart.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.claims.canonical import measured
from harness.claims.render import NOISE
from harness.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.report.stored import Cell, Column, Run, Table

# How the ranges of harness.laws.ranges are written down.
RANGES = ("between ", "at least ", "at most ", "one of ")
MISSING = object()


@dataclass(frozen=True)
class Side:
    """One of the two that are compared."""

    table: Table
    column: Column

    @property
    def label(self) -> str:
        """The kernel, and the run where both are of the same kernel."""
        return self.column.label

    def cells(self) -> dict[str, Cell]:
        """The cells of the column by claim."""
        return {row.name: row.cells[self.column] for row in self.table.rows if self.column in row.cells}


@dataclass(frozen=True)
class Difference:
    """One value that differs: where it was measured, and what on each side; None where a side has none."""

    run: str
    phase: str
    what: str
    before: object
    after: object
    results: tuple[str, str]
    within: bool

    @property
    def by(self) -> str:
        """How far a number moved: the difference, and the factor where there is one."""
        return moved(self.before, self.after)


@dataclass
class Change:
    """A claim with something that differs."""

    name: str
    statement: str
    states: tuple[str, str]
    reasons: tuple[str, str]
    differences: list[Difference] = field(default_factory=list)
    counters: list[tuple[str, str, str, int, int]] = field(default_factory=list)

    @property
    def verdict_changed(self) -> bool:
        """Whether the verdict itself is another."""
        return self.states[0] != self.states[1]

    @property
    def told(self) -> list[Difference]:
        """The measurements that changed."""
        return [one for one in self.differences if not one.within]


@dataclass
class Comparison:
    """Everything that differs between two sides."""

    sides: tuple[Side, Side]
    compared: int
    changes: list[Change]
    within: int
    only: tuple[list[str], list[str]]
    defaults: list[tuple[str, str, str]]
    counters: list[tuple[str, int, int]]


def moved(before: object, after: object) -> str:
    """How far a number moved; "" for what is no number."""
    numbers = [one for one in (before, after) if isinstance(one, (int, float)) and not isinstance(one, bool)]
    if len(numbers) < 2:
        return ""
    first, second = numbers
    factor = f", ×{second / first:.3g}" if first and first != second else ""
    return f"{second - first:+.6g}{factor}"


def choose(table: Table, wanted: str) -> Column:
    """The column that a word means: a version, its beginning, a release, or a directory.

    BadInput if there is none, or if there are several.
    """
    exact = [one for one in table.columns if wanted in (one.version, one.release, one.label, one.directory)]
    near = [one for one in table.columns if one.version.startswith(f"{wanted}.")]
    found = exact or near
    known = ", ".join(one.label for one in table.columns)
    if not found:
        raise BadInput(f"--diff {wanted}: no such kernel in the evidence; there are {known}")
    if len(found) > 1:
        raise BadInput(f"--diff {wanted} means {', '.join(one.label for one in found)}: name one of them")
    return found[0]


def compare(before: Side, after: Side) -> Comparison:
    """What differs between two sides."""
    sides = before.cells(), after.cells()
    both = [name for name in sides[0] if name in sides[1]]
    statements = {row.name: str(row.claim.get("statement", "")) for row in (*before.table.rows, *after.table.rows)}
    every = [_change(name, statements[name], sides[0][name], sides[1][name]) for name in both]
    changes = [one for one in every if one.verdict_changed or one.told]
    changes.sort(key=lambda one: (not one.verdict_changed, one.name))
    return Comparison(
        (before, after),
        len(both),
        changes,
        sum(len(one.differences) - len(one.told) for one in every),
        (sorted(set(sides[0]) - set(sides[1])), sorted(set(sides[1]) - set(sides[0]))),
        _defaults(sides[0], sides[1]),
        _counters_of_one_side([(sides[0][name], sides[1][name]) for name in both]),
    )


def _change(name: str, statement: str, before: Cell, after: Cell) -> Change:
    found = Change(name, statement, (before.state, after.state), (_reason(before), _reason(after)))
    for one, other in _pairs(before, after):
        found.differences += _differences(one, other)
        found.counters += _counter_differences(one, other)
    return found


def _reason(cell: Cell) -> str:
    return "; ".join(dict.fromkeys(str(run.data.get("reason") or "") for run in cell.runs)).strip("; ")


def _pairs(before: Cell, after: Cell) -> Iterator[tuple[Run, Run]]:
    """The runs of the same test with the same parameters."""
    others = {run.which: run for run in after.runs}
    return ((run, others[run.which]) for run in before.runs if run.which in others)


def _phases(run: Run) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Phases by kind, title, and the how many-th of that title."""
    seen: Counter[tuple[str, str]] = Counter()
    found = {}
    for phase in run.data["phases"]:
        key = str(phase.get("kind")), str(phase.get("title"))
        found[*key, seen[key]] = phase
        seen[key] += 1
    return found


def _comparisons(phase: dict[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    seen: Counter[str] = Counter()
    found = {}
    for one in phase.get("comparisons", []):
        what = str(one.get("what"))
        found[what, seen[what]] = one
        seen[what] += 1
    return found


def _differences(before: Run, after: Run) -> Iterator[Difference]:
    ours, theirs = _phases(before), _phases(after)
    forms = measured(before.data), measured(after.data)
    for key in dict.fromkeys([*ours, *theirs]):
        left, right = _comparisons(ours.get(key, {})), _comparisons(theirs.get(key, {}))
        for what in dict.fromkeys([*left, *right]):
            one, other = left.get(what, {}), right.get(what, {})
            results = str(one.get("result", "not measured")), str(other.get("result", "not measured"))
            if results[0] == results[1] and one.get("measured") == other.get("measured"):
                continue
            within = results[0] == results[1] and (
                _has_room(one) or _has_room(other) or forms[0](one) == forms[1](other)
            )
            where = f"{key[0]}: {key[1]}"
            yield Difference(before.which, where, what[0], one.get("measured"), other.get("measured"), results, within)


def _has_room(comparison: dict[str, Any]) -> bool:
    """Whether the side that was met is a range of values."""
    side = {"met": "wanted"}.get(comparison["result"], comparison["result"])
    said = comparison.get(side)
    return isinstance(said, str) and said.startswith(RANGES)


def _moved_counters(phase: dict[str, Any]) -> dict[tuple[str, str], int]:
    return {
        (host, name): row[2]
        for host, moved_ones in phase.get("counters", {}).items()
        for name, row in moved_ones.items()
        if not name.endswith(NOISE)
    }


def _counter_differences(before: Run, after: Run) -> Iterator[tuple[str, str, str, int, int]]:
    """Run and phase, host, counter, and its two deltas, for the phases that both have."""
    ours, theirs = _phases(before), _phases(after)
    for key in ours:
        if key in theirs:
            left, right = _moved_counters(ours[key]), _moved_counters(theirs[key])
            for host, name in dict.fromkeys([*left, *right]):
                deltas = left.get((host, name), 0), right.get((host, name), 0)
                if deltas[0] != deltas[1]:
                    yield f"{before.which} {key[0]}: {key[1]}", host, name, *deltas


def _defaults(before: dict[str, Cell], after: dict[str, Cell]) -> list[tuple[str, str, str]]:
    """Sysctls that had another value before anybody set them."""
    found = [_knobs(cells) for cells in (before, after)]
    return [
        (name, found[0][name], found[1][name])
        for name in sorted(found[0].keys() & found[1].keys())
        if found[0][name] != found[1][name]
    ]


def _knobs(cells: dict[str, Cell]) -> dict[str, str]:
    """The first value of each sysctl that was set; the one seen most often, where scenarios set one before."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for cell in cells.values():
        for run in cell.runs:
            for phase in run.data["phases"]:
                for knobs in phase.get("knobs", {}).values():
                    for name, values in knobs.items():
                        seen[name][str(values[0])] += 1
    return {name: counts.most_common(1)[0][0] for name, counts in seen.items()}


def _counters_of_one_side(cells: Sequence[tuple[Cell, Cell]]) -> list[tuple[str, int, int]]:
    """Counters that moved on one side alone, and for how many claims they did."""
    counts = [Counter[str](), Counter[str]()]
    for pair in cells:
        for side, cell in enumerate(pair):
            phases = [phase for run in cell.runs for phase in run.data["phases"]]
            counts[side].update({name for phase in phases for _, name in _moved_counters(phase)})
    names = sorted(set(counts[0]) ^ set(counts[1]))
    return [(name, counts[0][name], counts[1][name]) for name in names]
