"""Results in the kernel's own test format, KTAP version 1 (Documentation/dev-tools/ktap.rst).

Three levels: kernels, their claims, the runs of a claim. A run is ok if its verdict is the expected one, whatever the
verdict is; one that could not be made here is skipped. A kernel that was to run and did not is not ok. Tests without a
claim stand beside the claims if they failed, after what pytest shows of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.evidence.moved import attempts
from harness.evidence.types import NOT_SETTLED, WRONG

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.evidence.types import Run
    from harness.report.table import Cell, Column, Failure, Table

VERSION = "KTAP version 1"


def write(table: Table) -> str:
    """The whole of the evidence as KTAP."""
    lines = [VERSION, f"1..{len(table.kernels) + len(table.missing)}"]
    lines += [f"# {_one_line(notice)}" for notice in table.notices]
    for number, column in enumerate(table.kernels, 1):
        lines += _kernel(number, column, table)
    for number, missing in enumerate(table.missing, len(table.kernels) + 1):
        lines.append(_result(number, missing.what, False, _one_line(missing.why)))
    return "\n".join(lines) + "\n"


def _kernel(number: int, column: Column, table: Table) -> Iterator[str]:
    cells = [(row.claim.name, row.cells[column]) for row in table.rows if column in row.cells]
    failures = table.failures_on(column)
    yield from _indented([VERSION, f"1..{len(cells) + len(failures)}"])
    for claim, (name, cell) in enumerate(cells, 1):
        yield from _indented(_claim(claim, name, cell))
    for test, failure in enumerate(failures, len(cells) + 1):
        yield from _indented(_failure(test, failure))
    passed = not failures and not any(cell.is_wrong for _, cell in cells)
    yield _result(number, f"Linux {column.label}", passed, "")


def _claim(number: int, name: str, cell: Cell) -> Iterator[str]:
    yield from _indented([VERSION, f"1..{len(cell.entries)}"])
    for index, entry in enumerate(cell.entries, 1):
        yield from _indented(_run(index, entry.test, entry.run))
    # A claim of which every run was skipped is skipped.
    note = "SKIP no run of it could be made here" if cell.said == NOT_SETTLED else f"verdict={cell.said}"
    yield _result(number, name, not cell.is_wrong, note)


def _failure(number: int, failure: Failure) -> Iterator[str]:
    yield from (f"# {line.rstrip()}" for line in failure.test.text.splitlines())
    yield _result(number, failure.test.test, False, failure.test.failure)


def _run(number: int, test: str, run: Run) -> Iterator[str]:
    if run.said == NOT_SETTLED:
        yield _result(number, test, True, f"SKIP {_one_line(run.reason)}")
        return
    yield from (f"# {_one_line(line)}" for line in (*attempts(run), *run.reason.splitlines()))
    passed = run.said not in WRONG
    verdict = f"verdict={run.said}{' flaky' if run.is_flaky else ''}"
    yield _result(number, test, passed, verdict if passed else f"{run.said}: {_one_line(run.reason)}")


def _result(number: int, description: str, passed: bool, note: str) -> str:
    # The description cannot have a hash sign: it begins the directive.
    words = [("ok" if passed else "not ok"), str(number), _one_line(description).replace("#", "")]
    return " ".join(words + [f"# {_one_line(note)}"] * bool(note)).rstrip()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]
