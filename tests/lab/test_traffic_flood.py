"""The crafted flood: it sends as many as it is told, not faster than it is told, by as many senders as that takes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import BadInput
from harness.observe import counters
from harness.traffic import listen
from harness.traffic.arriving import Arriving, can_arrive
from harness.traffic.flood import Flood, OnCable, flood
from harness.waiting import until_at_least

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.lab import Pair

NO_ARRIVING = "this kernel has no frames that arrive unsent, or not for us: since 5.18, for root of the machine"
SECONDS, RATE = 0.5, 2000
# The package has the function by that name.
MODULE = sys.modules[flood.__module__]
PROCESSORS = len(os.sched_getaffinity(0))


@pytest.fixture(params=["arriving", "on the cable"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """How the frames of a fast flood come; nothing but that sends them."""
    made: list[type] = []
    init = Flood.__init__

    def noted(self: Flood, senders: Sequence[Any], *given: Any) -> None:
        made.extend(map(type, senders))
        init(self, senders, *given)

    monkeypatch.setattr(Flood, "__init__", noted)
    if request.param == "on the cable":
        monkeypatch.setattr(MODULE, "can_arrive", lambda: False)
    elif not can_arrive():
        pytest.skip(NO_ARRIVING)
    yield
    assert set(made) == {OnCable if request.param == "on the cable" else Arriving}


def arrived(pair: Pair, n: int) -> int:
    """How many came, when n have: a busy processor takes the last later than they were sent."""
    until_at_least(lambda: counters(pair.server).Tcp.InSegs, n, what="frames that arrived")
    return counters(pair.server).Tcp.InSegs


def test_a_rate_is_not_exceeded(pair: Pair) -> None:
    is_kept(pair, senders=1)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("one_sender", "senders"), [(RATE - 1, min(PROCESSORS, 2)), (RATE / 99, min(PROCESSORS, 99))])
def test_a_rate_is_not_exceeded_by_as_many_senders_as_it_takes(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, one_sender: float, senders: int
) -> None:
    monkeypatch.setattr(MODULE, "OF_ONE_SENDER", one_sender)
    is_kept(pair, senders)


def is_kept(pair: Pair, senders: int) -> None:
    running = flood(pair.server, pair.client, listen(pair.server), seconds=SECONDS, rate=RATE)
    assert len(running._threads) == senders
    rate = running.wait()
    assert rate.sent == running.sent == arrived(pair, rate.sent)
    # A busy machine sends fewer. Of each sender's share a part of a frame may be due.
    assert 1 <= rate.sent <= SECONDS * RATE + senders
    assert rate.seconds >= SECONDS


@pytest.mark.parametrize("rate", [None, 1e9])
@pytest.mark.usefixtures("way")
def test_so_many_and_no_more_are_sent(pair: Pair, monkeypatch: pytest.MonkeyPatch, rate: float | None) -> None:
    monkeypatch.setattr(MODULE, "OF_ONE_SENDER", 1)
    running = flood(pair.server, pair.client, listen(pair.server), count=3000, rate=rate)
    assert len(running._threads) == 1
    assert running.wait().sent == arrived(pair, 3000) == 3000


@pytest.mark.usefixtures("way")
def test_at_full_speed_each_processor_has_a_sender(pair: Pair) -> None:
    running = flood(pair.server, pair.client, listen(pair.server), seconds=0.1)
    assert len(running._threads) == PROCESSORS
    # Of those that nothing holds back a busy processor may drop some.
    assert running.wait().sent >= arrived(pair, 1) > 0


def test_one_that_is_stopped_ends(pair: Pair) -> None:
    with flood(pair.server, pair.client, listen(pair.server), seconds=100, rate=RATE) as running:
        until_at_least(lambda: running.sent, 10, what="frames that were sent")
        assert running.running()
    assert not running.running()
    assert running.sent == arrived(pair, running.sent)


def test_one_without_a_bound_is_refused(pair: Pair) -> None:
    with pytest.raises(BadInput, match=r"a flood needs a bound: count \(packets\) or seconds"):
        flood(pair.server, pair.client, 80)
    with pytest.raises(BadInput, match=r"up to 120 seconds, not 121"):
        flood(pair.server, pair.client, 80, seconds=121)
