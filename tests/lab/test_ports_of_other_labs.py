"""Where connect() begins to search for a port is kept for all network namespaces together (table_perturb[])."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from harness.lab import Lab, Pair, pair
from harness.laws import since
from harness.traffic import connect, listen
from harness.traffic.ports import give_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a step is at most if nobody else connects (__inet_hash_connect()); how often each of the two labs does.
STEP, TIMES, OTHERS = 16, 12, 3


@pytest.fixture
def two(lab: Lab) -> Iterator[tuple[Pair, Pair]]:
    """Two labs whose hosts have the same addresses."""
    with Lab(family=lab.family) as other:
        yield pair(lab), pair(other)


@pytest.mark.skipif(not since("connect-searches-one-parity-first"), reason="one hint for all ports before")
@pytest.mark.parametrize("same", [True, False], ids=["the same port", "another port"])
def test_a_lab_moves_on_the_search_of_another_one(two: tuple[Pair, Pair], *, same: bool) -> None:
    mine, other = two
    assert mine.server.ip == other.server.ip
    listener = listen(mine.server, 100, port=24210)
    there = listen(other.server, 100, port=24210 if same else 24211)
    room = len(give_ports(mine.client, 2048, first=41000))
    ports = []
    for _ in range(TIMES):
        ports += [call.port for call in connect(mine.client, listener, 1, wait=True)]
        connect(other.client, there, OTHERS, wait=True)
    longer = sum((later - port) % room > STEP for port, later in pairwise(ports))
    assert longer > TIMES // 2 if same else longer <= 2
