"""The instrument that watches a state until it is gone sees what the kernel's timers end, and when."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from harness.errors import NotReady
from harness.instruments.lifetimes import (
    CLOSE,
    TimerRead,
    foretold,
    just_begun,
    timer_read,
    watch_fin_wait_1,
    watch_half_open,
    watch_last_ack,
    watch_orphan,
    watch_time_wait,
    watch_until_gone,
)
from harness.laws.ranges import between, matches
from harness.laws.timers import JIFFY, half_open_lasting, orphan_lasting, time_wait_lasting
from harness.observe import states_at, states_between
from harness.traffic import RawPeer, listen
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair


def test_what_a_timer_ends(pair: Pair) -> None:
    pair.server.sysctl["net.ipv4.tcp_fin_timeout"] = 6
    pair.server.sysctl["net.ipv4.tcp_synack_retries"] = 2
    peer = RawPeer(pair.server, pair.client)
    time_wait = watch_time_wait(pair.client, listen(pair.server))
    orphan = watch_orphan(pair.client, listen(pair.server))
    half_open = watch_half_open(peer.connection(listen(pair.server)))
    ended = [orphan, half_open]
    assert [states_at(pair.server, watch.port) for watch in (time_wait, *ended)] == [
        ["TIME-WAIT"],
        ["FIN-WAIT-2"],
        ["SYN-RECV"],
    ]
    watch_until_gone(ended, deadline=20)
    assert [states_at(pair.server, watch.port) for watch in ended] == [[], []]
    assert matches(time_wait_lasting(6), orphan.lifetime)
    assert matches(half_open_lasting(1, 2, 4), half_open.lifetime)
    assert not matches(half_open_lasting(1, 2, 4, 8), half_open.lifetime)
    assert not time_wait.gone
    with pytest.raises(NotReady, match="all that is watched to be gone"):
        watch_until_gone([time_wait], deadline=0.1)


def test_an_end_is_read_from_the_timer(pair: Pair) -> None:
    pair.server.sysctl["net.ipv4.tcp_synack_retries"] = 2
    half_open = watch_half_open(RawPeer(pair.server, pair.client).connection(listen(pair.server)))
    lifetime = foretold(half_open, 2, deadline=20)
    assert matches(half_open_lasting(1, 2, 4), lifetime)
    assert not half_open.gone
    with pytest.raises(NotReady, match="repetition 3"):
        foretold(half_open, 3, deadline=0.1)
    watch_until_gone([half_open], deadline=20)
    assert matches(half_open_lasting(1, 2, 4), half_open.lifetime)
    with pytest.raises(NotReady, match="no more in SYN-RECV but gone"):
        foretold(half_open, 1, deadline=20)


def test_orphans_whose_fin_nobody_acknowledges(pair: Pair) -> None:
    pair.server.sysctl["net.ipv4.tcp_orphan_retries"] = 4
    orphans = [watch(pair.client, listen(pair.server)) for watch in (watch_last_ack, watch_fin_wait_1)]
    assert [states_between(pair.server, *orphan.ends) for orphan in orphans] == [["LAST-ACK"], ["FIN-WAIT-1"]]
    watch_until_gone(orphans, deadline=20)
    assert [matches(orphan_lasting(4), orphan.lifetime) for orphan in orphans] == [True, True]


def test_an_orphan_with_a_time_of_its_own(pair: Pair) -> None:
    orphan = watch_orphan(pair.client, listen(pair.server), linger=1)
    watch_until_gone([orphan], deadline=20)
    assert matches(time_wait_lasting(1), orphan.lifetime)


def test_another_state_is_the_end_of_the_first(pair: Pair) -> None:
    """A request that is acknowledged is half-open no more, though there is a connection between the same ends."""
    connection = RawPeer(pair.server, pair.client).connection(listen(pair.server))
    half_open = watch_half_open(connection)
    connection.send("A")
    watch_until_gone([half_open], deadline=20)
    assert states_at(pair.server, half_open.port) == ["ESTAB"]
    at_least, at_most = half_open.lifetime
    assert 0 <= at_least <= at_most < 20


def test_when_a_timer_ends_is_told_however_late_it_is_read(pair: Pair) -> None:
    time_wait = watch_time_wait(pair.client, listen(pair.server))
    first = timer_read(pair.server, time_wait.port)
    until(lambda: timer_read(pair.server, time_wait.port).left < first.left - 1, what="a second")
    later = timer_read(pair.server, time_wait.port)
    assert later.ends == pytest.approx(first.ends, abs=CLOSE + 2 * JIFFY)
    assert not later.began_anew_after(first)
    assert TimerRead(58, 13, 0).began_anew_after(TimerRead(59, 10, 0))
    # The wall clock was set forward meanwhile.
    assert not TimerRead(58, 11, 100).began_anew_after(TimerRead(59, 10, 0))


def test_a_timer_that_is_read_late_has_less_left() -> None:
    assert just_begun(time.monotonic()) == between(55, 60)
    assert just_begun(time.monotonic() - 7.5) == between(52, 60)
