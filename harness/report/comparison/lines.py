"""Comparisons as lines for a terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from harness.report.comparison import exact, verdicts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harness.evidence.differences import Difference
    from harness.report.comparison.changes import Changes, ClaimChange

DIFFERENCES_SHOWN = 3
LONGEST = 70


def of_changes(changes: Changes, shown: int | None = None) -> Iterator[str]:
    """The claims that changed with what was measured, defaults and counters, and what there is in all.

    `shown` is how many measurements of a claim are listed; None for all.
    """
    for claim in changes.claims:
        yield from _claim(claim, shown)
    yield from _facts(changes)
    for side, alone in zip((changes.before, changes.after), changes.alone, strict=True):
        if alone:
            yield f"only on {side.label}: {', '.join(alone)}"
    other = sum(claim.verdict_changed for claim in changes.claims)
    yield (
        f"{changes.before.label} -> {changes.after.label}: {_claims(changes.compared)} compared: "
        f"{changes.compared - len(changes.claims)} the same, {other} with another verdict, "
        f"{len(changes.claims) - other} measured otherwise; {changes.within} measurements moved as they may"
        f"{_skipped(changes.empty)}"
    )


def _claim(claim: ClaimChange, shown: int | None) -> Iterator[str]:
    yield f"{claim.claim}: {' -> '.join(dict.fromkeys(claim.said))}"
    listed = [(test, difference) for test in claim.tests for difference in test.changed]
    for test in claim.tests:
        if test.said[0] != test.said[1]:
            yield f"  {test.test}: {' -> '.join(test.said)}"
    for test, difference in listed[:shown]:
        yield f"  {test.test}  {difference_line(difference)}"
    if more := len(listed) - len(listed[:shown]):
        yield f"  … {more} more"


def difference_line(difference: Difference) -> str:
    """A measurement that differs: where, what, both values, and how far it moved."""
    before, after = ("-" if side is None else cut(str(side.measured)) for side in (difference.before, difference.after))
    judged = difference.judged
    also = f"  ({difference.by})" if difference.by else ""
    also += f"  {judged[0]} -> {judged[1]}" if judged[0] != judged[1] else ""
    return f"{difference.place}: {difference.what}: {before} -> {after}{also}"


def _facts(changes: Changes) -> Iterator[str]:
    if changes.defaults:
        yield f"sysctls with other defaults: {len(changes.defaults)}"
        yield from (f"  {each.sysctl}: {each.before} -> {each.after}" for each in changes.defaults)
    if changes.counters:
        yield f"counters that moved on one side alone: {len(changes.counters)}"
        yield from (f"  {each.counter}: in {each.before} -> {_claims(each.after)}" for each in changes.counters)


def of_exact(answer: exact.Exact, shown: int | None = DIFFERENCES_SHOWN) -> Iterator[str]:
    """A line for each claim, those that differ last with their first differences, and what there is in all."""
    width = max((len(claim.claim) for claim in answer.claims), default=0)
    for claim in sorted(answer.claims, key=lambda each: (bool(each.lines), each.claim)):
        differs = claim.agreement is exact.Agreement.DIFFERS
        about = _counted(_topics(claim) if differs else claim.stamps)
        yield f"{claim.claim:<{width}}  {claim.agreement:<14}  {about}".rstrip()
        for line in claim.lines[:shown]:
            yield f"  {line.test}  {line.path}: {cut(line.before)} -> {cut(line.after)}"
        if more := len(claim.lines) - len(claim.lines[:shown]):
            yield f"  … {more} more"
    counts = Counter(claim.agreement for claim in answer.claims)
    same = f"{counts[exact.Agreement.IDENTICAL]} identical, {counts[exact.Agreement.STAMPS]} the same but for stamps"
    alone = f"{counts[exact.Agreement.ONLY_BEFORE]} only in A, {counts[exact.Agreement.ONLY_AFTER]} only in B"
    yield ""
    yield (
        f"Linux {answer.kernel}: {_claims(len(answer.claims))}: {same}, {counts[exact.Agreement.DIFFERS]} differ, "
        f"{alone}{_skipped(answer.empty)}"
    )
    topics = Counter(topic for claim in answer.claims for topic in _topics(claim))
    if topics:
        yield f"claims that differ, by what differs: {_counted(topics)}"


def _topics(claim: exact.ClaimAgreement) -> dict[str, int]:
    return Counter(line.about for line in claim.lines)


def of_verdicts(answer: verdicts.Verdicts) -> Iterator[str]:
    """A line for each claim on which the two sides do not agree, and how many do."""
    other = [claim for claim in answer.claims if claim.agreement is not verdicts.Agreement.SAME]
    width = max((len(claim.claim) for claim in other), default=0)
    for claim in other:
        yield f"{claim.claim:<{width}}  {' -> '.join(claim.words)}"
        yield from (f"  {each.test}  {difference_line(each.difference)}" for each in claim.measured)
    if other:
        yield ""
    counts = Counter(claim.agreement for claim in answer.claims)
    listed = ", ".join(f"{counts[agreement]} {agreement}" for agreement in verdicts.Agreement)
    kernels = " -> ".join(dict.fromkeys(answer.kernels))
    yield f"Linux {kernels}: {_claims(len(answer.claims))}: {listed}{_skipped(answer.empty)}"


def printable(lines: Iterable[str]) -> Iterator[str]:
    """Lines without what a terminal would obey: evidence may be anybody's."""
    for line in lines:
        yield "".join(letter if letter.isprintable() else "�" for letter in line)


def cut(text: str) -> str:
    """A text on one line, not too long a one."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names in a sentence; of many the first, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def _claims(number: int) -> str:
    return f"{number} claim{'s' * (number != 1)}"


def _skipped(empty: int) -> str:
    return f"; {empty} test{'s' * (empty != 1)} came to nothing on either side" if empty else ""


def _counted(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {many}" for name, many in ordered)
