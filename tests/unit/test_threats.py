"""Each line of the threat model has a test that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
LINES = [
    line.split(" | ") for line in (PROJECT / "docs" / "threats.md").read_text().splitlines() if line.startswith("| ")
]  # fmt: skip


@pytest.mark.parametrize("line", LINES[2:], ids=lambda line: line[0].strip("| "))
def test_it_is_held_by_a_test(line: list[str]) -> None:
    named = re.findall(r"`(tests/[^`]+)`", line[-1])
    assert named
    for file, _, test in (each.partition("::") for each in named):
        assert not test or f"def {test}(" in (PROJECT / file).read_text()
        assert (PROJECT / file).is_file()
