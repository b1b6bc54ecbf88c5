"""Incidents that are provoked, and then known by a machine's files alone: the cause and its place first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.instruments.accept_queue import fill
from harness.observe import counters
from harness.traffic import connect, drop, flood, listen
from harness.traffic.listener import echo
from harness.traffic.ports import give_ports
from harness.traffic.short_connections import ShortConnections, keep_asking
from harness.waiting import until
from tests.lab.operator_files import Files, diagnosed, said

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.lab import Host, Lan, Pair
    from harness.traffic import Listener

BOTH = pytest.mark.parametrize("way", ["snapshot", "transcript"])


def taken(host: Host, way: str, meanwhile: Callable[[], object] = lambda: None) -> Path:
    """The files of a host, taken one way or the other."""
    files = Files(host)
    return files.snapshot(meanwhile) if way == "snapshot" else files.transcript(meanwhile)


def turned_away(client: Host, listener: Listener) -> Callable[[], object]:
    """Clients that come to a full queue: their SYNs are dropped, and sent again."""

    def come() -> None:
        before = counters(listener.host)
        connect(client, listener, 5)
        until(lambda: (counters(listener.host) - before).TcpExt.ListenDrops >= 5, what="five SYNs dropped")

    return come


@BOTH
def test_an_accept_queue_that_is_full(pair: Pair, way: str) -> None:
    quiet, listener = listen(pair.server, 128), listen(pair.server, 10)
    fill(pair.client, listener)
    diagnosis = diagnosed(taken(pair.server, way, turned_away(pair.client, listener)))
    assert said(diagnosis) == [("accept-queue-full", listener.port)]
    assert quiet.waiting == 0


def besieged(pair: Pair) -> Listener:
    """A listener with SYN cookies whose queue a flood keeps full for a while."""
    pair.server.sysctl["net.ipv4.tcp_syncookies"] = 1
    listener = listen(pair.server, 64, answer=echo)
    flood(pair.server, pair.client, listener, rate=300, seconds=30, distinct=5000)
    until(lambda: counters(pair.server).TcpExt.TCPReqQFullDoCookies >= 100, what="a full SYN queue")
    return listener


@BOTH
def test_a_flood(pair: Pair, way: str) -> None:
    listener = besieged(pair)
    assert said(diagnosed(taken(pair.server, way))) == [("syn-flood", listener.port)]


@BOTH
def test_a_flood_and_a_full_accept_queue_at_once(pair: Pair, way: str) -> None:
    full = listen(pair.server, 10)
    fill(pair.client, full)
    flooded = besieged(pair)
    diagnosis = diagnosed(taken(pair.server, way, turned_away(pair.client, full)))
    assert sorted(said(diagnosis)) == sorted([("accept-queue-full", full.port), ("syn-flood", flooded.port)])


@BOTH
def test_ports_that_are_used_up(pair: Pair, way: str) -> None:
    give_ports(pair.client, 20)
    listener = listen(pair.server)
    asking = ShortConnections(pair.client, [listener], 20)
    keep_asking([asking], 20, stop_at_failure=True)
    assert set(asking.errors) == {"EADDRNOTAVAIL"}
    assert said(diagnosed(taken(pair.client, way))) == [("ports-used-up", listener.port)]


@BOTH
def test_a_database_that_does_not_answer(pair: Pair, way: str) -> None:
    listener = listen(pair.server)
    drop(pair.server, "S", dport=listener.port)
    connect(pair.client, listener, 3)
    until(lambda: counters(pair.client).TcpExt.TCPSynRetrans >= 6, what="SYNs that were sent again twice")
    assert said(diagnosed(taken(pair.client, way)))[:1] == [("connect-unanswered", listener.port)]


@BOTH
def test_a_worker_that_hangs(lan: Callable[[int], Lan], way: str) -> None:
    server, client = lan(2).hosts
    hanging = listen(server, 5, shared=True)
    for _ in range(3):
        listen(server, 5, port=hanging.port, shared=True, answer=echo)
    while hanging.waiting < 6:
        connect(client, hanging, wait=True)
    diagnosis = diagnosed(taken(server, way, lambda: [connect(client, hanging) for _ in range(12)]))
    assert said(diagnosis)[0] == ("worker-hangs", hanging.port)
    assert {name for name, _ in said(diagnosis)} <= {"worker-hangs", "accept-queue-full"}


@BOTH
def test_a_peer_that_falls_silent(pair: Pair, way: str) -> None:
    listener = listen(pair.server, answer=echo)
    clients = connect(pair.client, listener, 2, wait=True)
    drop(pair.server, dport=listener.port)
    for client in clients:
        client.socket.send(b"anybody there?")
    until(lambda: counters(pair.client).Tcp.RetransSegs >= 10, what="data that was sent again, several times")
    assert said(diagnosed(taken(pair.client, way)))[:1] == [("silent-peer", listener.port)]
