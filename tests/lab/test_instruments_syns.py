"""Instruments at the SYN queue, by counters and by inet_diag: what came of each SYN, when the queue is full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import NotReady
from harness.instruments import syncookies
from harness.instruments.accept_queue import room
from harness.instruments.syn_queue import ceiling, dealt_with, flooded, listening
from harness.instruments.syns import Answers, Fates, call, knock, send_syns
from harness.laws.queues import Knobs
from harness.observe import counters, counting
from harness.traffic import RawPeer, connect, echo
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair


@pytest.mark.parametrize("cookies", [0, 1, 2])
def test_a_flood_fills_up_to_the_ceiling(pair: Pair, cookies: int) -> None:
    knobs = Knobs(20, tcp_syncookies=cookies)
    listener, before = listening(pair.server, knobs), counters(pair.server)
    fits = ceiling(knobs)
    assert flooded(pair.client, listener, 50) == fits
    moved = (counters(pair.server) - before).TcpExt
    assert (moved.ListenDrops, moved.SyncookiesSent) == ((0, 50 - fits) if cookies else (50 - fits, 0))
    assert dealt_with(listener, before) == 50
    assert room(knobs) == 21


@pytest.mark.parametrize(
    ("cookies", "sender", "kernel"), [(0, Answers(0, 5), Fates(0, 0, 5)), (1, Answers(5, 0), Fates(0, 5, 0))]
)
def test_what_became_of_syns_at_a_full_queue(pair: Pair, cookies: int, sender: Answers, kernel: Fates) -> None:
    knobs, peer = Knobs(10, tcp_syncookies=cookies), RawPeer(pair.server, pair.client)
    listener = listening(pair.server, knobs)
    fits = ceiling(knobs)
    assert send_syns(peer, listener, fits) == Fates(fits, 0, 0)
    assert knock(peer, listener, 5) == sender
    assert send_syns(peer, listener, 5) == kernel
    assert call(pair.client, listener) == Answers(min(sender.answered, 1), min(sender.dropped, 1))


def test_syns_at_a_queue_with_room(pair: Pair) -> None:
    listener, peer = listening(pair.server, Knobs(10)), RawPeer(pair.server, pair.client)
    assert knock(peer, listener, 3) == Answers(3, 0)
    assert send_syns(peer, listener, 3) == Fates(3, 0, 0)
    assert call(pair.client, listener) == Answers(1, 0)
    assert listener.half_open == 6


def test_a_queue_that_answers_with_cookies(pair: Pair) -> None:
    listener = syncookies.full_queue(pair.server, pair.client, cookies=1)
    peer = RawPeer(pair.server, pair.client)
    with counting(pair.server) as delta:
        assert syncookies.cookie_counters(delta.delta) == {}
        assert send_syns(peer, listener, 4) == Fates(0, 4, 0)
        assert syncookies.cookie_counters(delta.delta) == syncookies.cookies_counted(4)
    assert connect(pair.client, listener, wait=True).ask() == 1
    assert syncookies.is_taken(listener, peer, 0)
    assert not syncookies.is_taken(listener, peer, 1000)
    forged = syncookies.forge_acks(peer, listener)
    assert set(syncookies.answers_to(forged).values()) == {"R"}


def test_a_queue_that_drops(pair: Pair) -> None:
    listener = syncookies.full_queue(pair.server, pair.client, cookies=0, backlog=9)
    with counting(pair.server) as delta:
        send_syns(RawPeer(pair.server, pair.client), listener, 2)
        until(lambda: delta.TcpExt.ListenDrops == 2, what="two dropped")
        assert syncookies.cookie_counters(delta.delta) == syncookies.drops_counted(2)


def test_a_queue_that_does_not_fill(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncookies, "places", lambda *_: 30)
    with pytest.raises(NotReady, match=r"a SYN queue of 30 on server: of as many SYNs came Fates\(kept=\d+, cookies=2"):
        syncookies.full_queue(pair.server, pair.client, cookies=1)


def test_a_listener_that_answers(pair: Pair) -> None:
    listener = listening(pair.server, Knobs(10, somaxconn=7, tcp_max_syn_backlog=64, tcp_syncookies=0), answer=echo)
    assert listener.limit == 7
    assert pair.server.sysctl["net.ipv4.tcp_max_syn_backlog"] == "64"
    assert connect(pair.client, listener, 3, wait=True).ask() == 3
