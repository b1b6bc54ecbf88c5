"""The two sides of a comparison, and what each has of a claim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import BadInput
from harness.evidence.types import Outcome, short_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from harness.evidence.types import Claim, Run
    from harness.report.table import Cell, Column, Entry, Table


@dataclass(frozen=True)
class Sides:
    """Two columns of a table: before and after, or A and B."""

    table: Table
    before: Column
    after: Column

    @property
    def labels(self) -> tuple[str, str]:
        """What each is called: the kernel, and the run where both are of the same kernel."""
        return self.before.label, self.after.label

    def claims(self) -> list[ClaimSides]:
        """What the sides have of each claim, for the claims that one of them has."""
        both = (ClaimSides(row.claim, row.cells.get(self.before), row.cells.get(self.after)) for row in self.table.rows)
        return [each for each in both if each.before or each.after]


@dataclass(frozen=True)
class ClaimSides:
    """What two sides have of a claim."""

    claim: Claim
    before: Cell | None
    after: Cell | None

    def tests(self) -> Iterator[TestSides]:
        """Each test, with its run on either side."""
        ours, theirs = ({entry.run.test: entry for entry in cell.entries} if cell else {} for cell in self.cells)
        names = short_names(sorted({**ours, **theirs}))
        for name, short in names.items():
            yield TestSides(short, ours.get(name), theirs.get(name))

    @property
    def cells(self) -> tuple[Cell | None, Cell | None]:
        """Both."""
        return self.before, self.after


@dataclass(frozen=True)
class TestSides:
    """A test, with its parameters, and its run on either side."""

    test: str
    before: Entry | None
    after: Entry | None

    @property
    def runs(self) -> tuple[Run, Run] | None:
        """Both runs; None if a side has none."""
        return (self.before.run, self.after.run) if self.before and self.after else None

    @property
    def are_empty(self) -> bool:
        """Whether no side came to anything: the test was skipped on both, or died before it measured."""
        return self.runs is not None and all(_is_empty(run) for run in self.runs)


def _is_empty(run: Run) -> bool:
    return run.verdict is None and (run.outcome is Outcome.UNSETTLED or not run.phases)


def choose(table: Table, word: str) -> Column:
    """The column that a word means: a version, its beginning, a release, or a directory.

    BadInput if there is none, or if there are several.
    """
    exact = [
        column
        for column in table.columns
        if word in (column.kernel.version, column.kernel.release, column.label, column.place)
    ]
    columns = exact or [column for column in table.columns if column.kernel.version.startswith(f"{word}.")]
    if not columns:
        known = ", ".join(column.label for column in table.columns)
        raise BadInput(f"{word}: no such kernel in the evidence; there are {known or 'none'}")
    if len(columns) > 1:
        raise BadInput(f"{word} means {', '.join(column.label for column in columns)}: name one of them")
    return columns[0]


def pairs(table: Table, before: Path, after: Path) -> tuple[list[Sides], list[str]]:
    """The kernels of two directories side by side, and a line for each that one of them has not.

    One kernel is compared with one, whichever they are; of several, each with itself. BadInput if they have none in
    common.
    """
    ours, theirs = table.columns_of(before), table.columns_of(after)
    if len(ours) == 1 and len(theirs) == 1:
        return [Sides(table, ours[0], theirs[0])], []
    left, right = _by_release(ours, before), _by_release(theirs, after)
    common = [release for release in left if release in right]
    if not common:
        listed = "; ".join(f"{place} is of {', '.join(side)}" for place, side in ((before, left), (after, right)))
        raise BadInput(f"no kernel in common: {listed}; name two kernels of evidence with --evidence DIR")
    missing = [f"{after} has no run of {release}" for release in left if release not in right]
    missing += [f"{before} has no run of {release}" for release in right if release not in left]
    return [Sides(table, left[release], right[release]) for release in common], missing


def _by_release(columns: Sequence[Column], place: Path) -> dict[str, Column]:
    by_release: dict[str, Column] = {}
    for column in columns:
        if by_release.setdefault(column.kernel.release, column) is not column:
            labels = ", ".join(each.label for each in columns if each.kernel.release == column.kernel.release)
            raise BadInput(
                f"{place} has evidence of several kernels of one release ({labels}): name two with --evidence"
            )
    return by_release
