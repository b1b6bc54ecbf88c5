"""Listeners accept as their policy says, and connect() calls end as the kernel ends them."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from harness.errors import NotReady
from harness.observe import accept_queue, count, counters
from harness.traffic import connect, drop, echo, listen
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair
    from harness.traffic import Listener


def waiting(listener: Listener) -> int:
    return accept_queue(listener.host, listener.port).waiting


def test_by_default_nobody_accepts(pair: Pair) -> None:
    listener = listen(pair.server, 10)
    connect(pair.client, listener, 5, wait=True)
    until(lambda: waiting(listener) == 5, what="five waiting")
    assert listener.accepted == []


def test_accepting_on_demand(pair: Pair) -> None:
    listener = listen(pair.server, 10)
    connect(pair.client, listener, 5, wait=True)
    taken = listener.accept(2)
    assert (len(taken), waiting(listener), listener.accepted) == (2, 3, taken)
    assert len(listener.accept_all()) == 3
    assert listener.accept_all() == []
    assert (len(listener.accepted), waiting(listener)) == (5, 0)


def test_accepting_what_does_not_come(pair: Pair) -> None:
    listener = listen(pair.server)
    connect(pair.client, listener, wait=True)
    wanted = rf"connections accepted on server:{listener.port}: 1, must be 2; not so within 0.1 s"
    with pytest.raises(NotReady, match=wanted):
        listener.accept(2, deadline=0.1)
    assert len(listener.accepted) == 1


def test_accepting_at_once(pair: Pair) -> None:
    listener = listen(pair.server, 50, accept=True)
    connect(pair.client, listener, 40, wait=True)
    until(lambda: len(listener.accepted) == 40, what="40 accepted")
    assert (waiting(listener), counters(pair.server).TcpExt.ListenOverflows) == (0, 0)


def test_accepting_at_a_rate(pair: Pair) -> None:
    """Never faster than asked, whatever the machine does; how much slower depends on it."""
    listener = listen(pair.server, 100, rate=20)
    clients = connect(pair.client, listener, 10, wait=True)
    until(lambda: len(listener.accepted) >= 4, what="4 accepted")
    since = min(client.started for client in clients)
    accepted, elapsed = len(listener.accepted), time.monotonic() - since
    # It may be one interval behind, and catch up.
    assert accepted <= 2 + elapsed * 20 + 1
    until(lambda: len(listener.accepted) == 10, what="10 accepted")
    assert time.monotonic() - since >= (10 - 3) / 20


def test_stalling_and_resuming(pair: Pair) -> None:
    listener = listen(pair.server, 10, answer=echo)
    (first,) = connect(pair.client, listener, wait=True).each
    until(lambda: len(listener.accepted) == 1, what="the first connection")
    listener.stall()
    late = connect(pair.client, listener, 3, wait=True)
    assert (waiting(listener), len(listener.accepted)) == (3, 1)
    first.socket.send(b"still answered")
    until(lambda: answer(first.socket) == b"still answered", what="an answer while stalled")
    assert (waiting(listener), len(listener.accepted)) == (3, 1)
    listener.resume()
    assert late.ask() == 3
    assert waiting(listener) == 0


def answer(connection: socket.socket) -> bytes:
    try:
        return connection.recv(100)
    except BlockingIOError:
        return b""


def test_resuming_a_listener_that_never_accepted(pair: Pair) -> None:
    listener = listen(pair.server, 10)
    connect(pair.client, listener, 3, wait=True)
    listener.resume()
    until(lambda: len(listener.accepted) == 3, what="three accepted")


def test_a_service_answers_each_request(pair: Pair) -> None:
    listener = listen(pair.server, 50, answer=lambda request: request.upper())
    clients = connect(pair.client, listener, 20, wait=True)
    for client in clients.sockets:
        client.send(b"hello")
    for client in clients.sockets:
        until(lambda client=client: answer(client) == b"HELLO", what="the answer")  # type: ignore[misc]
    assert clients.ask(b"again") == 20


def test_a_client_that_leaves_does_not_stop_the_service(pair: Pair) -> None:
    listener = listen(pair.server, 50, answer=echo)
    connect(pair.client, listener, wait=True).close()
    reset = connect(pair.client, listener, wait=True).sockets[0]
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    reset.close()
    assert connect(pair.client, listener, 3, wait=True).ask() == 3


def test_listening_again_moves_the_limit(pair: Pair) -> None:
    listener = listen(pair.server, 7)
    listener.listen(12)
    assert (listener.backlog, accept_queue(pair.server, listener.port).limit) == (12, 12)


def test_a_closed_port_refuses(pair: Pair) -> None:
    clients = connect(pair.client, (pair.server.ip, 9), 3, wait=True)
    assert clients.results() == {"ECONNREFUSED": 3}
    assert (clients.connected, clients.pending, clients.sockets, len(clients)) == (0, 0, [], 3)
    assert all(0 <= (client.seconds or 0) < 5 for client in clients)


def test_ports_run_out(pair: Pair) -> None:
    pair.client.sysctl["net.ipv4.ip_local_port_range"] = "40000 40003"
    listener = listen(pair.server, 10)
    # Of an odd number of ports connect() leaves out the last (net/ipv4/inet_hashtables.c, __inet_hash_connect()).
    clients = connect(pair.client, listener, 6, wait=True)
    assert clients.results() == {"connected": 4, "EADDRNOTAVAIL": 2}
    assert {client.port for client in clients if client.result == "connected"} == {40000, 40001, 40002, 40003}


def test_a_source_of_ones_choice(pair: Pair) -> None:
    listener = listen(pair.server)
    (client,) = connect(pair.client, listener, source=(pair.client.ip, 41234), wait=True)
    assert client.port == 41234
    assert listener.accept()[0].getpeername()[:2] == (pair.client.ip, 41234)
    taken = connect(pair.client, listener, source=(pair.client.ip, 41234), wait=True)
    assert taken.results().keys() <= {"EADDRNOTAVAIL", "EADDRINUSE"}


def test_an_address_that_nobody_has_a_way_to(pair: Pair) -> None:
    nowhere = "192.0.2.1" if pair.client.family == socket.AF_INET else "2001:db8::1"
    assert connect(pair.client, (nowhere, 80), wait=True).results() == {"ENETUNREACH": 1}


def test_a_connection_that_is_not_answered_stays_pending(pair: Pair) -> None:
    listener = listen(pair.server)
    with drop(pair.server, "S") as lost:
        clients = connect(pair.client, listener, 2)
        until(lambda: lost.count >= 2, what="two SYNs to be dropped")
        assert (clients.pending, clients.results()) == (2, {"pending": 2})
        with pytest.raises(NotReady, match=r"on client that are pending: 2, must be 0.*results: {'pending': 2}"):
            clients.wait(deadline=0.1)
        assert count(pair.client, "state syn-sent") == 2
    # The kernel's own timer sends them again after a second.
    assert clients.wait().connected == 2


def test_waiting_for_a_number_of_them(pair: Pair) -> None:
    listener = listen(pair.server, 2)
    clients = connect(pair.client, listener, 6)
    assert clients.wait(connected=3).connected == 3
    assert waiting(listener) == 3


def test_connections_at_a_rate(pair: Pair) -> None:
    listener = listen(pair.server, accept=True)
    began = time.monotonic()
    clients = connect(pair.client, listener, 5, rate=50)
    starts = [client.started for client in clients]
    assert len(clients) == 5
    # Each no sooner than its turn; the first may have been late.
    assert all(start - began >= i / 50 for i, start in enumerate(starts))
    assert clients.wait().connected == 5


def test_requests_without_an_answer_are_not_counted(pair: Pair) -> None:
    listener = listen(pair.server, 10)
    clients = connect(pair.client, listener, 3, wait=True)
    listener.accept(1)[0].send(b"?")
    assert clients.ask(deadline=0.2) == 1


def test_an_application_that_gives_up(pair: Pair) -> None:
    listener = listen(pair.server, 2)
    connect(pair.client, listener, 3, wait=True)
    until(lambda: accept_queue(pair.server, listener.port).waiting == 3)
    patient, hasty = connect(pair.client, listener, 2), connect(pair.client, listener, 3, timeout=0.2)
    assert dict(hasty.wait().results()) == {"timeout": 3}
    assert all(attempt.seconds and attempt.seconds >= 0.2 for attempt in hasty)
    assert patient.pending == 2
    assert count(pair.client, f"state syn-sent dport = :{listener.port}") == 2
    in_time = connect(pair.client, listen(pair.server, 5), 2, timeout=60, wait=True)
    assert in_time.connected == 2


def test_listeners_have_ports_of_their_own(pair: Pair) -> None:
    ports = []
    for _ in range(4):
        with listen(pair.server) as listener:
            ports.append(listener.port)
    first = ports[0]
    lowest, _ = map(int, pair.client.sysctl["net.ipv4.ip_local_port_range"].split())
    assert first + 5 < lowest
    # One that is taken is passed over.
    with listen(pair.server, port=first + 4), listen(pair.server) as next_one:
        assert [*ports, next_one.port] == [first, first + 1, first + 2, first + 3, first + 5]
    with listen(pair.server, port=first) as again:
        assert again.port == first
        with pytest.raises(OSError, match="in use"):
            listen(pair.server, port=first)
