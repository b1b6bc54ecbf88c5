"""A cable that was like a real one, in words, and on the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.lab.impairment import LineUsed, Towards
from harness.report.cells import cell_view
from harness.report.lines import told
from harness.report.page import templates
from harness.report.table import read
from tests.report.made_evidence import claim, run, save

if TYPE_CHECKING:
    from pathlib import Path

BOTH = ("client", "server")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (LineUsed(BOTH, "netem", delay=0.15), "client - server: 150 ms each way; by netem"),
        (
            LineUsed(BOTH, "box", delay=0.1, jitter=0.02, loss=1, duplicate=2, reorder=0.5, seed=7),
            "client - server: 100 ms each way ± 20 ms, 1 % lost, 2 % twice, 0.5 % overtaking, seed 7; by a box of ours",
        ),
        (
            LineUsed(BOTH, "box", rate=2e6, queue=20, towards=(Towards("server", 98, 1, 2, 3), Towards("client", 7))),
            "client - server: 2 Mbit/s, a queue of 20; by a box of ours; to server 98 passed, 1 lost, 2 without room, "
            "3 lost unasked; to client 7 passed",
        ),
        (
            LineUsed(BOTH, "box", loss=50, seed=7, drawn=True),
            "client - server: 50 % lost, seed 7 (drawn); by a box of ours",
        ),
        (LineUsed(BOTH, "box"), "client - server: nothing; by a box of ours"),
    ],
)
def test_a_cable_in_words(line: LineUsed, words: str) -> None:
    assert told(line) == words


def test_the_page_has_the_cables_of_a_run(tmp_path: Path) -> None:
    save(tmp_path, claim(), run(lines=(LineUsed(BOTH, "netem", delay=0.15),)))
    ((row, column, cell),) = read([tmp_path]).cells()
    shown = templates().get_template("cell.html.jinja").render(view=cell_view(row, column, cell))
    assert "<li>client - server: 150 ms each way; by netem</li>" in shown
