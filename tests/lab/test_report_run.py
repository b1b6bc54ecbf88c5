"""A real run's report: the drop of a full queue is in its ladder, the command of a cell makes that cell again."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from harness.evidence import codec
from harness.observe import read_pcapng
from harness.report.arrows import Fate
from harness.report.reproduce import command
from harness.report.sightings import exchanges
from harness.report.table import Cell, Table, read
from tests.shared import made_once

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.evidence.types import Run

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = ("accept-queue.capacity", "accept-queue.client-thinks-established", "tw-recycle.nat-keeps-timestamps")
# In KiB: what the evidence of a claim may take, with its packets. That of 223 claims took 15 MiB.
LARGEST = 400


def pytest_run(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run of some claims left, and its report."""

    def make(place: Path) -> None:
        chosen = [word for claim in CLAIMS for word in ("--tcp-claim", claim)]
        where = place / "evidence"
        ran = pytest_run(
            "scenarios", "-q", *chosen, "--tcp-evidence", str(where), "--tcp-report", str(where / "report.html")
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr

    return made_once(tmp_path_factory, "run", make) / "evidence"


@pytest.fixture(scope="module")
def table(evidence: Path) -> Table:
    return read([evidence])


def cell_of(table: Table, claim: str) -> Cell:
    return next(cell for row, _, cell in table.cells() if row.claim.name == claim)


def test_the_report_is_there(evidence: Path, table: Table) -> None:
    page = (evidence / "report.html").read_text(encoding="utf-8")
    assert [row.claim.name for row in table.rows] == sorted(CLAIMS)
    assert all(f'id="claim-{claim}"' in page for claim in CLAIMS)


def test_the_ladder_shows_where_the_full_queue_dropped(table: Table) -> None:
    for entry in cell_of(table, "accept-queue.client-thinks-established").entries:
        assert entry.packets is not None
        full, room = exchanges(read_pcapng(entry.packets.read_bytes()).packets, entry.run.phases)
        assert full.lanes == room.lanes == ["client", "server"]
        dropped = [arrow for arrow in full.arrows if arrow.fate is Fate.DROPPED]
        assert {arrow.target for arrow in dropped} == {"server"}
        # The last ACK of the handshake, and the request, which is sent again and again.
        assert dropped[0].segment.flags == "A"
        assert sum(bool(arrow.segment.length) for arrow in dropped) >= 2
        assert not any(arrow.fate for arrow in room.arrows)


def test_the_ladder_goes_through_the_gateway(table: Table) -> None:
    for entry in cell_of(table, "tw-recycle.nat-keeps-timestamps").entries:
        assert entry.packets is not None
        nat, *_ = exchanges(read_pcapng(entry.packets.read_bytes()).packets, entry.run.phases)
        assert nat.lanes == ["client1", "client2", "gateway", "server"]
        assert {(arrow.source, arrow.target) for arrow in nat.arrows if arrow.segment.flags == "S"} == {
            ("client1", "gateway"), ("client2", "gateway"), ("gateway", "server")
        }  # fmt: skip


def outcomes(runs: Iterable[Run]) -> list[tuple[str, str]]:
    return sorted((run.nodeid, str(run.verdict)) for run in runs)


@pytest.mark.parametrize("alone", [False, True])
def test_the_command_of_a_cell_makes_exactly_that_cell_again(table: Table, tmp_path: Path, alone: bool) -> None:
    claim = "accept-queue.capacity"
    runs = [entry.run for entry in cell_of(table, claim).entries][: 1 if alone else None]
    program, *words = shlex.split(command(claim, runs))
    assert program == "pytest"
    ran = pytest_run(*words, "-q", "--tcp-evidence", str(tmp_path))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    again = codec.read(tmp_path / f"{claim}.json")
    assert [file.name for file in tmp_path.glob("*.json")] == [f"{claim}.json"]
    assert outcomes(again.runs) == outcomes(runs)


def test_every_scenario_is_found_by_its_command() -> None:
    """-k means a part of a name: the brackets at the end keep it from meaning another test of the file too."""
    listed = pytest_run("scenarios", "--collect-only", "-q").stdout.lower().splitlines()
    tests = [line.split("::") for line in listed if "::" in line and line.endswith("]")]
    assert len(tests) > 200
    assert all(re.fullmatch(r"[\w:+.\[\]\\/-]+", name) for _, name in tests)
    meant = {(file, name): [other for where, other in tests if where == file and name in other] for file, name in tests}
    assert {test: others for test, others in meant.items() if len(others) != 1} == {}


def test_evidence_is_small(evidence: Path) -> None:
    files = list(evidence.glob("*.*"))
    assert {file.stem for file in files if file.suffix == ".json"} == {*CLAIMS}
    assert sum(file.stat().st_size for file in files) <= len(CLAIMS) * LARGEST << 10


def test_evidence_is_what_its_schema_says(evidence: Path) -> None:
    schema = json.loads((ROOT / "docs" / "evidence.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    for file in evidence.glob("*.json"):
        validator.validate(json.loads(file.read_text()))
