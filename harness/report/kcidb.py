"""Results for KCIDB, the kernel CI systems' common database: its JSON, checked against the schema of kcidb-io.

What was tested is somebody else's build: each kernel stands as a checkout and a build that only name it, and each run
of a claim is a test of that build.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from harness.errors import BadInput, Unsupported

if TYPE_CHECKING:
    from harness.report.stored import Column, Row, Run, Table

ORIGIN = "tcp_harness"
# Ours to KCIDB's: FAIL blames the kernel, ERROR the test, SKIP nobody. An unexpected verdict may be either's fault; it
# is for a reader to find out, and FAIL is what is looked at.
STATUS = {"unexpected": "FAIL", "unexplained": "FAIL", "broken": "ERROR", "incomplete": "ERROR", "failed": "ERROR"}
_ORIGIN = re.compile(r"[a-z0-9_]+")


def document(table: Table, origin: str = ORIGIN) -> dict[str, Any]:
    """The evidence as KCIDB's objects, checked against the newest schema of the installed kcidb-io.

    `origin` names the system that submits: lower-case letters, digits and underscores. BadInput for another;
    Unsupported if kcidb-io is not installed.
    """
    if not _ORIGIN.fullmatch(origin):
        raise BadInput(f"{origin!r} is no origin for KCIDB: write lower-case letters, digits and underscores")
    try:
        from kcidb_io.schema import LATEST
    except ImportError:
        raise Unsupported("KCIDB's schema needs kcidb-io; pip install 'tcp-harness[report]'") from None
    builds = [_build(column, origin) for column in table.columns]
    whole = {
        "version": {"major": LATEST.major, "minor": LATEST.minor},
        "checkouts": [_checkout(column, origin) for column in table.columns],
        "builds": builds,
        "tests": [
            _test(row, column, run, origin) for row, column, cell in table.cells() for run in cell.runs
        ],
    }  # fmt: skip
    LATEST.validate(whole)
    return whole


def write(table: Table, origin: str = ORIGIN) -> str:
    """document() as text."""
    return json.dumps(document(table, origin), ensure_ascii=False, indent=1) + "\n"


def _checkout(column: Column, origin: str) -> dict[str, Any]:
    return {
        "id": _id(origin, "checkout", column.release, column.directory),
        "origin": origin,
        "comment": f"Linux {column.release}",
        "misc": {"release": column.release, "version": column.version},
    }


def _build(column: Column, origin: str) -> dict[str, Any]:
    build = {
        "id": _id(origin, "build", column.release, column.directory),
        "checkout_id": _id(origin, "checkout", column.release, column.directory),
        "origin": origin,
        "comment": f"Linux {column.release}, as it was found running",
        "misc": {"release": column.release, "version": column.version},
    }
    # KCIDB's names are the kernel's own for the architectures that it has; x86_64 is both.
    return build | ({"architecture": column.machine} if re.fullmatch(r"[a-z0-9_]+", column.machine) else {})


def _test(row: Row, column: Column, run: Run, origin: str) -> dict[str, Any]:
    test: dict[str, Any] = {
        "id": _id(origin, "test", column.release, column.directory, run.nodeid, str(run.data.get("started"))),
        "build_id": _id(origin, "build", column.release, column.directory),
        "origin": origin,
        "path": ".".join(["tcp_harness", *(_segment(part) for part in (*row.name.split("."), run.which))]),
        "comment": str(row.claim.get("statement", "")),
        "status": "SKIP" if run.state == "not settled" else STATUS.get(run.state, "PASS"),
        "environment": {"comment": f"Linux {column.release} {column.machine}".strip()},
        "misc": {
            "claim": row.name,
            "nodeid": run.nodeid,
            "verdict": run.data.get("verdict") or "",
            "expected": run.data.get("expected") or "",
            "outcome": run.data["outcome"],
            "reason": str(run.data.get("reason") or ""),
        },
    }
    started, duration = run.data.get("started"), run.data.get("duration")
    if isinstance(started, (int, float)) and 0 < started < 1 << 33:
        test["start_time"] = datetime.datetime.fromtimestamp(started, datetime.UTC).isoformat()
    if isinstance(duration, (int, float)) and duration >= 0:
        test["duration"] = duration
    if run.data.get("reason"):
        test["log_excerpt"] = str(run.data["reason"])[:16000]
    return test


def _segment(text: str) -> str:
    """A part of a test's path, which KCIDB wants of letters, digits, underscores and hyphens."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_") or "_"


def _id(origin: str, *parts: str) -> str:
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    return f"{origin}:{digest}"
