"""Evidence of one or several runs as a table: a row for each claim, a column for each kernel."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import BadInput
from harness.evidence.codec import encode_claim, harness_version, read_directory
from harness.evidence.failed import FOLDER, read_all
from harness.evidence.types import NOT_SETTLED, SAID, WRONG, Outcome
from harness.laws.kernel import age

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from harness.evidence.failed import FailedTest
    from harness.evidence.types import Claim, Kernel, Run
    from harness.laws.kernel import Age

# What tells the columns of one release apart, by release, directory and name of the kernel.
Labels = dict[tuple[str, Path, str], str]


@dataclass(frozen=True)
class Entry:
    """A run in the table, and the directory that has its packets."""

    run: Run
    directory: Path

    @property
    def test(self) -> str:
        """Test and parameters, without its file and the kernel: what tells the runs of a cell apart."""
        return self.run.test.rpartition("::")[2]

    @property
    def packets(self) -> Path | None:
        """The file with its packets; None if it has none. It lies beside the evidence, whatever that says."""
        return self.directory / Path(self.run.packets).name if self.run.packets else None


@dataclass(frozen=True)
class Column:
    """A kernel of the table; `place` tells two runs of the same kernel apart."""

    kernel: Kernel
    place: str = ""

    @property
    def label(self) -> str:
        """What stands above the column."""
        return f"{self.kernel.version} · {self.place}" if self.place else self.kernel.version

    @property
    def order(self) -> tuple[Age, str]:
        """Columns stand from the oldest kernel to the newest."""
        return age(self.kernel.version, self.kernel.release), self.place


def said_by(runs: Iterable[Run]) -> str:
    """The loudest that runs say: one of SAID."""
    sayings = {run.said for run in runs}
    settled = sayings - {NOT_SETTLED}
    # A file of somebody else's may say that what came out was expected, and not what that was.
    return next((said for said in SAID if said in (settled or sayings)), str(Outcome.INCOMPLETE))


@dataclass(frozen=True)
class Cell:
    """The runs of a claim on a kernel."""

    entries: tuple[Entry, ...]

    @property
    def said(self) -> str:
        """The loudest that its runs say: one of SAID."""
        return said_by(entry.run for entry in self.entries)

    @property
    def is_wrong(self) -> bool:
        """Whether something in it is not as expected."""
        return self.said in WRONG

    @property
    def is_flaky(self) -> bool:
        """Whether a run of it came out as expected only when it was run again."""
        return any(entry.run.is_flaky for entry in self.entries)

    @property
    def partly(self) -> bool:
        """Whether some of its runs could not be made, and others could."""
        return len({entry.run.said == NOT_SETTLED for entry in self.entries}) == 2


@dataclass
class Row:
    """A claim as its evidence repeats it, and its cells."""

    claim: Claim
    cells: dict[Column, Cell] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A test without a claim that failed, or a complaint of the kernel's that came when a test was over."""

    test: FailedTest
    directory: Path
    column: Column

    @property
    def packets(self) -> Path | None:
        """The file with its packets; None if it has none."""
        return self.directory / FOLDER / Path(self.test.packets).name if self.test.packets else None


@dataclass(frozen=True)
class Missing:
    """What was to run and did not: a kernel, "Linux 6.12.117", a module or a test; `why` is the rest of a sentence.

    What `ran` is not missing: it is something else that makes the run a failed one, a difference from its baseline.
    """

    what: str
    why: str
    ran: bool = False

    def __str__(self) -> str:
        return f"{self.what} {self.why}"


@dataclass(frozen=True)
class Table:
    """All evidence of a report.

    `columns` are the kernels that claims ran on. `notices` say what could not be read, `missing` what was to run and
    did not, `failures` what failed beside the claims.
    """

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    harness: str
    notices: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()
    failures: tuple[Failure, ...] = ()
    places: dict[Path, tuple[Column, ...]] = field(default_factory=dict, compare=False)

    def columns_of(self, directory: Path) -> tuple[Column, ...]:
        """The columns that a directory brought."""
        return self.places.get(directory, ())

    @property
    def kernels(self) -> tuple[Column, ...]:
        """The columns, and the kernels on which no claim ran and something failed."""
        return _ordered({*self.columns, *(failure.column for failure in self.failures)})

    def failures_on(self, column: Column) -> list[Failure]:
        """What failed beside the claims on a kernel."""
        return [failure for failure in self.failures if failure.column == column]

    def cells(self) -> Iterable[tuple[Row, Column, Cell]]:
        """Every cell that has runs."""
        return ((row, column, cell) for row in self.rows for column, cell in row.cells.items())


