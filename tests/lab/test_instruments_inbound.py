"""A raw peer leaves connections behind, and its SYNs get the answers that the kernel gives there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.instruments.inbound import (
    CLOCK,
    LET_IN,
    NONE,
    REFUSED,
    Answer,
    Door,
    leave_in_fin_wait_2,
    leave_in_last_ack,
    reach,
)
from harness.observe import capture, states_at
from harness.traffic import RawPeer, listen

if TYPE_CHECKING:
    from harness.lab import Pair


@pytest.mark.parametrize("clock", [None, CLOCK])
def test_what_is_left_behind(pair: Pair, clock: int | None) -> None:
    door = Door(pair.server, pair.client)
    with capture(pair.server) as packets:
        left = door.leave_behind(clock)
        assert door.states(left) == ["TIME-WAIT"]
        own = packets.segments(direction="in", sport=left.port)
    assert {segment.tsval for segment in own} == {clock}
    assert own[-1].next_seq == left.seq


def test_knocking(pair: Pair) -> None:
    door = Door(pair.server, pair.client)
    assert door.knock(1, None, last=None) == LET_IN
    assert door.knock(0, None, last=None) == REFUSED
    assert door.knock(0, CLOCK + 1) == LET_IN
    assert door.knock(1, CLOCK - 1) == REFUSED


def test_resetting(pair: Pair) -> None:
    door = Door(pair.server, pair.client)
    assert door.reset(0, None) == []
    assert door.reset(1, None) == ["TIME-WAIT"]


def test_last_ack(pair: Pair) -> None:
    listener = listen(pair.server)
    left = leave_in_last_ack(RawPeer(pair.server, pair.client), listener)
    assert states_at(pair.server, left.port) == ["LAST-ACK"]
    left.send("A")
    assert states_at(pair.server, left.port) == []


def test_fin_wait_2(pair: Pair) -> None:
    listener, peer = listen(pair.server), RawPeer(pair.server, pair.client)
    orphan, closed = leave_in_fin_wait_2(peer, listener)
    held, end = leave_in_fin_wait_2(peer, listener, held=True)
    assert (closed.fileno() < 0, end.fileno() < 0) == (True, False)
    assert reach(orphan, "A") == Answer(NONE, "FIN-WAIT-2")
    assert reach(orphan, "PA", payload=b"more") == Answer("R", NONE)
    assert reach(orphan, "A").state == NONE
    assert reach(held, "FA") == Answer("A", "TIME-WAIT")


def test_what_is_answered_is_counted_once(pair: Pair) -> None:
    orphan, _ = leave_in_fin_wait_2(RawPeer(pair.server, pair.client), listen(pair.server))
    assert reach(orphan, "R", -100) == Answer("A", "FIN-WAIT-2")
    assert reach(orphan, "A") == Answer(NONE, "FIN-WAIT-2")
