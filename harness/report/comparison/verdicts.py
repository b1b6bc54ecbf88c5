"""Whether two runs came to the same verdicts, test by test."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from harness.evidence.differences import Difference, differences

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from harness.evidence.types import Run
    from harness.report.comparison.sides import ClaimSides, Sides


class Agreement(StrEnum):
    """How the verdicts of two sides stand to each other."""

    SAME = "with the same verdict"
    ANOTHER = "with another"
    ONLY_BEFORE = "only in A"
    ONLY_AFTER = "only in B"


class Measured(msgspec.Struct, frozen=True):
    """What was measured differently in a test that came to another verdict."""

    test: str
    difference: Difference


class ClaimVerdicts(msgspec.Struct, frozen=True):
    """The verdicts of a claim on both sides, by test, and what was measured differently where they are not the same."""

    claim: str
    before: dict[str, str]
    after: dict[str, str]
    measured: list[Measured]

    @property
    def agreement(self) -> Agreement:
        """How they stand to each other."""
        if self.before == self.after:
            return Agreement.SAME
        if not self.after:
            return Agreement.ONLY_BEFORE
        return Agreement.ANOTHER if self.before else Agreement.ONLY_AFTER

    @property
    def words(self) -> tuple[str, str]:
        """What each side says: a word where all tests say the same, or else what those say that differ."""
        every = {**self.before, **self.after}
        telling = [test for test in every if self.before.get(test) != self.after.get(test)]
        return _words(self.before, telling, every), _words(self.after, telling, every)


class Verdicts(msgspec.Struct, frozen=True):
    """The verdicts of two sides, claim by claim; `empty` counts the tests that came to nothing on either side."""

    kernels: tuple[str, str]
    compared: int
    empty: int
    claims: list[ClaimVerdicts]

    @property
    def same(self) -> bool:
        """Whether all are the same."""
        return all(claim.agreement is Agreement.SAME for claim in self.claims)


def verdicts(sides: Sides) -> Verdicts:
    """Compare the verdicts of two sides."""
    claims = sides.claims()
    tests = [test for each in claims for test in each.tests()]
    empty = sum(test.are_empty for test in tests)
    compared = sum(test.runs is not None for test in tests) - empty
    kernels = sides.before.kernel.release, sides.after.kernel.release
    return Verdicts(kernels, compared, empty, [_claim(each) for each in claims])


def _claim(sides: ClaimSides) -> ClaimVerdicts:
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    measured: list[Measured] = []
    for test in sides.tests():
        if test.before:
            before[test.test] = _verdict(test.before.run)
        if test.after:
            after[test.test] = _verdict(test.after.run)
        if test.runs and before[test.test] != after[test.test]:
            measured += [Measured(test.test, each) for each in differences(*test.runs) if each.changed]
    return ClaimVerdicts(sides.claim.name, before, after, measured)


def _verdict(run: Run) -> str:
    return str(run.verdict or run.outcome)


def _words(side: dict[str, str], telling: Sequence[str], every: Collection[str]) -> str:
    words = [side.get(test, "-") for test in telling]
    if len(set(words)) == 1 and len(telling) == len(every):
        return words[0]
    return ", ".join(f"{word} {_brackets(test)}" for word, test in zip(words, telling, strict=True))


def _brackets(test: str) -> str:
    return f"[{test.partition('[')[2]}" if "[" in test else test
