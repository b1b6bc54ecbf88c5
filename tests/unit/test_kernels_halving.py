"""Halving between kernels, and what two kernels have differently."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as some

from harness.errors import BadInput
from harness.kernels.catalogue import Kernel
from harness.kernels.facts import Facts, differences
from harness.kernels.halving import halve

if TYPE_CHECKING:
    from collections.abc import Callable

KERNELS = [Kernel(f"6.{n}.0-amd64", f"6.{n}.0", "sid", ()) for n in range(40)]


def changes_at(n: int) -> Callable[[Kernel], str]:
    return lambda kernel: "holds" if KERNELS.index(kernel) < n else "refuted"


@given(some.integers(2, 40), some.data())
def test_halving_finds_the_neighbours(length: int, data: some.DataObject) -> None:
    boundary = data.draw(some.integers(1, length - 1))
    neighbours = halve(KERNELS[:length], changes_at(boundary))
    assert (neighbours.before, neighbours.after) == (KERNELS[boundary - 1], KERNELS[boundary])
    assert neighbours.verdicts == ("holds", "refuted")
    assert neighbours.runs <= 2 + math.ceil(math.log2(length))


def test_without_a_difference_there_is_no_boundary() -> None:
    with pytest.raises(BadInput, match=r"the verdict is holds on both 6.0.0-amd64 and 6.4.0-amd64"):
        halve(KERNELS[:5], lambda _: "holds", lambda kernel: kernel.release)
    with pytest.raises(BadInput, match="name two that differ"):
        halve(KERNELS[:1], lambda _: "holds")


def test_facts_that_differ() -> None:
    old = Facts({"a": "1", "b": "2", "gone": "0"}, ["TcpExt.Old", "Tcp.InSegs"])
    new = Facts({"a": "1", "b": "3", "new": "4"}, ["TcpExt.New", "Tcp.InSegs"])
    assert differences(old, new) == {
        "sysctls with other defaults": ["b: 2 -> 3"],
        "sysctls of the first alone": ["gone = 0"],
        "sysctls of the second alone": ["new = 4"],
        "counters of the first alone": ["TcpExt.Old"],
        "counters of the second alone": ["TcpExt.New"],
    }
