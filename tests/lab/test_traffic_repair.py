"""Connections placed with TCP_REPAIR: real ones, at the numbers and with the clock that were asked for."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from harness.observe import capture, sockets
from harness.traffic import RawPeer, connect, listen
from harness.traffic.repair import Placed, place, place_both, sequence_numbers, set_timestamp, timestamp, vanish
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair

LAST = 2**32 - 3


def received(connection: socket.socket, size: int) -> bytes:
    """What comes, when as much has come."""

    def enough() -> bool:
        try:
            return len(connection.recv(size, socket.MSG_PEEK)) == size
        except BlockingIOError:
            return False

    until(enough, what=f"{size} bytes")
    return connection.recv(size)


def states(pair: Pair) -> list[list[str]]:
    return [[one.state for one in sockets(host, "exclude listening")] for host in (pair.client, pair.server)]


@pytest.mark.parametrize("clock", [None, 0, 1_000_000, 2**32 - 2])
def test_two_placed_ends_talk_across_the_wrap(pair: Pair, clock: int | None) -> None:
    with capture(pair.server) as seen:
        client, server = place_both(pair.client, pair.server, (40000, 80), Placed(LAST, 7, clock))
        client.send(b"hello")
        assert received(server, 5) == b"hello"
        server.send(b"world!")
        assert received(client, 6) == b"world!"
        assert states(pair) == [["ESTAB"], ["ESTAB"]]
        (hello,) = (segment for segment in seen.segments() if segment.payload == b"hello")
        (world,) = (segment for segment in seen.segments() if segment.payload == b"world!")
    assert (hello.seq, hello.ack) == (LAST, 7)
    assert (world.seq, world.ack) == (7, 2)
    assert sequence_numbers(client) == (2, 13)
    if clock is None:
        assert (hello.tsval, world.tsval) == (None, None)
    else:
        assert hello.tsval is not None
        assert world.tsecr == hello.tsval
        assert (hello.tsval - clock) % 2**32 < 5000


def test_a_placed_end_and_a_raw_peer(pair: Pair) -> None:
    peer = RawPeer(pair.server, pair.client)
    connection = peer.connection(80, port=20001, isn=500)
    connection.ack = 900
    server = place(
        pair.server, (pair.server.ip, 80), (peer.address, 20001), send_next=900, receive_next=500, timestamps=4000
    )
    connection.send("PA", b"hello", options=[("Timestamp", (77, 4000))])
    assert received(server, 5) == b"hello"
    reply = connection.wait(lambda segment: segment.ack == 505)
    value, echo = dict(reply.options)["Timestamp"]
    assert echo == 77
    assert 4000 <= value < 9000


def test_the_clock_of_a_real_connection_is_set(pair: Pair) -> None:
    listener = listen(pair.server)
    (client,) = connect(pair.client, listener, wait=True).sockets
    (server,) = listener.accept()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    set_timestamp(client, timestamp(client) + 1_000_001)
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
    before = timestamp(client)
    with capture(pair.server) as seen:
        client.send(b"x")
        assert received(server, 1) == b"x"
        (segment,) = (one for one in seen.segments() if one.payload == b"x")
    assert segment.tsval is not None
    assert (segment.tsval - (before & ~1)) % 2**32 < 5000


def test_who_vanishes_says_nothing(pair: Pair) -> None:
    listener = listen(pair.server)
    (client,) = connect(pair.client, listener, wait=True).sockets
    (server,) = listener.accept()
    server.send(b"unread")
    until(lambda: sequence_numbers(client)[1] == sequence_numbers(server)[0], what="the bytes to arrive")
    with capture(pair.server) as seen:
        vanish(client)
        vanish(server)
        assert [segment for segment in seen.segments() if {"F", "R"} & set(segment.flags)] == []
    assert states(pair) == [[], []]
