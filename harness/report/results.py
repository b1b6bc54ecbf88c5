"""Results as one JSON document for programs: every cell with its verdict, without what the evidence keeps beside it.

    schema      1
    harness     version of the package that wrote the evidence
    kernels     [{release, version, machine, directory}]; directory is "" unless two runs are of one kernel
    claims      [{name, statement, sources [{document, heading}], results}], results being one entry a kernel:
                {kernel (its place in `kernels`), state, runs [{test, outcome, verdict, expected, reason, duration,
                attempts}]}, attempts being more than 1 for a test that was run again because it had failed
    failures    [{kernel, test, failure}]: tests without a claim that failed with a lab, and what the kernel complained
                of when a test was over

`state` is holds, refuted, not applicable, not settled, or what went wrong: unexpected, unexplained, broken,
incomplete, failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from harness.evidence.types import Outcome, Source, Verdict

if TYPE_CHECKING:
    from harness.report.table import Cell, Entry, Table

SCHEMA = 1


class KernelResults(msgspec.Struct):
    """A kernel of the matrix."""

    release: str
    version: str
    machine: str
    directory: str


class RunResult(msgspec.Struct):
    """What a run came to."""

    test: str
    outcome: Outcome
    verdict: Verdict | None
    expected: Verdict | None
    reason: str
    duration: float
    attempts: int


class CellResult(msgspec.Struct):
    """What a claim came to on a kernel."""

    kernel: int
    state: str
    runs: list[RunResult]


class ClaimResults(msgspec.Struct):
    """A claim, and what it came to on each kernel that it was run on."""

    name: str
    statement: str
    sources: tuple[Source, ...]
    results: list[CellResult]


class FailureResult(msgspec.Struct):
    """A test without a claim that failed, and what pytest says of it in a line."""

    kernel: int
    test: str
    failure: str


class Results(msgspec.Struct):
    """The matrix."""

    schema: int
    harness: str
    kernels: list[KernelResults]
    claims: list[ClaimResults]
    failures: list[FailureResult]


def results(table: Table) -> Results:
    """The matrix as data."""
    kernels = [
        KernelResults(column.kernel.release, column.kernel.version, column.kernel.machine, column.place)
        for column in table.kernels
    ]
    claims = [
        ClaimResults(
            row.claim.name,
            row.claim.statement,
            row.claim.sources,
            [
                _cell(number, row.cells[column])
                for number, column in enumerate(table.kernels)
                if column in row.cells
            ],
        )
        for row in table.rows
    ]  # fmt: skip
    failures = [
        FailureResult(table.kernels.index(failure.column), failure.test.nodeid, failure.test.failure)
        for failure in table.failures
    ]
    return Results(SCHEMA, table.harness, kernels, claims, failures)


def write(table: Table) -> str:
    """results() as text."""
    return msgspec.json.format(msgspec.json.encode(results(table)), indent=1).decode() + "\n"


def _cell(kernel: int, cell: Cell) -> CellResult:
    return CellResult(kernel, cell.said, [_run(entry) for entry in cell.entries])


def _run(entry: Entry) -> RunResult:
    run = entry.run
    return RunResult(run.nodeid, run.outcome, run.verdict, run.expected, run.reason, run.duration, len(run.earlier) + 1)
