"""What changed between two kernels or runs: that alone, with numbers; a value within its claim's range has not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from harness.evidence.kinds import address
from harness.evidence.types import Knob, Moved
from harness.laws.ranges import between
from harness.report.comparison.changes import Changes, changes
from harness.report.comparison.page import render
from harness.report.comparison.sides import Sides, choose
from harness.report.table import Table, read
from tests.report.made_evidence import CLIENT, claim, compared, phases, run, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Two kernels: one claim is the same, one has another number, one another verdict, one moved within its range."""
    for version, limit, verdict, seconds, default in (
        ("6.1.2", 128, "holds", 1.2, "0"),
        ("6.12.7", 129, "refuted", 1.9, "2"),
    ):
        place = tmp_path / version
        save(place, claim("queue.same"), run(version=version, phases=phases(compared("waiting", 11, 11))))
        effect, control = phases(compared("half-open", limit, limit))
        effect = msgspec.structs.replace(
            effect,
            knobs={"server": {"net.ipv4.tcp_tw_reuse": Knob(default, "5")}},
            counters={"server": {"TcpExt.ListenDrops": Moved(0, limit), f"TcpExt.New{version}": Moved(0, 1)}},
        )
        save(place, claim("queue.number"), run(version=version, phases=(effect, control)))
        other = phases(compared("refused", verdict == "holds", True, kernel=False))
        save(place, claim("queue.verdict"), run(version=version, verdict=verdict, phases=other))
        moved = phases(compared("seconds", seconds, between(1, 2)))
        save(place, claim("queue.range"), run(version=version, phases=moved))
    save(tmp_path / "6.12.7", claim("queue.new"), run(version="6.12.7"))
    return read([tmp_path / "6.1.2", tmp_path / "6.12.7"])


def changed(table: Table) -> Changes:
    return changes(Sides(table, choose(table, "6.1"), choose(table, "6.12")))


def test_only_what_changed_is_told_verdicts_first(table: Table) -> None:
    answer = changed(table)
    assert [(change.claim, change.verdict_changed) for change in answer.claims] == [
        ("queue.verdict", True),
        ("queue.number", False),
    ]
    assert (answer.compared, answer.within) == (4, 1)
    assert answer.alone == ([], ["queue.new"])


def test_what_differs_by_a_drawn_number_alone_has_not_changed(tmp_path: Path) -> None:
    for version, port, other in (("6.1.2", 41000, 7), ("6.12.7", 52000, 8)):
        peer = address((CLIENT, port))
        drawn = phases(compared("ss", [peer, 80], [peer, 80]))
        save(tmp_path / version, claim("queue.drawn"), run(version=version, phases=drawn))
        also = phases(compared("ss", [peer, other], [peer, other]))
        save(tmp_path / version, claim("queue.also"), run(version=version, phases=also))
    answer = changed(read([tmp_path / "6.1.2", tmp_path / "6.12.7"]))
    assert [change.claim for change in answer.claims] == ["queue.also"]
    assert answer.within == 1


def test_a_change_has_its_numbers(table: Table) -> None:
    answer = changed(table)
    (difference,) = answer.claims[1].tests[0].changed
    assert (difference.what, difference.by) == ("half-open", "+1, ×1.01")
    assert [(default.sysctl, default.before, default.after) for default in answer.defaults] == [
        ("net.ipv4.tcp_tw_reuse", "0", "2")
    ]
    assert ("TcpExt.New6.12.7", 0, 1) in [(use.counter, use.before, use.after) for use in answer.counters]


def test_the_page_of_it_opens(table: Table, tmp_path: Path, look: Callable[..., Any]) -> None:
    (tmp_path / "diff.html").write_text(render(changed(table), ["6.12.7 did not run: nobody knows why"]))
    opened = look(tmp_path / "diff.html")
    assert opened.said == []
    assert opened.page.locator("section.change h3 code").all_inner_texts() == ["queue.verdict", "queue.number"]
    assert "128" in opened.page.locator("section.change").last.inner_text()
    assert "queue.same" not in opened.page.locator("body").inner_text()
    assert opened.page.locator(".missing").inner_text() == "6.12.7 did not run: nobody knows why"
