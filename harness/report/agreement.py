"""Whether two runs agree: the same evidence but for its stamps, or the same verdicts on the same kernel."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.claims.canonical import Form, canonical
from harness.claims.verdicts import side_by_side, verdict_of
from harness.errors import BadInput
from harness.observe.pcapng import read_pcapng

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from harness.report.stored import Run, Table

# What a difference is about, by its path; the first that fits.
REASONS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("verdict", re.compile(r"^(outcome|verdict|expected|reason|absence)\b")),
    ("kernel", re.compile(r"^(kernel|nodeid|params|options)\b")),
    ("packets", re.compile(r"^packets\b")),
    ("impairments", re.compile(r"^impairments\b")),
    ("phases", re.compile(r"^phases/[^/]*/(kind|title|interrupted)$")),
    ("number of polls", re.compile(r"/series/.*/length$|/series/.*/points/\d+$")),
    ("seen by a poll", re.compile(r"/series/")),
    ("memory", re.compile(r"\b(bytes|memory|objects|slab)\b")),
    ("counters", re.compile(r"^phases/[^/]*/counters/")),
    ("sockets when listed", re.compile(r"^phases/[^/]*/sockets/")),
    ("range that was computed", re.compile(r"/comparisons/.*/(document|kernel|wanted)\b")),
    ("measured", re.compile(r"/comparisons/.*/measured\b")),
    ("judged", re.compile(r"/comparisons/.*/result$")),
    ("noted", re.compile(r"/notes/")),
)  # fmt: skip
ONE_SIDE = "run on one side alone"


class Result(StrEnum):
    """How far two sides agree on a claim."""

    IDENTICAL = "identical"
    STAMPS = "but for stamps"
    DIFFERS = "differs"
    ONLY_A = "only in A"
    ONLY_B = "only in B"


class Said(StrEnum):
    """How the verdicts of two sides stand to each other."""

    SAME = "with the same verdict"
    ANOTHER = "with another"
    ONLY_A = "only in A"
    ONLY_B = "only in B"


@dataclass(frozen=True)
class Difference:
    """A value that differs: the test, its path in the canonical form, both values ("-" where there is none)."""

    run: str
    path: str
    a: str
    b: str
    reason: str


@dataclass
class Agreement:
    """What the two sides have of a claim on a kernel."""

    claim: str
    release: str
    stamps: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    raw: bool = True
    sides: tuple[bool, bool] = (True, True)

    @property
    def result(self) -> Result:
        """How far they agree."""
        if not all(self.sides):
            return Result.ONLY_A if self.sides[0] else Result.ONLY_B
        if self.differences:
            return Result.DIFFERS
        return Result.IDENTICAL if self.raw else Result.STAMPS


@dataclass(frozen=True)
class Verdicts:
    """The verdicts of a claim on both sides, by test, and what was measured differently where they are not the same."""

    claim: str
    release: str
    a: dict[str, str]
    b: dict[str, str]
    measured: tuple[str, ...] = ()

    @property
    def result(self) -> Said:
        """How they stand to each other."""
        if self.a == self.b:
            return Said.SAME
        return Said.ONLY_A if not self.b else Said.ONLY_B if not self.a else Said.ANOTHER

    @property
    def told(self) -> tuple[str, str]:
        """What each side says: a word where all tests say the same, or else what those say that differ."""
        every = {**self.a, **self.b}
        telling = [test for test in every if self.a.get(test) != self.b.get(test)]
        first, second = (_told(side, telling, every) for side in (self.a, self.b))
        return first, second


@dataclass
class _Pair:
    """The runs of a claim on a kernel, by test, on each side."""

    a: dict[str, Run] = field(default_factory=dict)
    b: dict[str, Run] = field(default_factory=dict)

    def tests(self) -> Iterator[tuple[str, Run | None, Run | None]]:
        """Each test with its run on either side."""
        return ((test, self.a.get(test), self.b.get(test)) for test in sorted({**self.a, **self.b}))


def evidence(table: Table, a: Path, b: Path) -> list[Agreement]:
    """Compare what two directories of a table have, run by run, in canonical form."""
    found = []
    for (claim, release), pair in _pairs(table, a, b):
        made = Agreement(claim, release, sides=(bool(pair.a), bool(pair.b)))
        for test, one, other in pair.tests():
            if one is None or other is None:
                sides = "there" if one else "-", "there" if other else "-"
                made.differences.append(Difference(_short(test), "run", *sides, ONE_SIDE))
            else:
                _compare(made, _short(test), one, other)
        found.append(made)
    return found


def verdicts(table: Table, a: Path, b: Path) -> list[Verdicts]:
    """Compare the verdicts that two directories of a table have, test by test."""
    found = []
    for (claim, release), pair in _pairs(table, a, b):
        sides = pair.a, pair.b
        a_says, b_says = ({test: verdict_of({"runs": [run.data]}) for test, run in side.items()} for side in sides)
        other = [test for test in a_says if test in b_says and a_says[test] != b_says[test]]
        measured = side_by_side(*({"runs": [side[test].data for test in other]} for side in sides))
        found.append(Verdicts(claim, release, a_says, b_says, tuple(measured)))
    return found


def _told(side: dict[str, str], telling: Sequence[str], every: Collection[str]) -> str:
    words = [side.get(test, "-") for test in telling]
    if len(set(words)) == 1 and len(telling) == len(every):
        return words[0]
    return ", ".join(f"{word} {_brackets(test)}" for word, test in zip(words, telling, strict=True))


def _brackets(test: str) -> str:
    return f"[{test.partition('[')[2]}" if "[" in test else _short(test)


def _short(test: str) -> str:
    return test.rpartition("::")[2]


def _pairs(table: Table, a: Path, b: Path) -> list[tuple[tuple[str, str], _Pair]]:
    """The runs of both directories by claim and release; BadInput if they have no kernel in common."""
    pairs: dict[tuple[str, str], _Pair] = {}
    releases: dict[Path, set[str]] = {a: set(), b: set()}
    for row, _, cell in table.cells():
        for run in cell.runs:
            release = run.kernel["release"]
            releases[run.directory].add(release)
            test = run.nodeid.partition("::")[0] + "::" + run.which
            pair = pairs.setdefault((row.name, release), _Pair())
            if run.directory == a:
                pair.a[test] = run
            if run.directory == b:
                pair.b[test] = run
    if not releases[a] & releases[b]:
        told = "; ".join(f"{place} is of {', '.join(sorted(its))}" for place, its in releases.items())
        raise BadInput(f"no kernel in common: {told}. `harness report --diff` shows what changed between two kernels")
    return sorted(pairs.items())


def _compare(made: Agreement, test: str, one: Run, other: Run) -> None:
    """Add what two runs of a test have differently, and the stamps that occurred."""
    (left, left_packets), (right, right_packets) = _form(one), _form(other)
    made.raw &= one.data == other.data and left_packets == right_packets
    made.stamps += left.stamps | right.stamps
    made.differences += [
        Difference(test, path, left.lines.get(path, "-"), right.lines.get(path, "-"), reason_of(path))
        for path in {**left.lines, **right.lines}
        if left.lines.get(path) != right.lines.get(path)
    ]


def _form(run: Run) -> tuple[Form, bytes]:
    """A run in canonical form, and the bytes of its capture; a capture that is gone has none."""
    content = b""
    if run.packets is not None:
        try:
            content = run.packets.read_bytes()
        except OSError as error:
            raise BadInput(f"{run.packets}: cannot be read: {error.strerror}") from None
    return canonical(run.data, read_pcapng(content).packets if content else ()), content


def reason_of(path: str) -> str:
    """What kind of thing a path of the canonical form leads to."""
    return next((reason for reason, pattern in REASONS if pattern.search(path)), "other")
