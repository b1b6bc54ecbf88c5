"""The laws of TCP's timers, against the times that the kernel's documentation and its commits name."""

from __future__ import annotations

import pytest

from harness.laws.kernel import KernelVersion
from harness.laws.ranges import matches
from harness.laws.timers import RTO_MIN, about, doubling, granularity, syn_waits

OLD, DECADE, HASTY, NEW = (KernelVersion.parse(release) for release in ("3.0", "5.10", "4.19.100", "6.12"))


@pytest.mark.parametrize(
    ("kernel", "linear", "ends"),
    [
        (OLD, 0, {1: 9, 2: 21, 3: 45, 5: 189}),
        (DECADE, 0, {1: 3, 2: 7, 3: 15, 4: 31, 5: 63, 6: 127}),
        (HASTY, 0, {1: 3, 3: 3, 4: 7, 5: 15, 6: 31}),
        (NEW, 0, {1: 3, 2: 7, 3: 15, 4: 31, 5: 63, 6: 127}),
        (NEW, 4, {1: 3, 2: 7, 3: 19, 4: 35, 5: 67, 6: 131}),
    ],
)
def test_when_connect_fails(kernel: KernelVersion, linear: int, ends: dict[int, int]) -> None:
    assert {retries: sum(syn_waits(retries, linear, kernel)) for retries in ends} == ends


def test_the_first_timeouts_are_linear() -> None:
    assert syn_waits(6, 4, NEW) == [1, 1, 1, 1, 1, 2, 4, 8, 16, 32, 64]


def test_the_default_patience_of_a_connection() -> None:
    assert sum(doubling(RTO_MIN, 15)) == pytest.approx(924.6)
    assert sum(doubling(RTO_MIN, 8)) == pytest.approx(102.2)
    assert sum(doubling(RTO_MIN, 15, longest=1.0)) == pytest.approx(14.4)


def test_the_wheel_rounds_up() -> None:
    assert granularity(0.2, 250, NEW) == 1 / 250
    assert granularity(1, 250, NEW) == 8 / 250
    assert granularity(32, 250, NEW) == 512 / 250
    assert granularity(0.2, 250, OLD) == 1 / 250
    assert granularity(32, 250, OLD) == 1 / 8


def test_timers_are_late_and_not_early() -> None:
    seen = about(*syn_waits(5, 0, NEW), late=0, kernel=NEW)
    assert matches(seen, 65.5)
    assert not matches(seen, 62.9)
    assert not matches(about(*syn_waits(5, 0, OLD), late=0, kernel=OLD), 194)
