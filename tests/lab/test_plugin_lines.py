"""A failure says what its lab's cables did to frames, and the seed to do it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

pytest_plugins = ["pytester"]

TESTS = """
from harness.lab import pair

def test_lossy(lab):
    made = pair(lab, loss=30, by="box")
    assert made.cable.seed is None

def test_plain(lab):
    pair(lab)
    assert False
"""


def test_a_failure_tells_of_its_cables_and_the_seed_that_was_drawn(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile(TESTS)
    result = session("-k", "lossy and ipv4")
    result.assert_outcomes(failed=1, deselected=3)
    result.stdout.fnmatch_lines(["*Captured cables*", "client - server: 30 % lost, seed * (drawn); by a box of ours*"])
    plain = session("-k", "plain and ipv4")
    plain.assert_outcomes(failed=1, deselected=3)
    plain.stdout.no_fnmatch_line("*Captured cables*")
