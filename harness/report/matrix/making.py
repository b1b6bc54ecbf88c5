"""Making the matrix of evidence and facts, and joining it with one that is there."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import msgspec

from harness import files
from harness.errors import BadInput
from harness.evidence.types import Judgement
from harness.laws.kernel import KernelVersion
from harness.report import reproduce
from harness.report.matrix.types import Cell, ClaimRow, KernelColumn, Matrix, Number
from harness.report.table import read

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

    Each is read by itself: they may be of different versions of the harness. Of two that have the same kernel, the
    later one counts.
    """
    made = Matrix(1, (), ())
    for directory in directories:
        made = join(made, _of_table(read([directory])))
    return made


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
        cells = rows[row.name].cells if row.name in rows else {}
        rows[row.name] = msgspec.structs.replace(row, cells=cells | row.cells)
    kernels = tuple(sorted(columns.values(), key=lambda column: KernelVersion.parse(column.version).release))
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


def _of_table(of: table.Table) -> Matrix:
    newest: dict[str, float] = {}
    for _, column, cell in of.cells():
        for entry in cell.entries:
            started = entry.run.kept or entry.run.started
            newest[column.kernel.version] = max(newest.get(column.kernel.version, 0), started)
    columns = {
        column.kernel.version: KernelColumn(
            column.kernel.version, column.kernel.release, _date(newest[column.kernel.version]), of.harness
        )
        for column in of.columns
    }
    rows = tuple(
        ClaimRow(
            row.claim.name,
            " ".join(row.claim.statement.split()),
            tuple((source.document, source.heading) for source in row.claim.sources),
            {column.kernel.version: _cell(row.claim, column.kernel, cell) for column, cell in row.cells.items()},
        )
        for row in of.rows
    )
    return Matrix(1, tuple(columns.values()), rows)


def _date(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()


def _cell(claim: Claim, kernel: Kernel, cell: table.Cell) -> Cell:
    runs = [entry.run for entry in cell.entries]
    expectation = claim.expected_on(KernelVersion.parse(kernel.version))
    change = expectation.change if expectation else None
    numbers = list(_numbers(runs))
    reasons = dict.fromkeys(run.reason for run in runs if run.reason)
    return Cell(
        cell.said,
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
