"""Evidence of several runs as one table: columns, cells, what is refused, and what an interrupted run left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput
from harness.report.stored import read
from tests.report.made_evidence import claim, run, save

if TYPE_CHECKING:
    from pathlib import Path


def test_kernels_of_several_directories_stand_side_by_side_from_old_to_new(tmp_path: Path) -> None:
    save(tmp_path / "b", claim(), run(version="6.12.1"), run(version="6.2.9", verdict="holds", outcome="unexpected"))
    save(tmp_path / "a", claim(), run(version="5.10.7"))
    table = read([tmp_path / "a", tmp_path / "b"])
    assert [column.label for column in table.columns] == ["5.10.7", "6.2.9", "6.12.1"]
    assert [cell.state for _, _, cell in table.cells()] == ["refuted", "refuted", "unexpected"]


def test_two_runs_of_one_kernel_get_a_column_each(tmp_path: Path) -> None:
    save(tmp_path / "monday", claim(), run())
    save(tmp_path / "friday", claim(), run(verdict="holds"))
    table = read([tmp_path / "monday", tmp_path / "friday"])
    assert sorted(column.label for column in table.columns) == ["6.1.2 · friday", "6.1.2 · monday"]


def test_parts_of_one_run_in_two_directories_share_a_column(tmp_path: Path) -> None:
    save(tmp_path / "a", claim("queue.one"), run())
    save(tmp_path / "b", claim("queue.two"), run("test_two"))
    assert [column.label for column in read([tmp_path / "a", tmp_path / "b"]).columns] == ["6.1.2"]


@pytest.mark.parametrize(
    ("outcomes", "state", "partly"),
    [
        ([("expected", "holds")], "holds", False),
        ([("expected", "holds"), ("unsettled", None)], "holds", True),
        ([("unsettled", None)], "not settled", False),
        ([("expected", "holds"), ("unexpected", "refuted")], "unexpected", False),
        ([("broken", None), ("failed", None)], "broken", False),
        ([("expected", "not-applicable")], "not applicable", False),
    ],
)
def test_a_cell_says_the_loudest_of_its_runs(
    tmp_path: Path, outcomes: list[tuple[str, str | None]], state: str, partly: bool
) -> None:
    runs = [run(f"test_{n}", outcome=outcome, verdict=verdict) for n, (outcome, verdict) in enumerate(outcomes)]
    save(tmp_path, claim(), *runs)
    ((_, _, cell),) = read([tmp_path]).cells()
    assert (cell.state, cell.partly) == (state, partly)


def test_what_was_cut_off_is_left_out_and_named(tmp_path: Path) -> None:
    save(tmp_path, claim("queue.whole"), run())
    cut = save(tmp_path, claim("queue.cut"), run())
    cut.write_bytes(cut.read_bytes()[:200])
    (tmp_path / ".queue.begun.json.17").write_text("{")
    table = read([tmp_path])
    assert [row.name for row in table.rows] == ["queue.whole"]
    assert len(table.notices) == 1
    assert table.notices[0].startswith("queue.cut.json: left out, it is not whole: ")


def test_a_run_that_cannot_be_read_is_left_out_and_said(tmp_path: Path) -> None:
    save(tmp_path, claim(), run(), {"kernel": "6.1"})
    table = read([tmp_path])
    ((_, _, cell),) = table.cells()
    assert len(cell.runs) == 1
    assert table.notices == ("queue.limit.json: not all of its runs can be read",)


def test_evidence_of_another_schema_is_refused(tmp_path: Path) -> None:
    save(tmp_path, claim(), run(), schema=2)
    with pytest.raises(
        BadInput, match=r"queue.limit.json: evidence of schema 2, this harness reads 1; run the scenario"
    ):
        read([tmp_path])


def test_versions_of_the_harness_are_not_mixed(tmp_path: Path) -> None:
    save(tmp_path / "a", claim(), run())
    save(tmp_path / "b", claim(), run(version="5.10.7"), harness="0.2.0")
    with pytest.raises(
        BadInput, match=r"not mixed: .*a/queue.limit.json is by version 0.1.0; .*b/.* is by version 0.2.0"
    ):
        read([tmp_path / "a", tmp_path / "b"])


def test_a_place_without_evidence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none: no such directory"):
        read([tmp_path / "none"])
    (tmp_path / "package.json").write_text('{"name": "x"}')
    with pytest.raises(
        BadInput, match=r"no evidence here \(package.json: left out, it is no evidence of a claim\); run"
    ):
        read([tmp_path])


def test_packets_are_looked_for_beside_the_evidence_alone(tmp_path: Path) -> None:
    save(tmp_path, claim(), run(packets="../../etc/passwd"))
    ((_, _, cell),) = read([tmp_path]).cells()
    assert cell.runs[0].packets == tmp_path / "passwd"
