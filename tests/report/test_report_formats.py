"""Machines' formats: KTAP by its grammar, KCIDB by kcidb-io's schema, evidence and results by their own."""

from __future__ import annotations

import json
import re
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from kcidb_io.schema import LATEST

from harness.errors import BadInput
from harness.evidence.failed import FailedTest, keep, read_all, with_more
from harness.evidence.types import Kernel
from harness.evidence.values import Kind
from harness.report import kcidb, ktap, results
from harness.report.table import Missing, Table, read
from tests.report.made_evidence import claim, course, crashed, dropped_ack, full_run, phase, run, save

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LINE = re.compile(r"(?P<result>ok|not ok) (?P<number>\d+) (?P<description>[^#]*?)(?: # (?P<note>.*))?")


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Two kernels, of which one has a run that went wrong and one that could not be made."""
    save(tmp_path / "a", claim("queue.limit"), run(), run(params="ipv6 # odd"))
    unsettled = run("test_own", outcome="unsettled", verdict=None, reason="needs a kernel of its own\n(--own-kernel)")
    save(tmp_path / "a", claim("queue.own"), unsettled)
    wrong = run(version="6.12.7", outcome="unexpected", verdict="holds", reason="holds, but refuted is expected")
    save(
        tmp_path / "b",
        claim("queue.limit"),
        wrong,
        run("test_broken", version="6.12.7", outcome="broken", verdict=None),
    )
    return read([tmp_path / "a", tmp_path / "b"])


def parsed(lines: Iterator[str], depth: int = 0) -> list[tuple[dict[str, str | None], list[Any]]]:
    """A level of KTAP as its results, each with those below it; written after ktap.rst, not after the writer."""
    margin = "  " * depth
    assert next(lines) == f"{margin}KTAP version 1"
    plan = re.fullmatch(rf"{margin}1\.\.(\d+)", next(lines))
    assert plan
    found: list[tuple[dict[str, str | None], list[Any]]] = []
    below: list[Any] = []
    while len(found) < int(plan[1]):
        line = next(lines)
        if line.startswith(f"{margin}  KTAP"):
            below = parsed(chain([line], lines), depth + 1)
            continue
        text = line.removeprefix(margin)
        if text.startswith("# "):
            continue
        match = LINE.fullmatch(text)
        assert match, line
        assert int(match["number"]) == len(found) + 1
        found.append((match.groupdict(), below))
        below = []
    return found


def test_ktap_is_three_levels_that_agree(table: Table) -> None:
    lines = iter(ktap.write(table).splitlines())
    kernels = parsed(lines)
    assert list(lines) == []
    assert [(one["result"], one["description"]) for one, _ in kernels] == [
        ("ok", "Linux 6.1.2"),
        ("not ok", "Linux 6.12.7"),
    ]
    (limit, runs), (own, _) = kernels[0][1]
    assert (limit["result"], limit["description"], limit["note"]) == ("ok", "queue.limit", "verdict=refuted")
    assert [one["description"] for one, _ in runs] == ["test_limit[ipv4]", "test_limit[ipv6  odd]"]
    assert (own["result"], own["note"]) == ("ok", "SKIP no run of it could be made here")
    ((wrong, runs),) = kernels[1][1]
    assert wrong["result"] == "not ok"
    assert [one["note"] for one, _ in runs] == ["broken:", "unexpected: holds, but refuted is expected"]


def test_kcidb_is_what_its_schema_says(table: Table) -> None:
    found = json.loads(kcidb.write(table))
    LATEST.validate(found)
    assert [one["comment"] for one in found["checkouts"]] == ["Linux 6.1.2-amd64", "Linux 6.12.7-amd64"]
    assert [(one["path"], one["status"]) for one in found["tests"]] == [
        ("tcp_harness.queue.limit.test_limit_ipv4", "PASS"),
        ("tcp_harness.queue.limit.test_limit_ipv6_odd", "PASS"),
        ("tcp_harness.queue.limit.test_broken_ipv4", "ERROR"),
        ("tcp_harness.queue.limit.test_limit_ipv4", "FAIL"),
        ("tcp_harness.queue.own.test_own_ipv4", "SKIP"),
    ]
    assert len({one["id"] for one in found["tests"]}) == 5
    assert {one["build_id"] for one in found["tests"]} == {one["id"] for one in found["builds"]}


def test_kcidb_of_a_whole_run(tmp_path: Path) -> None:
    full_run(tmp_path, "6.1.2", with_packets=0)
    LATEST.validate(json.loads(kcidb.write(read([tmp_path]))))


def test_an_origin_that_kcidb_does_not_take_is_refused(table: Table) -> None:
    with pytest.raises(BadInput, match=r"'My CI' is no origin for KCIDB: write lower-case letters"):
        kcidb.submission(table, "My CI")


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS / name).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(found)
    return found


def test_results_are_what_their_schema_says(table: Table) -> None:
    found = json.loads(results.write(table))
    jsonschema.validate(found, schema("results.schema.json"))
    assert [one["state"] for one in found["claims"][0]["results"]] == ["refuted", "unexpected"]


def test_a_run_that_crashed_is_in_every_format(tmp_path: Path) -> None:
    save(tmp_path, claim(), crashed())
    table = read([tmp_path], missing=[Missing("Linux 6.12", "did not run: its worker never came up")])
    text = ktap.write(table)
    assert "not ok 1 test_limit[ipv4] # failed: the worker died while it ran this test" in text
    assert "not ok 1 Linux 6.1.2" in text
    assert "not ok 2 Linux 6.12 # did not run: its worker never came up" in text
    crash, missing = json.loads(kcidb.write(table))["tests"]
    assert (crash["status"], crash["log_excerpt"]) == ("ERROR", "the worker died while it ran this test")
    assert (missing["status"], missing["comment"]) == ("MISS", "Linux 6.12 did not run: its worker never came up")
    assert json.loads(results.write(table))["claims"][0]["results"][0]["state"] == "failed"


SPLAT = "WARNING: CPU: 0 PID: 1 at net/ipv4/tcp.c:1 tcp_v4_rcv+0x1/0x2"
PLAIN = FailedTest(
    nodeid="tests/test_more.py::test_plain[ipv4-6.1.2]",
    kernel=Kernel("6.1.2-amd64", "6.1.2", "x86_64"),
    failure=f"the kernel complained (WARN): {SPLAT}",
    kernel_name="6.1.2",
    text=f"the kernel complained (WARN): {SPLAT}\n{SPLAT}\n Call Trace: <TASK>",
)


@pytest.mark.parametrize("claims", [True, False])
def test_a_failed_test_without_a_claim_is_in_every_format(tmp_path: Path, claims: bool) -> None:
    if claims:
        save(tmp_path, claim(), run())
    keep(tmp_path, PLAIN, dropped_ack())
    (tmp_path / "failed" / "cut.json").write_text("{")
    table = read([tmp_path])
    assert [notice.partition(":")[0] for notice in table.notices] == ["failed/cut.json"]
    lines = ktap.write(table).splitlines()
    number = 2 if claims else 1
    assert f"  # {SPLAT}" in lines
    assert f"  not ok {number} tests/test_more.py::test_plain[ipv4] # {PLAIN.failure}" in lines
    ((kernel, under),) = parsed(iter(ktap.write(table).splitlines()))
    assert kernel["result"] == "not ok"
    assert len(under) == number
    *_, test = json.loads(kcidb.write(table))["tests"]
    assert (test["status"], test["path"]) == ("FAIL", "tcp_harness.tests.test_more_py.test_plain_ipv4")
    assert test["log_excerpt"].splitlines() == PLAIN.text.splitlines()
    found = json.loads(results.write(table))
    jsonschema.validate(found, schema("results.schema.json"))
    assert found["failures"] == [{"kernel": 0, "test": PLAIN.nodeid, "failure": PLAIN.failure}]
    assert len(found["kernels"]) == 1
    # Where claims are named, what is beside them is not asked for.
    assert read([tmp_path], claims={"queue.limit"}).failures == () if claims else True


def test_what_comes_when_a_failed_test_is_over_comes_to_it(tmp_path: Path) -> None:
    kept = keep(tmp_path, PLAIN, dropped_ack())
    keep(tmp_path, with_more(kept, "and then a lockup"), None)
    ((test,), _) = read_all(tmp_path)
    assert test.text == f"{PLAIN.text}\nand then a lockup"
    assert (tmp_path / "failed" / test.packets).read_bytes() == dropped_ack()


def test_evidence_is_what_its_schema_says(tmp_path: Path) -> None:
    series = (course("waiting", [(0, 1), (1, 2)]), course("bars", [("cookies", 2)], x_kind=Kind.TEXT))
    whole = phase("effect", "e", series=series)
    file = save(tmp_path, claim(), run(phases=(whole,), options=("--full-size",)), crashed("test_died"))
    jsonschema.validate(json.loads(file.read_text()), schema("evidence.schema.json"))


def test_evidence_of_another_schema_is_not(tmp_path: Path) -> None:
    file = save(tmp_path, claim(), run(), schema=1)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(file.read_text()), schema("evidence.schema.json"))