def read(
    directories: Sequence[Path], *, claims: Collection[str] | None = None, tests: Collection[str] | None = None,
    missing: Sequence[Missing] = (),
) -> Table:  # fmt: skip
    """The evidence of these directories; of these claims or groups of claims alone, where they are named.

    Failed tests without a claim are in it too: those that are named in `tests`, or all, where no claims are named.

    What an interrupted run left is used as far as it goes: what cannot be read is left out, with a notice.
    `missing` is what was to run and did not. Raises BadInput if a directory has no
    evidence, if it is of another schema, or if versions of the harness mix.
    """
    notices: list[str] = []
    versions: dict[str, Path] = {}
    rows: dict[str, Row] = {}
    newest: dict[str, tuple[float, bytes]] = {}
    entries: list[tuple[Row, Entry]] = []
    failed: list[tuple[FailedTest, Path]] = []
    named = {os.path.realpath(directory): directory for directory in reversed(directories)}
    for directory in sorted(named.values()):
        contents = read_directory(directory, claims)
        wanted = tests if tests is not None or claims is None else ()
        beside, unread = read_all(directory, wanted)
        failed += [(test, directory) for test in beside]
        where = f"{directory}/" if len(named) > 1 else ""
        notices += [f"{where}{notice}" for notice in (*contents.notices, *unread)]
        if not contents.files and not beside:
            what = "no evidence here" if claims is None else f"no evidence of {', '.join(claims)} here"
            also = f" ({contents.notices[-1]})" if contents.notices else ""
            raise BadInput(f"{directory}: {what}{also}; run `pytest scenarios/ --tcp-evidence {directory}` first")
        for file in contents.files:
            versions.setdefault(file.harness, directory / f"{file.claim.name}.json")
            row = rows.setdefault(file.claim.name, Row(file.claim))
            # As the newest run has it, whichever directory was named first.
            made = max((run.when for run in file.runs), default=0.0), encode_claim(file.claim)
            if made >= newest.get(file.claim.name, made):
                newest[file.claim.name], row.claim = made, file.claim
            entries += [(row, Entry(run, directory)) for run in file.runs]
    entries.sort(key=lambda each: (each[1].run.nodeid, each[1].run.when, each[1].directory))
    failed.sort(key=lambda each: (each[0].nodeid, each[1]))
    labels = _labels([_Ran.of(entry) for _, entry in entries] + [_Ran.of_failed(*each) for each in failed])
    columns, places = _fill(entries, labels)
    failures = [
        Failure(test, place, Column(test.kernel, labels[test.kernel.release, place, test.kernel_name]))
        for test, place in failed
    ]
    places |= {each: places.get(named[os.path.realpath(each)], ()) for each in directories}
    ordered = tuple(rows[name] for name in sorted(rows))
    return Table(
        ordered, columns, _one_version(versions), tuple(notices), tuple(missing), tuple(failures), places
    )  # fmt: skip


def _one_version(versions: dict[str, Path]) -> str:
    """The version of the harness that wrote all of it, or ours if no claim ran; BadInput if there were two."""
    if len(versions) > 1:
        listed = "; ".join(f"{path} is by version {version}" for version, path in versions.items())
        raise BadInput(f"evidence of different versions of the harness is not mixed: {listed}; run one of them again")
    return next(iter(versions), harness_version())


def _fill(
    entries: Sequence[tuple[Row, Entry]], labels: Labels
) -> tuple[tuple[Column, ...], dict[Path, tuple[Column, ...]]]:
    """Put the entries into the cells of their rows; the columns, in all and of each directory."""
    places: dict[Path, set[Column]] = defaultdict(set)
    for row, entry in entries:
        run = entry.run
        column = Column(run.kernel, labels[run.kernel.release, entry.directory, run.kernel_name])
        cell = row.cells.get(column, Cell(()))
        row.cells[column] = Cell((*cell.entries, entry))
        places[entry.directory].add(column)
    for row in {id(row): row for row, _ in entries}.values():
        row.cells = {column: row.cells[column] for column in _ordered(row.cells)}
    by_directory = {directory: _ordered(columns) for directory, columns in places.items()}
    return _ordered({column for columns in by_directory.values() for column in columns}), by_directory


def _ordered(columns: Iterable[Column]) -> tuple[Column, ...]:
    return tuple(sorted(columns, key=lambda column: column.order))


class _Ran(NamedTuple):
    """What of a run tells whether a kernel's release is enough to name its column."""

    release: str
    directory: Path
    kernel: str
    test: str

    @staticmethod
    def of(entry: Entry) -> _Ran:
        run = entry.run
        return _Ran(run.kernel.release, entry.directory, run.kernel_name, run.test)

    @staticmethod
    def of_failed(test: FailedTest, directory: Path) -> _Ran:
        return _Ran(test.kernel.release, directory, test.kernel_name, test.test)


def _labels(runs: Sequence[_Ran]) -> Labels:
    """What tells the columns of one release apart.

    It is the directory, if the same test was run on the release in two of them (parts of one run in two directories are
    one), and the kernel's name, if it was on two kernels of the release within any of them.
    """
    directories: dict[tuple[str, str], set[Path]] = defaultdict(set)
    kernels: dict[tuple[str, Path, str], set[str]] = defaultdict(set)
    for run in runs:
        directories[run.release, run.test].add(run.directory)
        kernels[run.release, run.directory, run.test].add(run.kernel)
    elsewhere = {release for (release, _), places in directories.items() if len(places) > 1}
    beside = {release for (release, _, _), names in kernels.items() if len(names) > 1}
    names = Counter(path.name for path in {run.directory for run in runs})
    labels = {}
    for run in runs:
        release, folder, kernel = key = run.release, run.directory, run.kernel
        place = (folder.name if names[folder.name] == 1 else str(folder)) if release in elsewhere else ""
        labels[key] = f"{place} {kernel}".strip() if release in beside else place
    return labels
