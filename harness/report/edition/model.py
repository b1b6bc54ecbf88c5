"""The edition as data: what the templates show, and nothing that they must work out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.claims.corrections import NOTHING, Correction, Worth
from harness.evidence.types import NOT_SETTLED, Verdict
from harness.laws.kernel import age

if TYPE_CHECKING:
    from harness.claims.documents import Document
    from harness.evidence.types import Claim, Kernel
    from harness.laws.known import Knowledge
    from harness.report.edition.places import Line, Place

REFUTED = Verdict.REFUTED.words
# So many kernels are named one by one; of more, which follow each other, the first and the last.
NAMED = 3


@dataclass(frozen=True)
class Account:
    """What is expected of some kernels: `ranges` are empty if it is so on all.

    The change that made it so has a `commit`, and `releases` that came with it, those of a `tool` if it is not the
    kernel's; `known` says how: measured or read on both of its sides. `always`: since the kernel's history begins.
    """

    verdict: str
    ranges: tuple[Range, ...]
    because: str
    commit: str
    releases: str
    subject: str
    known: Knowledge
    always: bool
    tool: bool

    @property
    def began(self) -> bool:
        """Whether it has not always been so."""
        return bool(self.ranges) and all(each.first for each in self.ranges)

    @property
    def dated(self) -> bool:
        """Whether there is something to say of when it began or ended."""
        return any(each.first or each.end for each in self.ranges) or bool(self.releases)


@dataclass(frozen=True)
class Range:
    """Kernels [first, end) as releases; empty texts where it is open."""

    first: str
    end: str


@dataclass(frozen=True)
class Seen:
    """What was measured in a phase: in words, with what the document says where that is something else."""

    phase: str
    findings: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """What a verdict rests on: with the cause, and without it, on a kernel."""

    kernel: str
    effects: tuple[Seen, ...] = ()
    controls: tuple[Seen, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A claim at a place; at the `first` of its places it is told in full, the others are `elsewhere`.

    `now` are the kernels that have the verdict of this one, since 5.4, where others have another.
    """

    claim: Claim
    place: Place
    first: bool
    elsewhere: tuple[Place, ...]
    verdict: str
    by_kernel: dict[str, list[str]]
    accounts: tuple[Account, ...]
    measured: Measured | None
    why_not: str
    now: Range | None = None
    correction: Correction = NOTHING

    @property
    def verdicts(self) -> str:
        """Which verdict on which kernels: by name, or the first and the last where no other verdict lies between."""
        kernels = [each for of_verdict in self.by_kernel.values() for each in of_verdict]
        order = sorted(kernels, key=age)
        return "; ".join(f"{verdict} on {_named(of_it, order)}" for verdict, of_it in self.by_kernel.items())

    @property
    def corrected(self) -> bool:
        """Whether there is something to write instead."""
        return bool(self.correction.en.instead)

    @property
    def steady(self) -> bool:
        """Whether it has one verdict on all kernels, and something changed all the same."""
        return len({account.verdict for account in self.accounts}) == 1 and len(self.accounts) > 1

    @property
    def worth(self) -> str:
        """What the document's advice is worth, if it gives any."""
        return "" if self.correction.worth is Worth.NONE else str(self.correction.worth)

    @property
    def sign(self) -> str:
        """A shape for the verdict."""
        return {"holds": "✓", "not applicable": "–", NOT_SETTLED: "?"}.get(self.verdict, "✗")


@dataclass(frozen=True)
class Section:
    """A heading with its claims, and the lines under it that are not judged, with the reason."""

    heading: str
    english: str
    line: int
    entries: tuple[Entry, ...]
    unjudged: tuple[Line, ...]


@dataclass(frozen=True)
class Chapter:
    """A document with its headings."""

    document: Document
    ours: bool
    sections: tuple[Section, ...]

    @property
    def told(self) -> list[Entry]:
        """The claims that are told in full here."""
        return [entry for section in self.sections for entry in section.entries if entry.first]

    @property
    def counts(self) -> Counter[str]:
        """How many of these have which verdict."""
        return Counter(entry.verdict for entry in self.told)

    @property
    def to_correct(self) -> list[Entry]:
        """What is wrong under its headings, wherever it is told in full."""
        return [entry for section in self.sections for entry in section.entries if entry.corrected]


@dataclass(frozen=True)
class Edition:
    """All documents, as a kernel has them; `others` are further kernels with evidence."""

    kernel: Kernel
    others: tuple[str, ...]
    chapters: tuple[Chapter, ...]
    total: Counter[str] = field(default_factory=Counter)


def _named(kernels: list[str], order: list[str]) -> str:
    """Some of the kernels in order."""
    first, last = (order.index(kernels[place]) for place in (0, -1))
    if len(kernels) <= NAMED or order[first : last + 1] != kernels:
        return ", ".join(kernels)
    which = f"all {len(kernels)} kernels" if kernels == order else f"{len(kernels)} kernels"
    return f"{which}, {kernels[0]} to {kernels[-1]}"
