"""What changed when: kernels, verdicts, what was measured, numbers and durations beyond their spread; by session."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from harness.evidence.differences import differences
from harness.evidence.moved import moved
from harness.evidence.values import Kind, spell
from harness.report.comparison.lines import cut, difference_line
from harness.report.history.numbers import duration_moves, durations, numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.evidence.types import Run
    from harness.report.history.model import Course, Line, Session
    from harness.report.history.numbers import Moved, Numbers

# Of a test that measured otherwise in a run, so many measurements are told.
TOLD = 3


class What(StrEnum):
    """What it is that changed."""

    KERNEL = "kernel"
    HARNESS = "harness"
    VERDICT = "verdict"
    MEASURED = "measured"
    NUMBER = "number"
    DURATION = "duration"


@dataclass(frozen=True)
class Change:
    """Something that was not so in the run before: in which session of its line, what, and in words.

    `claim` and `test` are "" where it is not about a test. `before` and `after` are verdicts, values or spreads.
    """

    at: int
    what: What
    claim: str
    test: str
    before: str
    after: str
    says: str


def changes(line: Line) -> list[Change]:
    """What changed from session to session, the oldest first; in a session kernel and verdicts before numbers."""
    found = [*_of_sessions(line), *(change for test in line.tests for change in _of_test(test))]
    return sorted(found, key=lambda change: (change.at, list(What).index(change.what), change.claim, change.test))


def by_session(line: Line) -> Iterator[tuple[Session, list[Change]]]:
    """The sessions in which something changed, each with what."""
    found = changes(line)
    for number, session in enumerate(line.sessions):
        if here := [change for change in found if change.at == number]:
            yield session, here


def _of_sessions(line: Line) -> Iterator[Change]:
    for number, (before, after) in enumerate(zip(line.sessions, line.sessions[1:], strict=False), 1):
        pairs = (
            (What.KERNEL, before.kernel.release, after.kernel.release),
            (What.HARNESS, before.harness, after.harness),
        )
        for what, old, new in pairs:
            if old != new:
                yield Change(number, what, "", "", old, new, f"{what}: {cut(old)} -> {cut(new)}")


def _of_test(test: Course) -> Iterator[Change]:
    seen = test.seen
    otherwise: set[int] = set()
    for (_, before), (number, after) in pairwise(seen):
        told = list(_between(test, number, before, after))
        otherwise |= {number} if told else set()
        yield from told
    for each in numbers(test):
        # Where it was told that the test came out or measured otherwise, that is why the number moved.
        yield from (_number(test, each, move) for move in each.moves if move.at not in otherwise)
    lasting = durations(test)
    yield from (_number(test, lasting, move) for move in duration_moves(lasting))


def _between(test: Course, number: int, before: Run, after: Run) -> Iterator[Change]:
    """What two runs, one after the other, have differently."""
    if before.said != after.said:
        why = moved(after) or (moved(before) and f"before: {moved(before)}") or after.reason
        says = f"{before.said} -> {after.said}{': ' + cut(why) if why else ''}"
        yield Change(number, What.VERDICT, test.claim, test.name, before.said, after.said, says)
        return
    # Phases that are equal are the same objects.
    if all(one is other for one, other in zip(before.phases, after.phases, strict=False)) and len(before.phases) == len(
        after.phases
    ):
        return
    changed = [difference for difference in differences(before, after) if difference.changed]
    for difference in changed[:TOLD]:
        old, new = ("-" if side is None else str(side.measured) for side in (difference.before, difference.after))
        yield Change(number, What.MEASURED, test.claim, test.name, old, new, difference_line(difference))
    if (more := len(changed) - TOLD) > 0:
        yield Change(number, What.MEASURED, test.claim, test.name, "", "", f"… {more} more measurements")


def _number(test: Course, numbers: Numbers, move: Moved) -> Change:
    what = What.NUMBER if numbers.place else What.DURATION
    unit = numbers.unit or {Kind.SECONDS: "s", Kind.BYTES: "bytes"}.get(numbers.kind, "")
    before = spread(move.low, move.high, unit)
    after = f"{spell(move.value)} {unit}".rstrip()
    place = f"{numbers.place}: " if numbers.place else ""
    once = "" if move.repeated else " (in the newest run, not repeated yet)"
    says = f"{cut(place + numbers.what)}: {before} -> {after}{once}"
    return Change(move.at, what, test.claim, test.name, before, after, says)


def spread(low: float, high: float, unit: str = "") -> str:
    """A spread in words: "8 to 9 s", or the one number that it always was."""
    words = spell(low) if low == high else f"{spell(low)} to {spell(high)}"
    return f"{words} {unit}".rstrip()
