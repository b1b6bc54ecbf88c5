"""Instruments at the accept queue, by inet_diag and by counters: full is full, late is late, and a rush counts all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.instruments import rush as rushes
from harness.instruments.accept_queue import begin_handshakes, come_one_by_one, fill, overflow, states
from harness.instruments.rush import rush
from harness.laws.queues import answered_at_full
from harness.observe import counters, sockets
from harness.traffic import connect, listen
from harness.traffic.nginx import Nginx
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair


@pytest.mark.parametrize("limit", [0, 3, 20])
def test_a_full_queue_has_one_more_than_its_limit(pair: Pair, limit: int) -> None:
    listener = listen(pair.server, limit)
    connect(pair.client, listener, wait=True)
    until(lambda: listener.waiting == 1)
    fill(pair.client, listener)
    assert listener.waiting == limit + 1
    assert counters(pair.server).TcpExt.ListenOverflows == 0


def test_clients_that_come_one_by_one(pair: Pair) -> None:
    listener = listen(pair.server, 4)
    assert come_one_by_one(pair.client, listener, 2) == 2
    assert come_one_by_one(pair.client, listener, 9) == 5
    assert counters(pair.server).TcpExt.ListenDrops >= 9 - answered_at_full() - (5 - 2)


def test_handshakes_wait_for_their_ack(pair: Pair) -> None:
    listener = listen(pair.server, 10)
    handshakes = begin_handshakes(pair.client, listener, 3)
    assert (listener.half_open, listener.waiting, handshakes.clients.connected) == (3, 0, 3)
    assert states(pair.server, listener, handshakes.clients) == ["SYN-RECV"] * 3
    assert states(pair.client, listener, handshakes.clients) == ["ESTAB"] * 3
    handshakes.complete()
    until(lambda: (listener.half_open, listener.waiting) == (0, 3), what="three connections")
    assert states(pair.server, listener, handshakes.clients) == ["ESTAB"] * 3


def test_an_overflow_leaves_the_late_half_open(pair: Pair) -> None:
    full = overflow(pair.client, pair.server, 4)
    assert full.listener.waiting == len(full.early) == 5
    assert states(pair.server, full.listener, full.late) == ["SYN-RECV"] * 4
    assert states(pair.server, full.listener, full.early) == ["ESTAB"] * 5
    full.end()
    assert not sockets(pair.server, "state listening")
    assert {late.socket.fileno() for late in full.late} == {-1}


@pytest.mark.parametrize(("backlog", "served"), [(3, 3), (50, 20)])
def test_a_rush(pair: Pair, backlog: int, served: int) -> None:
    nginx = Nginx(pair.server, f"8080 backlog={backlog}")
    for _ in range(2):
        seen = rush(pair.client, nginx, 20)
        assert served <= seen.served <= served + answered_at_full()
        assert (seen.recv_q, seen.send_q) == (min(backlog, 20) + 1, backlog)
        assert seen.requests >= seen.served
        assert (seen.overflowed > 0) == (backlog < 20)
        assert max(n for _, n in seen.lengths) == seen.recv_q
    assert nginx.limit == backlog


def test_a_rush_counted_by_the_sockets_of_its_clients(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on kernels where a SYN at a full queue is answered, and its client comes again and again."""
    monkeypatch.setattr(rushes, "answered_at_full", lambda: 2)
    nginx = Nginx(pair.server, "8080 backlog=3")
    for _ in range(3):
        seen = rush(pair.client, nginx, 20)
        assert 3 <= seen.served <= 3 + answered_at_full()
        assert seen.recv_q == 4
