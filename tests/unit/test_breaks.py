"""Each break of the harness that is tried still has something to break, and its test is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.breaks import Break, breaks

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("each", breaks(), ids=lambda each: each.name)
def test_a_break_can_be_tried(each: Break) -> None:
    text = (PROJECT / each.file).read_text()
    assert each.applied(text) != text
    file, _, test = each.test.partition("::")
    assert re.search(rf"^def {re.escape(test.partition('[')[0])}\(", (PROJECT / file).read_text(), re.MULTILINE)


def test_there_are_thirty_of_different_names() -> None:
    assert len({each.name for each in breaks()}) == len(breaks()) >= 30
