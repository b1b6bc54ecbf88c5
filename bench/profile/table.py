"""What was measured, as tables: a row a test, the parts of all, and the functions that cost most."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PARTS = ("lab up", "experiment", "evidence", "lab down", "pytest")
ELSEWHERE = "other processes"
# Within these: how often was asked, and what that took.
BESIDE = ("socket tables", "counters")
FUNCTIONS = 25


@dataclass(frozen=True)
class Test:
    """A test's cost in seconds of processor time, and its parts, which add up to it."""

    name: str
    cost: float
    parts: dict[str, float]
    functions: dict[str, Counter[str]] = field(default_factory=dict)
    asked: dict[str, tuple[int, float]] = field(default_factory=dict)
    # In a machine of simulated time: a thousand million instructions, which no other load of the host changes.
    busy: float = 0.0

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Self:
        """Read one; parts are known in the seconds of the test's own process, the cost also has those of others."""
        own = {part: float(raw["parts"].get(part, 0.0)) for part in PARTS}
        # All that a machine does is seen inside as time in which it is not idle, and outside as QEMU's.
        everything = float(raw.get("busy", raw["own"] + raw["children"]))
        own[ELSEWHERE] = max(0.0, everything - sum(own.values()))
        cost = float(raw.get("qemu", everything))
        share = cost / (sum(own.values()) or 1.0)
        functions = {kind: Counter(found) for kind, found in raw.get("functions", {}).items()}
        parts = {part: spent * share for part, spent in own.items()}
        asked = {what: (raw["calls"].get(what, 0), raw["parts"].get(what, 0.0) * share) for what in BESIDE}
        name = raw["test"].removeprefix("scenarios/")
        return cls(name, cost, parts, functions, asked, float(raw.get("busy", 0.0)))


@dataclass(frozen=True)
class Measured:
    """A run: its tests, dearest first, and what came before them, in seconds of processor time by name."""

    tests: list[Test]
    before: dict[str, float]
    machine: bool

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Self:
        """Read the file that the plugin wrote."""
        before: Counter[str] = Counter()
        for start in raw["starts"]:
            before.update({name: spent for name, spent in start.items() if name != "worker"})
        machine = bool(raw["starts"])
        if not machine:
            for session in {each["worker"]: each["session"] for each in raw["tests"]}.values():
                before.update(session)
        tests = sorted(map(Test.of, raw["tests"]), key=lambda test: -test.cost)
        return cls(tests, dict(before), machine)

    @property
    def cost(self) -> float:
        """Of all tests."""
        return sum(test.cost for test in self.tests)

    def parts(self) -> dict[str, float]:
        """Of all tests, by part."""
        return {part: sum(test.parts[part] for test in self.tests) for part in (*PARTS, ELSEWHERE)}

    def functions(self, kind: str) -> Counter[str]:
        """Samples of all tests by function."""
        found: Counter[str] = Counter()
        for test in self.tests:
            found.update(test.functions.get(kind, {}))
        return found


def lines(measured: Measured, most: int) -> Iterator[str]:
    """All tables, in Markdown."""
    what = "processor time of QEMU" if measured.machine else "processor time"
    yield f"{len(measured.tests)} tests, {measured.cost:.0f} s ({what}); before them " + ", ".join(
        f"{name} {spent:.1f} s" for name, spent in measured.before.items()
    )
    yield ""
    yield from _table(("part", "s", "%"), _shares(measured))
    yield ""
    yield from _table(("test", "s", *PARTS, ELSEWHERE, *BESIDE), (_row(test) for test in measured.tests[:most]))
    rest = measured.tests[most:]
    if rest:
        middle = sorted(test.cost for test in rest)[len(rest) // 2]
        yield f"\n{len(rest)} more take {sum(test.cost for test in rest):.0f} s, the middle of them {middle:.2f} s."
    for kind in ("kernel", "programs", "python"):
        found = measured.functions(kind)
        if found:
            yield ""
            yield from _table((kind, "samples", "%"), _most(found, kind))


def compared(before: Measured, after: Measured, most: int) -> Iterator[str]:
    """Two runs, of the tests that both have: what each cost before and after, and those in which most was saved.

    In machines by instructions: how long those take depends on what else the host has to do.
    """
    then = {test.name: test for test in before.tests}
    pairs = [(then[test.name], test) for test in after.tests if test.name in then]

    def cost(test: Test) -> float:
        return test.busy if after.machine else test.cost

    unit = "thousand million instructions" if after.machine else "s of processor time"
    sums = [sum(cost(pair[side]) for pair in pairs) for side in (0, 1)]
    share = sums[1] / (sums[0] or 1)
    yield f"{len(pairs)} tests: {sums[0]:.1f} before, {sums[1]:.1f} after, {share:.2f} of it ({unit})"
    yield ""
    pairs.sort(key=lambda pair: cost(pair[1]) - cost(pair[0]))
    rows = [(b.name, f"{cost(b):.2f}", f"{cost(a):.2f}", f"{cost(a) / (cost(b) or 1):.2f}") for b, a in pairs[:most]]
    yield from _table(("test", "before", "after", "ratio"), iter(rows))


def _shares(measured: Measured) -> Iterator[tuple[str, ...]]:
    for part, spent in sorted(measured.parts().items(), key=lambda one: -one[1]):
        yield part, f"{spent:.1f}", f"{100 * spent / (measured.cost or 1):.0f}"


def _row(test: Test) -> tuple[str, ...]:
    return (
        test.name,
        f"{test.cost:.2f}",
        *(f"{test.parts[part]:.2f}" for part in (*PARTS, ELSEWHERE)),
        *(f"{times} x, {spent:.2f}" for times, spent in test.asked.values()),
    )


def _most(found: Counter[str], kind: str) -> Iterator[tuple[str, ...]]:
    # A line "for f" has what all that f called took: those are no shares of a whole.
    whole = sum(n for name, n in found.items() if kind != "python" or not name.startswith("for "))
    for name, n in found.most_common(FUNCTIONS):
        yield name, str(n), f"{100 * n / (whole or 1):.1f}"


def _table(head: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    head = tuple(head)
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
