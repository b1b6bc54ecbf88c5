"""Results for KCIDB, the kernel CI systems' common database: its JSON, checked against the schema of kcidb-io.

What was tested is somebody else's build: each kernel stands as a checkout and a build that only name it, and each run
of a claim is a test of that build.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import msgspec

from harness.errors import BadInput, Unsupported
from harness.evidence.moved import attempts
from harness.evidence.types import NOT_SETTLED, Kernel, Outcome, Verdict
from harness.report.table import Column

if TYPE_CHECKING:
    from harness.report.table import Entry, Failure, Missing, Row, Table

ORIGIN = "tcp_harness"
NEEDED = "KCIDB's schema needs kcidb-io; pip install 'tcp-harness[report]'"
# Ours to KCIDB's: FAIL blames the kernel, ERROR the test, SKIP nobody. An unexpected verdict may be either's fault; it
# is for a reader to find out, and FAIL is what is looked at.
STATUS = {
    Outcome.EXPECTED: "PASS",
    Outcome.UNEXPECTED: "FAIL",
    Outcome.UNEXPLAINED: "FAIL",
    Outcome.BROKEN: "ERROR",
    Outcome.INCOMPLETE: "ERROR",
    Outcome.FAILED: "ERROR",
    Outcome.UNSETTLED: "SKIP",
}
_ORIGIN = re.compile(r"[a-z0-9_]+")


class Version(msgspec.Struct):
    """Of KCIDB's schema."""

    major: int
    minor: int


class Checkout(msgspec.Struct):
    """A source tree; all that is known of it is the kernel that was made of it."""

    id: str
    origin: str
    comment: str
    misc: dict[str, str]


class Build(msgspec.Struct, omit_defaults=True):
    """A kernel."""

    id: str
    checkout_id: str
    origin: str
    comment: str
    misc: dict[str, str]
    architecture: str = ""


class Misc(msgspec.Struct):
    """What KCIDB has no place for."""

    claim: str
    nodeid: str
    verdict: Verdict | str
    expected: Verdict | str
    outcome: Outcome
    reason: str
    attempts: int


class Environment(msgspec.Struct):
    """Where a test ran."""

    comment: str


class Test(msgspec.Struct, omit_defaults=True):
    """A run of a claim, a test without a claim that failed, or what was to run and did not."""

    id: str
    build_id: str
    origin: str
    path: str
    comment: str
    status: str
    environment: Environment | None = None
    misc: Misc | None = None
    start_time: str | None = None
    duration: float | None = None
    log_excerpt: str = ""


class Submission(msgspec.Struct):
    """What is handed to KCIDB."""

    version: Version
    checkouts: list[Checkout]
    builds: list[Build]
    tests: list[Test]


def lacking() -> str:
    """What is not installed that KCIDB's format needs, in a line; "" if nothing is."""
    return "" if find_spec("kcidb_io") else NEEDED


def submission(table: Table, origin: str = ORIGIN) -> Submission:
    """The evidence as KCIDB's objects, checked against the newest schema of the installed kcidb-io.

    `origin` names the system that submits: lower-case letters, digits and underscores. BadInput for another;
    Unsupported if kcidb-io is not installed.
    """
    if not _ORIGIN.fullmatch(origin):
        raise BadInput(f"{origin!r} is no origin for KCIDB: write lower-case letters, digits and underscores")
    try:
        from kcidb_io.schema import LATEST
    except ImportError:
        raise Unsupported(NEEDED) from None
    missing = {missing: _column_of(missing, table) for missing in table.missing}
    columns = list(dict.fromkeys([*table.kernels, *missing.values()]))
    tests = [_test(row, column, entry, origin) for row, column, cell in table.cells() for entry in cell.entries]
    whole = Submission(
        Version(LATEST.major, LATEST.minor),
        [_checkout(column, origin) for column in columns],
        [_build(column, origin) for column in columns],
        [
            *tests,
            *(_failure(failure, origin) for failure in table.failures),
            *(_missing(what, column, origin) for what, column in missing.items()),
        ],
    )
    LATEST.validate(_clean(msgspec.to_builtins(whole)))
    return whole


