"""What PAWS has refused, whichever counters a kernel has."""

from __future__ import annotations

from harness.observe.counters import Delta
from harness.observe.paws import rejected, rejected_syns


def moved(**counters: int) -> Delta:
    return Delta({"TcpExt": counters})


def test_one_counter_or_three() -> None:
    assert rejected(moved(PAWSEstab=2)) == 2
    assert rejected(moved(PAWSEstab=2, PAWSOldAck=1, PAWSTimewait=4, PAWSPassive=8)) == 7


def test_syns_where_they_are_counted_and_where_not() -> None:
    assert rejected_syns(moved(PAWSPassive=3, PAWSEstab=1)) == 3
    assert rejected_syns(moved(PAWSEstab=1)) == 0
