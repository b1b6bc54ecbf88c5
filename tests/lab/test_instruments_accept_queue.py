"""Instruments at the accept queue, by inet_diag and by counters: full is full, late is late, and a rush counts all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import BadInput, NotReady
from harness.instruments import rush as rush_module
from harness.instruments.accept_queue import begin_handshakes, come_one_by_one, fill, overflow, states
from harness.instruments.busy_server import serve_in_turns
from harness.instruments.queue_columns import columns
from harness.instruments.rush import rush
from harness.laws.queues import answered_at_full
from harness.observe import accept_queue, counters, counting, sockets
from harness.traffic import connect, establish, listen
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
    assert (listener.waiting, listener.queued) == (limit + 1, limit + 1)
    assert counters(pair.server).TcpExt.ListenOverflows == 0
    listener.close()
    with pytest.raises(BadInput, match=r"a listener of server has no queue any more: it is closed"):
        _ = listener.queued


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
        assert seen.served == served
        assert (seen.recv_q, seen.send_q) == (min(backlog, 20) + 1, backlog)
        assert seen.requests >= seen.served
        assert (seen.overflowed > 0) == (backlog < 20)
        assert max(n for _, n in seen.lengths) == seen.recv_q
    assert nginx.limit == backlog


@pytest.mark.parametrize(("backlog", "a_turn"), [(4, 5), (100, 30)])
def test_a_server_that_is_busy_now_and_then(pair: Pair, backlog: int, a_turn: int) -> None:
    with listen(pair.server, backlog) as listener, counting(pair.server) as delta:
        seen = serve_in_turns(pair.client, listener, 30, turns=3, busy=0.01)
    assert seen.answers == 3 * a_turn
    assert (delta.TcpExt.ListenOverflows > 0) == (a_turn < 30)
    assert counters(pair.client).Tcp.ActiveOpens == 30 + seen.answers


def test_listeners_that_share_a_port(pair: Pair) -> None:
    first = listen(pair.server, 3, shared=True)
    connect(pair.client, first, 2, wait=True)
    until(lambda: first.waiting == 2)
    second = listen(pair.server, 7, port=first.port, shared=True)
    assert (first.waiting, first.limit) == (2, 3)
    assert (second.waiting, second.limit) == (0, 7)
    with pytest.raises(BadInput, match="2 sockets of server listen on port"):
        accept_queue(pair.server, first.port)


def test_columns_of_a_connection(pair: Pair) -> None:
    listener = listen(pair.server)
    connection = establish(pair.client, listener)
    connection.client.send(b"words")
    until(lambda: columns(pair.server, connection.port)["inet_diag"].recv_q == 5)
    assert set(columns(pair.server, connection.port).values()) == {(5, 0)}
    assert set(columns(pair.server, connection.port)) == {"inet_diag", "ss -nt", "/proc/net/tcp"}
    with pytest.raises(NotReady, match=r"inet_diag shows 0 connections with port 9 of server, not one"):
        columns(pair.server, 9)


def test_a_rush_counts_the_resets_of_the_time_in_which_nginx_is_busy(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    nginx = Nginx(pair.server, "3000 backlog=100")
    assert rush(pair.client, nginx, 5).resets == 0
    watch = rush_module._watch_the_door

    def watch_and_knock_elsewhere(*arguments: Any) -> list[tuple[float, float]]:
        lengths = watch(*arguments)
        refused = connect(pair.client, (pair.server.ip, 9), wait=True)
        assert [each.result for each in refused] == ["ECONNREFUSED"]
        return lengths

    monkeypatch.setattr(rush_module, "_watch_the_door", watch_and_knock_elsewhere)
    assert rush(pair.client, nginx, 5).resets == 1