def _clean(plain: Any) -> Any:
    """The same without what KCIDB takes in no text."""
    if isinstance(plain, str):
        return plain.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(plain, list):
        return [_clean(part) for part in plain]
    return {name: _clean(part) for name, part in plain.items()} if isinstance(plain, dict) else plain


def write(table: Table, origin: str = ORIGIN) -> str:
    """submission() as text."""
    return (
        msgspec.json.format(
            msgspec.json.encode(_clean(msgspec.to_builtins(submission(table, origin)))), indent=1
        ).decode()
        + "\n"
    )


def _checkout(column: Column, origin: str) -> Checkout:
    kernel = column.kernel
    ident = _id(origin, "checkout", kernel.release, column.place)
    return Checkout(ident, origin, f"Linux {kernel.release}", _versions(kernel))


def _build(column: Column, origin: str) -> Build:
    kernel = column.kernel
    return Build(
        id=_id(origin, "build", kernel.release, column.place),
        checkout_id=_id(origin, "checkout", kernel.release, column.place),
        origin=origin,
        comment=f"Linux {kernel.release}, as it was when the tests ran",
        misc=_versions(kernel),
        # KCIDB's names are the kernel's own for the architectures that it has; x86_64 is both.
        architecture=kernel.machine if re.fullmatch(r"[a-z0-9_]+", kernel.machine) else "",
    )


def _versions(kernel: Kernel) -> dict[str, str]:
    return {"release": kernel.release, "version": kernel.version}


def _test(row: Row, column: Column, entry: Entry, origin: str) -> Test:
    claim, kernel, run = row.claim, column.kernel, entry.run
    known = 0 < run.started < 1 << 33
    return Test(
        id=_id(origin, "test", kernel.release, column.place, run.nodeid, str(run.started)),
        build_id=_id(origin, "build", kernel.release, column.place),
        origin=origin,
        path=".".join(["tcp_harness", *(_segment(part) for part in (*claim.name.split("."), entry.test))]),
        comment=claim.statement,
        status="SKIP" if run.said == NOT_SETTLED else STATUS[run.outcome],
        environment=Environment(f"Linux {kernel.release} {kernel.machine}".strip()),
        misc=Misc(
            claim.name, run.nodeid, run.verdict or "", run.expected or "", run.outcome, run.reason, len(run.earlier) + 1
        ),
        start_time=datetime.datetime.fromtimestamp(run.started, datetime.UTC).isoformat() if known else None,
        duration=run.duration if run.duration >= 0 else None,
        log_excerpt="\n".join(filter(None, (*attempts(run), run.reason)))[:16000],
    )


def _failure(failure: Failure, origin: str) -> Test:
    """A test without a claim, of which it is for a reader to find out whose fault it is."""
    test, column = failure.test, failure.column
    return Test(
        id=_id(origin, "test", column.kernel.release, column.place, str(failure.directory), test.nodeid),
        build_id=_id(origin, "build", column.kernel.release, column.place),
        origin=origin,
        path=".".join(["tcp_harness", *(_segment(part) for part in re.split(r"::|/", test.test))]),
        comment=test.failure or test.test,
        status="FAIL",
        environment=Environment(f"Linux {test.kernel.release} {test.kernel.machine}".strip()),
        log_excerpt=test.text[:16000],
    )


def _column_of(missing: Missing, table: Table) -> Column:
    """The kernel that did not run, apart from one of that name that did; of a module, any."""
    name = missing.what.removeprefix("Linux ")
    if name == missing.what:
        return table.columns[0] if table.columns else Column(Kernel("unknown", "unknown"))
    return Column(Kernel(name, name), missing.why)


def _missing(missing: Missing, column: Column, origin: str) -> Test:
    """A test that was to be run, and was not; or something else that makes the run a failed one."""
    return Test(
        id=_id(origin, "test", column.kernel.release, column.place, missing.what),
        build_id=_id(origin, "build", column.kernel.release, column.place),
        origin=origin,
        path="tcp_harness",
        comment=str(missing),
        status="FAIL" if missing.ran else "MISS",
        log_excerpt=missing.why[:16000],
    )


def _segment(text: str) -> str:
    """A part of a test's path, which KCIDB wants of letters, digits, underscores and hyphens."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_") or "_"


def _id(origin: str, *parts: str) -> str:
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    return f"{origin}:{digest}"
