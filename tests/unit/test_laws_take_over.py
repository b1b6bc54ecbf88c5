"""The law of take-over: three kinds of kernels, and what each allows at which age."""

from __future__ import annotations

import pytest

from harness.laws.kernel import KernelVersion
from harness.laws.take_over import CLOCK_MONOTONIC_COARSE, CLOCK_REALTIME_COARSE, take_over

OLDEST, SECONDS, MILLISECONDS = (KernelVersion.parse(release) for release in ("4.18.20", "6.13.12", "6.14"))


@pytest.mark.parametrize(
    ("kernel", "phase", "age"),
    [(OLDEST, 0.25, 1.75), (OLDEST, 0.0, 2.0), (SECONDS, 0.25, 0.75), (SECONDS, 0.0, 1.0), (MILLISECONDS, 0.25, 1.001)],
)
def test_the_age_from_which_on_it_is_allowed(kernel: KernelVersion, phase: float, age: float) -> None:
    assert take_over(kernel=kernel).age(phase) == pytest.approx(age, abs=0.0011)


def test_the_clocks() -> None:
    assert take_over(kernel=OLDEST).clock == CLOCK_REALTIME_COARSE
    assert take_over(kernel=SECONDS).clock == CLOCK_MONOTONIC_COARSE


def test_the_delay_counts_where_there_is_one() -> None:
    assert take_over(300, kernel=MILLISECONDS).more_than == 300
    assert take_over(300, kernel=SECONDS) == take_over(kernel=SECONDS)


@pytest.mark.parametrize(
    ("passed", "allowed"), [((0, 1000), False), ((1000, 1001), None), ((1001, 1001), True), ((900, 2000), None)]
)
def test_what_is_allowed_after_how_many_units(passed: tuple[int, int], allowed: bool | None) -> None:
    assert take_over(kernel=MILLISECONDS).allows(passed) is allowed


def test_how_long_until_it_is_old_enough() -> None:
    law = take_over(kernel=MILLISECONDS)
    assert 0.9e9 < law.remaining(law.now()) <= 1.001e9
    assert law.remaining(law.now() - 1500) < 0
