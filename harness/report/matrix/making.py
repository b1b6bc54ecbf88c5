"""Making the matrix of evidence and facts, and joining it with one that is there."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from harness import files
from harness.errors import BadInput
from harness.evidence.types import Judgement
from harness.laws.kernel import KernelVersion, age
from harness.report import reproduce
from harness.report.matrix.types import Cell, ClaimRow, KernelColumn, Matrix, Number
from harness.report.table import read, said_by

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from harness.evidence.types import Claim, Kernel, Run
    from harness.kernels.facts import Facts
    from harness.report import table

# So many measurements of a cell are shown; an experiment that repeats itself has hundreds.
SHOWN = 6
LONGEST = 120


def of_evidence(directories: Sequence[Path]) -> Matrix:
    """The matrix of what these directories have. BadInput for one without evidence.

    Each is read by itself: they may be of different versions of the harness. A run may lie in several, a part in each;
    of two that have the same test on the same kernel, the later one counts.
    """
    columns: dict[str, KernelColumn] = {}
    rows: dict[str, _Row] = {}
    for directory in directories:
        of = read([directory])
        columns |= _columns(of)
        for row in of.rows:
            rows.setdefault(row.claim.name, _Row(row.claim)).add(row)
    return join(Matrix(1, (), ()), Matrix(1, tuple(columns.values()), tuple(row.made() for row in rows.values())))


@dataclass
class _Row:
    """What several directories have of a claim: by the version of the kernel and by test the runs that count.

    `of` is the claim, as the directory had it from which the kernel's newest part is, and that kernel.
    """

    claim: Claim
    of: dict[str, tuple[Claim, Kernel]] = field(default_factory=dict)
    runs: dict[str, dict[str, list[Run]]] = field(default_factory=dict)

    def add(self, row: table.Row) -> None:
        """What one more directory has of it; two kernels of one version are told together."""
        here: dict[str, dict[str, list[Run]]] = {}
        for column, cell in row.cells.items():
            self.of[column.kernel.version] = row.claim, column.kernel
            for entry in cell.entries:
                tests = here.setdefault(column.kernel.version, {})
                tests.setdefault(entry.run.test, []).append(entry.run)
        for version, tests in here.items():
            self.runs.setdefault(version, {}).update(tests)
        self.claim = row.claim

    def made(self) -> ClaimRow:
        """The row of the matrix."""
        return ClaimRow(
            self.claim.name,
            " ".join(self.claim.statement.split()),
            tuple((source.document, source.heading) for source in self.claim.sources),
            {
                version: _cell(*self.of[version], [run for name in sorted(tests) for run in tests[name]])
                for version, tests in self.runs.items()
            },
        )


def with_facts(matrix: Matrix, facts: Facts) -> Matrix:
    """The matrix, with the sysctls and the counters of a kernel."""
    column = KernelColumn(
        facts.version, facts.release, sysctls=dict(facts.sysctls), counters=tuple(sorted(facts.counters))
    )
    return join(matrix, Matrix(1, (column,), ()))


def join(old: Matrix, new: Matrix) -> Matrix:
    """Both; what is in both is from the new one: whole cells, and of a kernel the facts, if it has any."""
    columns = {column.version: column for column in old.kernels}
    for column in new.kernels:
        before = columns.get(column.version)
        columns[column.version] = column if before is None else _joined(before, column)
    rows = {row.name: row for row in old.claims}
    for row in new.claims:
        cells = (rows[row.name].cells if row.name in rows else {}) | row.cells
        ordered = {version: cells[version] for version in sorted(cells, key=age)}
        rows[row.name] = msgspec.structs.replace(row, cells=ordered)
    kernels = tuple(sorted(columns.values(), key=lambda column: age(column.version, column.release)))
    return Matrix(1, kernels, tuple(rows[name] for name in sorted(rows)))


def load(file: Path) -> Matrix:
    """A matrix that was written; BadInput if it is none."""
    try:
        return msgspec.json.decode(files.content(file), type=Matrix)
    except OSError as error:
        raise BadInput(f"{file}: cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{file}: not a matrix of this version: {error}") from None


def dump(matrix: Matrix) -> str:
    """A matrix as text, a line for each kernel and each cell: small differences stay small."""

    def line(value: object) -> str:
        return msgspec.json.encode(value, order="sorted").decode()

    kernels = ",\n".join(line(kernel) for kernel in matrix.kernels)
    claims = []
    for row in matrix.claims:
        cells = ",\n".join(f"{line(version)}:{line(cell)}" for version, cell in row.cells.items())
        head = line({"name": row.name, "statement": row.statement, "sources": row.sources})
        claims.append(f'{head[:-1]},"cells":{{\n{cells}\n}}}}')
    rows = ",\n".join(claims)
    return f'{{"schema":{matrix.schema},"kernels":[\n{kernels}\n],"claims":[\n{rows}\n]}}\n'


def _joined(before: KernelColumn, after: KernelColumn) -> KernelColumn:
    return KernelColumn(
        after.version,
        after.release,
        after.measured or before.measured,
        after.harness or before.harness,
        after.sysctls or before.sysctls,
        after.counters or before.counters,
    )


def _columns(of: table.Table) -> dict[str, KernelColumn]:
    """The kernels of a directory, by version, each with the day of its newest run."""
    newest: dict[str, float] = {}
    for _, column, cell in of.cells():
        version = column.kernel.version
        newest[version] = max(newest.get(version, 0), *(entry.run.when for entry in cell.entries))
    return {
        version: KernelColumn(version, column.kernel.release, _date(newest[version]), of.harness)
        for column in of.columns
        for version in [column.kernel.version]
    }


def _date(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()


def _cell(claim: Claim, kernel: Kernel, runs: Sequence[Run]) -> Cell:
    expectation = claim.expected_on(KernelVersion.parse(kernel.version))
    change = expectation.change if expectation else None
    numbers = list(_numbers(runs))
    reasons = dict.fromkeys(run.reason for run in runs if run.reason)
    return Cell(
        said_by(runs),
        reproduce.command(claim.name, runs),
        because=" ".join(expectation.because.split()) if expectation else "",
        commit=change.commit if change else "",
        subject=change.subject if change else "",
        release=change.release if change else "",
        tool=change.tool if change else "",
        reason=_short("; ".join(reasons)),
        runs=len(runs),
        numbers=tuple(numbers[:SHOWN]),
        left_out=max(0, len(numbers) - SHOWN),
    )


def _numbers(runs: Iterable[Run]) -> Iterator[Number]:
    """What was held against the document, each once; equal ones of several runs together."""
    tests: dict[Number, list[str]] = {}
    for run in runs:
        family = run.params.partition("-")[0] if run.params.startswith("ipv") else run.params
        for phase in run.phases:
            for each in phase.comparisons:
                if isinstance(each, Judgement):
                    where, what, measured, document, kernel = (
                        _short(str(text))
                        for text in (phase.title, each.what, each.measured, each.document, each.kernel)
                    )
                    tests.setdefault(Number(where, what, measured, document, kernel), []).append(family)
    for number, families in tests.items():
        yield msgspec.structs.replace(number, tests=tuple(dict.fromkeys(filter(None, families))))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1].rstrip()}…"
