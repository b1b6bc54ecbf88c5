"""Instruments at the SYN queue, by counters and by inet_diag: what came of each SYN, when the queue is full."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from harness.errors import NotReady
from harness.instruments import syncookies
from harness.instruments.accept_queue import room
from harness.instruments.syn_queue import ceiling, dealt_with, flooded, listening
from harness.instruments.syns import Answers, Fates, Filled, become_known, call, come_again, fill_up, knock, send_syns
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
    knobs, peer = Knobs(3, tcp_syncookies=cookies), RawPeer(pair.server, pair.client)
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
    listener, length = syncookies.full_queue(pair.server, pair.client, cookies=1)
    assert length == listener.half_open == ceiling(Knobs(3))
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
    listener = syncookies.full_queue(pair.server, pair.client, cookies=0, backlog=2).listener
    with counting(pair.server) as delta:
        send_syns(RawPeer(pair.server, pair.client), listener, 2)
        until(lambda: delta.TcpExt.ListenDrops == 2, what="two dropped")
        assert syncookies.cookie_counters(delta.delta) == syncookies.drops_counted(2)


def test_a_queue_that_keeps_none(pair: Pair) -> None:
    assert syncookies.full_queue(pair.server, pair.client, cookies=2).length == 0


def test_a_queue_that_is_filled(pair: Pair) -> None:
    peer = RawPeer(pair.server, pair.client)
    knobs = Knobs(3, tcp_syncookies=0)
    assert fill_up(peer, listening(pair.server, knobs)) == Filled(ceiling(knobs), Fates(0, 0, 1))
    with pytest.raises(NotReady, match="keeps 3 SYNs half-open, and no end of it"):
        fill_up(peer, listening(pair.server, knobs), most=3)


@pytest.mark.parametrize("times", [1, 2])
def test_a_client_that_comes_again(pair: Pair, times: int) -> None:
    listener = listening(pair.server, Knobs(3, tcp_syncookies=0))
    fill_up(RawPeer(pair.server, pair.client), listener)
    with counting(pair.server) as delta:
        come_again(pair.client, listener, times)
    assert delta.TcpExt.ListenDrops == times


def test_a_peer_that_becomes_known(pair: Pair) -> None:
    become_known(pair.client, pair.server)
    assert pair.client.ip in pair.server.run("ip", "tcp_metrics", "show").stdout


def test_what_cookies_keep_of_the_mss() -> None:
    assert [syncookies.mss_kept(socket.AF_INET, size) for size in (536, 1299, 1460)] == [536, 536, 1460]
    assert syncookies.mss_kept(socket.AF_INET6, 1500) == 1440


def test_a_listener_that_answers(pair: Pair) -> None:
    listener = listening(pair.server, Knobs(10, somaxconn=7, tcp_max_syn_backlog=64, tcp_syncookies=0), answer=echo)
    assert listener.limit == 7
    assert pair.server.sysctl["net.ipv4.tcp_max_syn_backlog"] == "64"
    assert connect(pair.client, listener, 3, wait=True).ask() == 3
