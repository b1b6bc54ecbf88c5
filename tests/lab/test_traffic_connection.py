"""Both ends of a connection talk, close in order, and know what the other side has done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput, NotReady
from harness.observe import counters, sockets
from harness.traffic import drop, echo, establish, listen
from harness.traffic.connection import (
    abort,
    endpoint,
    error_of,
    far_endpoint,
    has_ended,
    peek,
    read,
    take,
    unacknowledged,
)
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair


def test_both_ends_of_one_connection(pair: Pair) -> None:
    listener = listen(pair.server)
    connection = establish(pair.client, listener)
    client, server = connection
    assert (endpoint(client), far_endpoint(client)) == (far_endpoint(server), endpoint(server))
    assert (endpoint(server), endpoint(client)) == (listener.address, (pair.client.ip, connection.port))
    assert listener.accepted == [server]


def test_a_source_of_ones_choice(pair: Pair) -> None:
    listener = listen(pair.server)
    assert establish(pair.client, listener, source=(pair.client.ip, 41234)).port == 41234
    with pytest.raises(NotReady, match=rf"connect\(\) from client to port {listener.port}: EADDR"):
        establish(pair.client, listener, source=(pair.client.ip, 41234))


def test_at_a_listener_that_accepts_by_itself(pair: Pair) -> None:
    listener = listen(pair.server, answer=echo)
    establish(pair.client, listener)
    second = establish(pair.client, listener)
    assert far_endpoint(second.server) == endpoint(second.client)
    second.client.sendall(b"hello")
    assert take(second.client, 5) == b"hello"


def test_each_says_something(pair: Pair) -> None:
    connection = establish(pair.client, listen(pair.server)).talk(3)
    connection.say(b"one more")
    connection.answer(bytes(20_000))
    assert peek(connection.client) == peek(connection.server) == b""
    connection.client.sendall(b"in between, ")
    with pytest.raises(NotReady, match=r"b'hello' was sent to port .* and b'in be' was read"):
        connection.say(b"hello")


def test_reading_what_is_there(pair: Pair) -> None:
    client, server = establish(pair.client, listen(pair.server))
    assert (peek(server), read(server), has_ended(server)) == (b"", b"", False)
    client.sendall(b"words")
    until(lambda: peek(server) == b"words", what="the words")
    assert (peek(server, 2), read(server, 3), read(server)) == (b"wo", b"wor", b"ds")
    client.sendall(b"last")
    client.close()
    until(lambda: peek(server) == b"last", what="the last words")
    assert not has_ended(server)
    assert take(server, 4) == b"last"
    until(lambda: has_ended(server), what="the end")
    assert read(server) == b""
    with pytest.raises(NotReady, match="5 bytes to read"):
        take(server, 5, deadline=0.1)


@pytest.mark.parametrize("closer", ["client", "server"])
def test_the_closer_closes_first(pair: Pair, closer: str) -> None:
    connection = establish(pair.client, listen(pair.server))
    first, then = (pair.client, pair.server) if closer == "client" else (pair.server, pair.client)
    port = connection.port
    connection.close(closer)
    assert {connection.client.fileno(), connection.server.fileno()} == {-1}
    until(lambda: not sockets(then, f"exclude listening sport = :{port} or dport = :{port}"), what="the last ACK")
    assert [s.state for s in sockets(first, f"sport = :{port} or dport = :{port}")] == ["TIME-WAIT"]


def test_a_closer_that_there_is_not(pair: Pair) -> None:
    with pytest.raises(BadInput, match="'both'"):
        establish(pair.client, listen(pair.server)).close("both")


def test_an_end_that_aborts(pair: Pair) -> None:
    client, server = establish(pair.client, listen(pair.server))
    assert error_of(server) == "no error"
    abort(client)
    until(lambda: not sockets(pair.server, "state connected"), what="the RST")
    assert counters(pair.server).Tcp.EstabResets == 1
    assert (error_of(server), error_of(server)) == ("ECONNRESET", "no error")


def test_what_is_unacknowledged(pair: Pair) -> None:
    client, _ = establish(pair.client, listen(pair.server))
    with drop(pair.server, "PA", dport=far_endpoint(client)[1]):
        client.sendall(b"words")
        assert unacknowledged(client) == 5
    until(lambda: unacknowledged(client) == 0, what="the words to be sent again and acknowledged")


def test_nobody_to_connect_to(pair: Pair) -> None:
    listener = listen(pair.server)
    with drop(pair.server, "S", dport=listener.port), pytest.raises(NotReady, match=r"results: \{'pending': 1\}"):
        establish(pair.client, listener, deadline=0.2)
