"""A segment that outlives its connection arrives where a new one between the same ends would take it for its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.instruments.old_data import OLD, delay_data, delay_open_data
from harness.observe import capture, states_between
from harness.observe.conversation import Conversation
from harness.traffic import listen
from harness.traffic.connection import peek
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair


@pytest.fixture
def without_time_wait(pair: Pair) -> Pair:
    pair.client.sysctl["net.ipv4.tcp_max_tw_buckets"] = 0
    pair.client.sysctl["net.ipv4.tcp_timestamps"] = 0
    return pair


def test_it_is_taken_where_it_fits(without_time_wait: Pair) -> None:
    pair = without_time_wait
    old = delay_data(pair.client, listen(pair.server))
    assert (old.segment.payload, old.segment.tsval) == (OLD, None)
    assert states_between(pair.client, old.local, old.remote) == []
    assert old.arrive_behind_new(old.connect_again()) == OLD


def test_it_is_not_taken_where_its_acknowledgement_is_too_old(without_time_wait: Pair) -> None:
    pair = without_time_wait
    old = delay_data(pair.client, listen(pair.server))
    assert old.arrive_behind_new(old.connect_again(ack_fits=False)) == b""


def test_data_of_an_open_connection_is_late(pair: Pair) -> None:
    late = delay_open_data(pair.client, listen(pair.server))
    assert peek(late.end) == b""
    until(lambda: late.copies.count >= 2, what="the segment to be repeated")
    assert peek(late.end) == b""
    read, age = late.arrive()
    assert read == OLD
    assert 0.1 < age < 20


def test_it_meets_nobody(without_time_wait: Pair) -> None:
    pair = without_time_wait
    old = delay_data(pair.client, listen(pair.server))
    with capture(pair.server) as packets:
        before = Conversation(packets, old.remote, old.local, since=0)
        old.arrive()
        assert [segment.payload for segment in before.received()] == [OLD]
        assert [segment.flags for segment in before.sent()] == ["R"]
        assert [segment.flags for segment in before.sent("R")] == ["R"]
        after = Conversation(packets, old.remote, old.local)
        assert (after.sent(), after.received()) == ([], [])
