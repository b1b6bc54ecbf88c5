"""Connections that end in unusual ways come to the states that the instruments say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import NotReady
from harness.instruments.closing import SimultaneousClose, lose_last_ack, states_of_both
from harness.instruments.lifetimes import seconds_left
from harness.observe import capture, states_at, states_between
from harness.traffic import connect, listen
from harness.traffic.closing import leave_time_wait
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair


def test_both_close_at_once(pair: Pair) -> None:
    listener = listen(pair.server)
    with capture(pair.server) as packets:
        closing = SimultaneousClose(pair.client, listener, packets)
        assert closing.states == {"client": ["ESTAB"], "server": ["ESTAB"]}
        closing.send_fins()
        assert closing.states == {"client": ["FIN-WAIT-1"], "server": ["FIN-WAIT-1"]}
        closing.deliver_fins()
        assert closing.states == {"client": ["CLOSING"], "server": ["CLOSING"]}
        closing.deliver_acks()
        assert states_of_both(pair.client, listener) == {"client": ["TIME-WAIT"], "server": ["TIME-WAIT"]}


def test_the_last_ack_is_lost(pair: Pair) -> None:
    with capture(pair.server) as packets:
        last = lose_last_ack(pair.client, listen(pair.server))
        assert (last.states, states_at(pair.client, last.remote[1])) == (["LAST-ACK"], ["TIME-WAIT"])
        last.repeat()
        assert (last.states, last.error) == ([], "no error")
        assert [answer.flags for answer in last.answers(packets)] == ["A", "A"]


def test_each_of_the_last_acks_is_lost(pair: Pair) -> None:
    with capture(pair.server) as packets:
        last = lose_last_ack(pair.client, listen(pair.server), again=True)
        until(lambda: last.lost.count >= 3, what="ACKs of FINs that are repeated")
        assert (last.states, states_at(pair.client, last.remote[1])) == (["LAST-ACK"], ["TIME-WAIT"])
        fins = packets.segments(direction="out", sport=last.remote[1], flags="FA")
        assert len(fins) >= 3
        last.repeat()
        assert (last.states, last.error) == ([], "no error")


def test_what_a_timer_of_time_wait_has_left(pair: Pair) -> None:
    listener = listen(pair.server)
    ((local, remote),) = leave_time_wait(pair.client, listener)
    assert 55 < seconds_left(pair.client, listener.port) <= 60
    assert states_between(pair.client, local, remote) == ["TIME-WAIT"]
    assert states_between(pair.client, local, (remote[0], 1)) == []
    with pytest.raises(NotReady, match=f"not one TIME-WAIT at port {listener.port} of server: nothing"):
        seconds_left(pair.server, listener.port)
    connect(pair.client, listener, wait=True)
    with pytest.raises(NotReady, match=r"not one TIME-WAIT .* of client: .*ESTAB"):
        seconds_left(pair.client, listener.port)
