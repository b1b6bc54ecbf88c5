"""Results as one JSON document for programs: every cell with its verdict, without what the evidence keeps beside it.

    schema      1
    harness     version of the package that wrote the evidence
    kernels     [{release, version, machine, directory}]; directory is "" unless two runs are of one kernel
    claims      [{name, statement, sources [{document, heading}], results}], results being one entry a kernel:
                {kernel (its place in `kernels`), state, runs [{test, outcome, verdict, expected, reason, duration}]}

`state` is holds, refuted, not applicable, not settled, or what went wrong: unexpected, unexplained, broken,
incomplete, failed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.report.stored import Cell, Table

SCHEMA = 1


def document(table: Table) -> dict[str, Any]:
    """The matrix as data."""
    return {
        "schema": SCHEMA,
        "harness": table.harness,
        "kernels": [
            {"release": one.release, "version": one.version, "machine": one.machine, "directory": one.directory}
            for one in table.columns
        ],
        "claims": [
            {
                "name": row.name,
                "statement": row.claim.get("statement", ""),
                "sources": row.claim.get("sources", []),
                "results": [
                    {"kernel": index, **_cell(row.cells[column])}
                    for index, column in enumerate(table.columns)
                    if column in row.cells
                ],
            }
            for row in table.rows
        ],
    }


def write(table: Table) -> str:
    """document() as text."""
    return json.dumps(document(table), ensure_ascii=False, indent=1) + "\n"


def _cell(cell: Cell) -> dict[str, Any]:
    kept = ("outcome", "verdict", "expected", "reason", "duration")
    runs = [{"test": run.nodeid, **{key: run.data.get(key) for key in kept}} for run in cell.runs]
    return {"state": cell.state, "runs": runs}
