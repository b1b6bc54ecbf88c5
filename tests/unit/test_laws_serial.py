"""Numbers that come round: how far it is from one to another, and which is the older."""

from __future__ import annotations

import pytest

from harness.laws.serial import distance, older


@pytest.mark.parametrize(
    ("start", "end", "far"),
    [(5, 7, 2), (7, 5, -2), (2**32 - 1, 1, 2), (1, 2**32 - 1, -2), (0, 2**31, -(2**31)), (0, 2**31 - 1, 2**31 - 1)],
)
def test_the_shorter_way_round(start: int, end: int, far: int) -> None:
    assert distance(start, end) == far


def test_what_is_half_a_round_ahead_is_newer_and_a_little_more_is_older() -> None:
    assert not older(2**31 - 1, 0)
    assert older(2**31 + 1, 0)
    assert older(2**32 - 1, 3)
    assert not older(3, 3)
