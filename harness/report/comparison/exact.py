"""Whether two runs on the same kernel agree byte for byte, but for stamps: evidence and packets, in canonical form."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from harness import files
from harness.errors import BadInput
from harness.evidence.canonical import Form, canonical
from harness.observe.pcapng import read_pcapng

if TYPE_CHECKING:
    from harness.report.comparison.sides import ClaimSides, Sides, TestSides
    from harness.report.table import Entry

ONE_SIDE = "run on one side alone"


class Agreement(StrEnum):
    """How far two sides agree on a claim."""

    IDENTICAL = "identical"
    STAMPS = "but for stamps"
    DIFFERS = "differs"
    ONLY_BEFORE = "only in A"
    ONLY_AFTER = "only in B"


class Line(msgspec.Struct, frozen=True):
    """A value that differs: the test, its path in the canonical form, both values ("-" where there is none).

    `about` says what it is about: a topic of the form.
    """

    test: str
    path: str
    before: str
    after: str
    about: str


class ClaimAgreement(msgspec.Struct, frozen=True):
    """What the two sides have of a claim; `stamps` counts what was replaced in the form, by name."""

    claim: str
    agreement: Agreement
    stamps: dict[str, int]
    lines: list[Line]


class Exact(msgspec.Struct, frozen=True):
    """What two sides have of each claim, on a kernel; `empty` counts the tests that came to nothing on either side."""

    kernel: str
    compared: int
    empty: int
    claims: list[ClaimAgreement]

    @property
    def same(self) -> bool:
        """Whether they agree on everything."""
        return all(claim.agreement in (Agreement.IDENTICAL, Agreement.STAMPS) for claim in self.claims)


def exact(sides: Sides) -> Exact:
    """Compare two runs on a kernel; BadInput if the kernels are not the same, or if packets cannot be read."""
    before, after = sides.before.kernel, sides.after.kernel
    if before.release != after.release:
        raise BadInput(f"--exact compares two runs on the same kernel, not {before.release} with {after.release}")
    claims = sides.claims()
    tests = [test for each in claims for test in each.tests()]
    empty = sum(test.are_empty for test in tests)
    compared = sum(test.runs is not None for test in tests) - empty
    return Exact(before.release, compared, empty, [_claim(each) for each in claims])


def _claim(sides: ClaimSides) -> ClaimAgreement:
    name = sides.claim.name
    if sides.before is None or sides.after is None:
        return ClaimAgreement(name, Agreement.ONLY_BEFORE if sides.before else Agreement.ONLY_AFTER, {}, [])
    stamps: Counter[str] = Counter()
    lines: list[Line] = []
    identical = True
    for test in sides.tests():
        identical &= _compare(test, stamps, lines)
    agreement = Agreement.DIFFERS if lines else Agreement.IDENTICAL if identical else Agreement.STAMPS
    return ClaimAgreement(name, agreement, dict(stamps), lines)


def _compare(test: TestSides, stamps: Counter[str], lines: list[Line]) -> bool:
    """Add what two runs of a test have differently, and the stamps that occurred; whether they are identical."""
    if test.before is None or test.after is None:
        before, after = ("there" if side else "-" for side in (test.before, test.after))
        lines.append(Line(test.test, "run", before, after, ONE_SIDE))
        return False
    (left, packets), (right, other_packets) = _form(test.before), _form(test.after)
    stamps.update(left.stamps | right.stamps)
    topics = right.topics | left.topics
    lines += [
        Line(test.test, path, left.lines.get(path, "-"), right.lines.get(path, "-"), topics[path])
        for path in {**left.lines, **right.lines}
        if left.lines.get(path) != right.lines.get(path)
    ]
    return test.before.run == test.after.run and packets == other_packets


def _form(entry: Entry) -> tuple[Form, bytes]:
    """A run in canonical form, and the bytes of its capture; a capture that is gone has none."""
    content = b""
    if entry.packets is not None:
        try:
            content = files.content(entry.packets)
        except OSError as error:
            raise BadInput(f"{entry.packets}: cannot be read: {error.strerror}") from None
        except ValueError:
            raise BadInput(f"{entry.packets}: cannot be read: that is no name of a file") from None
    try:
        return canonical(entry.run, read_pcapng(content).packets if content else ()), content
    except BadInput as error:
        raise BadInput(f"{entry.packets}: cannot be read: {error}") from None
