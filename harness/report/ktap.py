"""Results in the kernel's own test format, KTAP version 1 (Documentation/dev-tools/ktap.rst).

Three levels: kernels, their claims, the runs of a claim. A run is ok if its verdict is the expected one, whatever the
verdict is; one that could not be made here is skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.stored import LOUD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.report.stored import Cell, Run, Table

VERSION = "KTAP version 1"


def write(table: Table) -> str:
    """The whole of the evidence as KTAP."""
    lines = [VERSION, f"1..{len(table.columns)}"]
    for number, column in enumerate(table.columns, 1):
        cells = [(row.name, row.cells[column]) for row in table.rows if column in row.cells]
        lines += _indented([VERSION, f"1..{len(cells)}"])
        for claim, (name, cell) in enumerate(cells, 1):
            lines += _indented(_claim(claim, name, cell))
        passed = not any(cell.state in LOUD for _, cell in cells)
        lines.append(_result(number, f"Linux {column.label}", passed, ""))
    return "\n".join(lines) + "\n"


def _claim(number: int, name: str, cell: Cell) -> Iterator[str]:
    yield from _indented([VERSION, f"1..{len(cell.runs)}"])
    for index, run in enumerate(cell.runs, 1):
        yield from _indented(_run(index, run))
    # A claim of which every run was skipped is skipped.
    note = "SKIP no run of it could be made here" if cell.state == "not settled" else f"verdict={cell.state}"
    yield _result(number, name, cell.state not in LOUD, note)


def _run(number: int, run: Run) -> Iterator[str]:
    reason = str(run.data.get("reason") or "")
    if run.state == "not settled":
        yield _result(number, run.which, True, f"SKIP {_one_line(reason)}")
        return
    yield from (f"# {_one_line(line)}" for line in reason.splitlines())
    ok = run.state not in LOUD
    yield _result(number, run.which, ok, f"verdict={run.state}" if ok else f"{run.state}: {_one_line(reason)}")


def _result(number: int, description: str, ok: bool, note: str) -> str:
    # The description cannot have a hash sign: it begins the directive.
    words = [("ok" if ok else "not ok"), str(number), _one_line(description).replace("#", "")]
    return " ".join(words + [f"# {note}"] * bool(note)).rstrip()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _indented(lines: Iterator[str] | list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
