"""What changed between two kernels or runs: that alone, with numbers; a value within its claim's range has not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import BadInput
from harness.report.changes import Comparison, Side, choose, compare, moved
from harness.report.page import render_comparison
from harness.report.stored import Table, read
from tests.report.made_evidence import CLIENT, claim, compared, expected, phase, run, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def effect(*comparisons: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return [phase("effect", "nobody accepts", *comparisons) | more, phase("control", "all", expected("refused", 0, 0))]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Two kernels: one claim is the same, one has another number, one another verdict, one moved within its range."""
    ranged = compared("seconds", 1, 1) | {
        "document": "between 1 and 2",
        "kernel": "between 1 and 2",
        "result": "document",
    }
    for version, limit, verdict, seconds, default in (
        ("6.1.2", 128, "holds", 1.2, "0"),
        ("6.12.7", 129, "refuted", 1.9, "2"),
    ):
        save(tmp_path / version, claim("queue.same"), run(version=version, phases=effect(compared("waiting", 11, 11))))
        number = effect(
            compared("half-open", limit, limit), knobs={"server": {"net.ipv4.tcp_tw_reuse": [default, "5"]}}
        )
        number[0]["counters"] = {"server": {"TcpExt.ListenDrops": [0, limit, limit], f"TcpExt.New{version}": [0, 1, 1]}}
        save(tmp_path / version, claim("queue.number"), run(version=version, phases=number))
        other = effect(compared("refused", verdict == "holds", True, kernel=False))
        save(tmp_path / version, claim("queue.verdict"), run(version=version, verdict=verdict, phases=other))
        save(
            tmp_path / version,
            claim("queue.range"),
            run(version=version, phases=effect(ranged | {"measured": seconds})),
        )
    save(tmp_path / "6.12.7", claim("queue.new"), run(version="6.12.7"))
    return read([tmp_path / "6.1.2", tmp_path / "6.12.7"])


def changes(table: Table) -> Comparison:
    return compare(Side(table, choose(table, "6.1")), Side(table, choose(table, "6.12")))


def test_only_what_changed_is_told_verdicts_first(table: Table) -> None:
    found = changes(table)
    assert [(one.name, one.verdict_changed) for one in found.changes] == [
        ("queue.verdict", True),
        ("queue.number", False),
    ]
    assert (found.compared, found.within) == (4, 1)
    assert found.only == ([], ["queue.new"])


def test_what_differs_by_a_drawn_number_alone_has_not_changed(tmp_path: Path) -> None:
    for version, port, other in (("6.1.2", 41000, 7), ("6.12.7", 52000, 8)):
        drawn = effect(compared("ss", [f"{CLIENT}:{port}", 80], [f"{CLIENT}:{port}", 80]))
        save(tmp_path / version, claim("queue.drawn"), run(version=version, phases=drawn))
        also = effect(compared("ss", [f"{CLIENT}:{port}", other], [f"{CLIENT}:{port}", other]))
        save(tmp_path / version, claim("queue.also"), run(version=version, phases=also))
    found = changes(read([tmp_path / "6.1.2", tmp_path / "6.12.7"]))
    assert [one.name for one in found.changes] == ["queue.also"]
    assert found.within == 1


def test_a_change_has_its_numbers(table: Table) -> None:
    (difference,) = changes(table).changes[1].told
    assert (difference.what, difference.before, difference.after, difference.by) == ("half-open", 128, 129, "+1, ×1.01")
    assert changes(table).defaults == [("net.ipv4.tcp_tw_reuse", "0", "2")]
    assert ("TcpExt.New6.12.7", 0, 1) in changes(table).counters


def test_the_page_of_it_opens(table: Table, tmp_path: Path, look: Callable[..., Any]) -> None:
    (tmp_path / "diff.html").write_text(render_comparison(changes(table)))
    opened = look(tmp_path / "diff.html")
    assert opened.said == []
    assert opened.page.locator("section.change h3 code").all_inner_texts() == ["queue.verdict", "queue.number"]
    assert "128" in opened.page.locator("section.change").last.inner_text()
    assert "queue.same" not in opened.page.locator("body").inner_text()


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [(2, 3, "+1, ×1.5"), (0, 5, "+5"), (1.5, 1.25, "-0.25, ×0.833"), ("2", 3, ""), (True, False, ""), (None, 1, "")],
)
def test_how_far_a_number_moved(before: object, after: object, told: str) -> None:
    assert moved(before, after) == told


def test_a_kernel_is_named_by_its_version_or_the_beginning_of_it(table: Table) -> None:
    assert choose(table, "6.12.7-amd64").version == choose(table, "6.12").version == "6.12.7"
    with pytest.raises(BadInput, match=r"--diff 5.4: no such kernel in the evidence; there are 6.1.2, 6.12.7"):
        choose(table, "5.4")
    with pytest.raises(BadInput, match=r"--diff 6 means 6.1.2, 6.12.7: name one of them"):
        choose(table, "6")
