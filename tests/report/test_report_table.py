"""Evidence of several runs as one table: columns, cells, what is refused, and what an interrupted run left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput
from harness.report.table import read
from tests.report.made_evidence import claim, crashed, run, save

if TYPE_CHECKING:
    from pathlib import Path


def test_kernels_of_several_directories_stand_side_by_side_from_old_to_new(tmp_path: Path) -> None:
    save(tmp_path / "b", claim(), run(version="6.12.1"), run(version="6.2.9", verdict="holds", outcome="unexpected"))
    save(tmp_path / "a", claim(), run(version="5.10.7"))
    table = read([tmp_path / "a", tmp_path / "b"])
    assert [column.label for column in table.columns] == ["5.10.7", "6.2.9", "6.12.1"]
    assert [cell.said for _, _, cell in table.cells()] == ["refuted", "unexpected", "refuted"]


def test_two_runs_of_one_kernel_get_a_column_each(tmp_path: Path) -> None:
    save(tmp_path / "monday", claim(), run())
    save(tmp_path / "friday", claim(), run(verdict="holds"))
    table = read([tmp_path / "monday", tmp_path / "friday"])
    assert sorted(column.label for column in table.columns) == ["6.1.2 · friday", "6.1.2 · monday"]


def test_two_builds_of_one_release_get_a_column_each(tmp_path: Path) -> None:
    save(tmp_path, claim(), run(kernel_name="6.1.2-before"), run(kernel_name="6.1.2-after"))
    assert [column.label for column in read([tmp_path]).columns] == ["6.1.2 · 6.1.2-after", "6.1.2 · 6.1.2-before"]


def test_claims_and_groups_can_be_chosen(tmp_path: Path) -> None:
    for name in ("queue.limit", "queue.more", "wait.long"):
        save(tmp_path, claim(name), run())
    (tmp_path / "old.claim.json").write_text('{"schema": 1}')
    table = read([tmp_path], claims=["queue.more", "wait"])
    assert [row.claim.name for row in table.rows] == ["queue.more", "wait.long"]
    with pytest.raises(BadInput, match=r"no evidence of nonsense here; run"):
        read([tmp_path], claims=["nonsense"])


def test_a_run_that_crashed_is_failed(tmp_path: Path) -> None:
    save(tmp_path, claim(), run(), crashed(params="ipv6"))
    ((_, _, cell),) = read([tmp_path]).cells()
    assert (cell.said, cell.is_wrong) == ("failed", True)


def test_the_kernel_is_no_part_of_the_test(tmp_path: Path) -> None:
    names = [
        (run(kernel_name="6.1.2"), "test_limit[ipv4]"),
        (run(params="", kernel_name="running"), "test_limit"),
        (run(params="6.1.2"), "test_limit[6.1.2]"),
        (run(params="x6.1", kernel_name="6.1"), "test_limit[x6.1]"),
    ]
    assert [(each.test.rpartition("::")[2], name) for each, name in names] == [(name, name) for _, name in names]


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
    assert (cell.said, cell.partly) == (state, partly)


def test_what_was_cut_off_is_left_out_and_named(tmp_path: Path) -> None:
    save(tmp_path, claim("queue.whole"), run())
    cut = save(tmp_path, claim("queue.cut"), run())
    cut.write_bytes(cut.read_bytes()[:200])
    (tmp_path / ".queue.begun.json.17").write_text("{")
    table = read([tmp_path])
    assert [row.claim.name for row in table.rows] == ["queue.whole"]
    assert len(table.notices) == 1
    assert table.notices[0].startswith("queue.cut.json: left out: not an evidence file: ")


def test_a_run_that_cannot_be_read_is_left_out_and_said(tmp_path: Path) -> None:
    file = save(tmp_path, claim(), run("test_whole"), run("test_z"))
    file.write_text(file.read_text().replace('"outcome":"expected"', '"outcome":"odd"', 1))
    table = read([tmp_path])
    ((_, _, cell),) = table.cells()
    assert [entry.test for entry in cell.entries] == ["test_z[ipv4]"]
    assert table.notices == ("queue.limit.json: run 1 is left out: Invalid enum value 'odd' - at `$.outcome`",)


def test_a_kernel_whose_version_is_none_is_left_out(tmp_path: Path) -> None:
    save(tmp_path, claim(), run(), run("test_odd", version="linux"))
    assert read([tmp_path]).notices[0].startswith("queue.limit.json: run 2 is left out: ")


def test_evidence_of_another_schema_is_refused(tmp_path: Path) -> None:
    save(tmp_path, claim(), run(), schema=1)
    with pytest.raises(
        BadInput, match=r"queue.limit.json: evidence of schema 1, this harness reads schema 2: run the scenario"
    ):
        read([tmp_path])


def test_versions_of_the_harness_are_not_mixed(tmp_path: Path) -> None:
    save(tmp_path / "a", claim(), run())
    save(tmp_path / "b", claim(), run(version="5.10.7"), harness="9.9.0")
    with pytest.raises(
        BadInput, match=r"not mixed: .*a/queue.limit.json is by version \S+; .*b/.* is by version 9.9.0"
    ):
        read([tmp_path / "a", tmp_path / "b"])


def test_a_place_without_evidence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none: no such directory"):
        read([tmp_path / "none"])
    (tmp_path / "package.json").write_text('{"name": "x"}')
    with pytest.raises(
        BadInput, match=r"no evidence here \(package.json: left out: not an evidence file: .*`schema`\); run"
    ):
        read([tmp_path])


def test_packets_are_looked_for_beside_the_evidence_alone(tmp_path: Path) -> None:
    save(tmp_path, claim(), run(packets="../../etc/passwd"))
    ((_, _, cell),) = read([tmp_path]).cells()
    assert cell.entries[0].packets == tmp_path / "passwd"
