"""The laws of timestamps: ticks and offsets of the kernels on both sides of each boundary."""

from __future__ import annotations

import pytest

from harness.laws.kernel import KernelVersion
from harness.laws.ranges import one_of
from harness.laws.timestamps import keeps_its_offset, offsets_to_one_address, ticks_a_second


@pytest.mark.parametrize(
    ("release", "offsets"),
    [
        ("4.9", 1),
        ("4.10", 4),
        ("4.11", 1),
        ("5.10.262", 1),
        ("5.15.1", one_of(1, 4)),
        ("6.6.90", one_of(1, 4)),
        ("6.12.93", 1),
        ("6.12.94", 4),
        ("6.19.6", 1),
        ("6.19.7", 4),
        ("7.0", 4),
    ],
)
def test_how_many_offsets_four_connections_have(release: str, offsets: object) -> None:
    assert offsets_to_one_address(4, KernelVersion.parse(release)) == offsets


def test_jiffies_or_milliseconds() -> None:
    assert ticks_a_second(KernelVersion.parse("4.13")) == (1000,)
    assert 250 in ticks_a_second(KernelVersion.parse("4.12"))


@pytest.mark.parametrize(("release", "keeps"), [("4.9", True), ("4.10", False), ("4.11", True), ("7.3", True)])
def test_an_offset_is_lost_for_one_release(release: str, keeps: bool) -> None:
    assert keeps_its_offset(KernelVersion.parse(release)) == keeps
