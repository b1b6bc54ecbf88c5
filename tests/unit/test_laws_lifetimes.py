"""The laws of lifetimes: what a timer ends, judged by when it was seen last and missed first."""

from __future__ import annotations

import pytest

from harness.laws.kernel import KernelVersion
from harness.laws.ranges import Range, matches
from harness.laws.timers import Lasts, half_open_lasting, lasting, orphan_lasting, time_wait_lasting

CENTRAL, SLACK, NEW = (KernelVersion.parse(release) for release in ("3.16", "4.4", "6.12"))


@pytest.mark.parametrize(
    ("measured", "accepted"),
    [
        ((59.9, 60.1), True),
        ((0.0, 100.0), True),  # not looked at for a long time
        ((59.0, 59.9), False),
        ((66.0, 66.1), False),
        ((64.0, 64.1), True),  # 5.12 s is the coarsest step of the wheel, with 100 ticks a second
    ],
)
def test_a_lifetime_may_have_ended_between_two_looks(measured: tuple[float, float], accepted: bool) -> None:
    assert matches(lasting(60, kernel=NEW), measured) is accepted


def test_a_law_is_data() -> None:
    law = lasting(60, kernel=NEW)
    assert isinstance(law, Range)
    assert (law.earliest, law.latest, repr(law)) == (59.98, 65.22, "lasts 59.98 to 65.22 s")
    assert law == Lasts(59.98, 65.22)
    assert not matches(law, 60)
    assert not matches(law, None)


def test_time_wait() -> None:
    assert time_wait_lasting(kernel=NEW) == lasting(60, kernel=NEW)
    assert time_wait_lasting(kernel=SLACK) == Lasts(59.98, 60.334)
    # All TIME-WAIT of a slot end with the eighth tick of 7.5 s that follows.
    assert time_wait_lasting(kernel=CENTRAL) == Lasts(52.48, 60.1)
    assert time_wait_lasting(30, kernel=CENTRAL) == Lasts(29.98, 37.6)
    assert time_wait_lasting(5, kernel=CENTRAL) == Lasts(7.48, 15.1)


def test_orphans() -> None:
    assert orphan_lasting(kernel=NEW) == orphan_lasting(8, kernel=NEW)
    assert orphan_lasting(1, kernel=NEW) == Lasts(0.78, 2.176)
    assert orphan_lasting(3, kernel=NEW).earliest == 3.18
    assert orphan_lasting(kernel=NEW).earliest == 102.38
    assert matches(orphan_lasting(3, kernel=NEW), (6.2, 6.4))
    assert not matches(orphan_lasting(1, kernel=NEW), (6.2, 6.4))
    assert not matches(orphan_lasting(kernel=NEW), (12.7, 12.8))


def test_half_open() -> None:
    assert half_open_lasting(1, 2, kernel=NEW) == lasting(1, 2, kernel=NEW) == Lasts(2.98, 3.34)
    assert half_open_lasting(1, 2, kernel=CENTRAL) == Lasts(2.98, 4.3)
