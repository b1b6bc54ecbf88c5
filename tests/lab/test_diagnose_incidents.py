"""Incidents that are provoked, and then known by a machine's files alone: the cause and its place first."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from harness.instruments.accept_queue import fill
from harness.instruments.connection_table import ConnectionTable
from harness.instruments.outside_port import give_one_port
from harness.instruments.proxy import Proxy
from harness.instruments.shared_port import Crowd
from harness.observe import count, counters
from harness.observe.conntrack import statistics
from harness.traffic import connect, drop, flood, listen
from harness.traffic.listener import echo
from harness.traffic.nginx import Nginx
from harness.traffic.ports import give_ports
from harness.traffic.short_connections import ShortConnections, keep_asking
from harness.traffic.wrk import Wrk
from harness.waiting import let_pass, until
from scenarios.incidents import firewall, proxies
from scenarios.incidents.test_one_worker_hangs import CLIENTS, REQUEST, queues
from tests.lab.late_requests import ask_late_together
from tests.lab.operator_files import Files, diagnosed, said

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.lab import BehindNat, Host, Lab, Lan, Pair
    from harness.traffic import Listener

BOTH = pytest.mark.parametrize("way", ["snapshot", "transcript"])


def taken(host: Host, way: str, meanwhile: Callable[[], object] = lambda: None, *, goes_on: bool = False) -> Path:
    """The files of a host, taken one way or the other."""
    files = Files(host)
    return files.snapshot(meanwhile, goes_on=goes_on) if way == "snapshot" else files.transcript(meanwhile)


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
    flood(pair.server, pair.client, listener, rate=300, seconds=90, distinct=5000)
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


# What a gateway that remembers no connection in mid-stream makes of one that it has forgotten.
# Seconds: after how many a firewall forgets, for how many connections are idle.
FORGETS, IDLE = 10, 35


@pytest.mark.slow(IDLE + 10)
@BOTH
def test_a_firewall_that_forgets(behind_nat: Callable[..., BehindNat], way: str) -> None:
    """Connections that are used go on; those that were idle are answered no more."""
    net = behind_nat(1)
    (client,) = net.clients
    net.gateway.conntrack.loose = False
    net.gateway.conntrack.timeouts["established"] = FORGETS
    listener = listen(net.server, answer=echo)
    idle, used = connect(client, listener, 3, wait=True), connect(client, listener, 2, wait=True)
    began = time.monotonic()
    while time.monotonic() - began < IDLE:
        assert used.ask() == 2
        let_pass(1)
    for each in idle:
        each.socket.send(b"still there?")
    until(lambda: counters(client).Tcp.RetransSegs >= 12, what="data that was sent again, several times")
    assert used.ask() == 2
    assert said(diagnosed(taken(client, way)))[:1] == [("flow-forgotten", listener.port)]


@BOTH
def test_a_gateway_without_ports(behind_nat: Callable[..., BehindNat], way: str) -> None:
    net = behind_nat(2)
    net.gateway.nat.masquerade(ports=(40000, 40019))
    listener = listen(net.server, answer=echo)
    for client in net.clients:
        connect(client, listener, 12)
    until(lambda: count(net.server, "state established") >= 20, what="as many connections as the gateway has ports")

    def knock() -> None:
        failed = statistics(net.gateway)["insert_failed"]
        until(lambda: statistics(net.gateway)["insert_failed"] > failed, what="a SYN for which there is no port")

    assert said(diagnosed(taken(net.gateway, way, knock))) == [("gateway-ports-used-up", listener.port)]


@pytest.mark.ipv4_only("the table is one for both families")
@BOTH
def test_a_firewall_whose_table_is_full(lab: Lab, way: str) -> None:
    net = firewall.build(lab)
    table = ConnectionTable(net.gateway)
    table.lower(2000)
    listener = listen(net.server, answer=echo)
    table.fill((lab.cables[0].address(500, lab.family), net.server.ip))

    def knock() -> None:
        before = table.dropped
        connect(net.clients[0], listener, 5)
        until(lambda: table.dropped >= before + 5, what="SYNs that find no room")

    assert said(diagnosed(taken(net.gateway, way, knock))) == [("conntrack-full", 0)]


@BOTH
def test_a_server_whose_keep_alive_is_shorter_than_its_proxy_s(lan: Callable[[int], Lan], way: str) -> None:
    client, machine, *hosts = lan(4).hosts
    server = Nginx(machine, "8080", keepalive=1)
    proxies = [Proxy(host, server) for host in hosts]
    late = partial(ask_late_together, client, proxies)
    assert said(diagnosed(taken(machine, way, late, goes_on=True))) == [("keep-alive-too-short", server.port)]


@pytest.mark.slow(10)
@BOTH
def test_two_clients_of_one_address_whose_clocks_are_apart(lab: Lab, way: str) -> None:
    """What two proxies behind a firewall meet where tcp_tw_recycle is gone: the port of the other, and tcp_rfc1337."""
    site = proxies.build(lab)
    give_one_port(site.firewall)
    site.server.sysctl["net.ipv4.tcp_rfc1337"] = 1

    def ask_both() -> None:
        assert site.ask(site.first) == proxies.SERVED
        assert site.ask(site.second) == proxies.SHUT_OUT

    assert said(diagnosed(taken(site.server, way, ask_both)))[:1] == [("timestamps-refused", site.application.port)]


@BOTH
def test_a_worker_that_hangs_and_a_flood_at_once(pair: Pair, way: str) -> None:
    nginx = Nginx(pair.server, "80 reuseport backlog=5", workers=4)
    hanging = nginx.stall_one()
    crowd = Crowd(pair.client, nginx, CLIENTS, stuck=lambda: nginx.waiting_at(hanging), request=REQUEST)
    assert queues(nginx)[0] == (6, 5)
    flooded = besieged(pair)
    found = said(diagnosed(taken(pair.server, way, crowd.seen)))
    assert sorted(found[:2]) == sorted([("worker-hangs", nginx.port), ("syn-flood", flooded.port)])


@BOTH
def test_ports_used_up_and_a_silent_database_at_once(lan: Callable[[int], Lan], way: str) -> None:
    client, server, database = lan(3).hosts
    give_ports(client, 20)
    busy, silent = listen(server), listen(database, port=5432)
    drop(database, "S", dport=silent.port)
    connect(client, silent, 2)
    keep_asking([ShortConnections(client, [busy], 20)], 20, stop_at_failure=True)
    until(lambda: counters(client).TcpExt.TCPSynRetrans >= 4, what="SYNs that were sent again twice")
    found = said(diagnosed(taken(client, way)))
    assert sorted(found) == sorted([("ports-used-up", busy.port), ("connect-unanswered", silent.port)])


def busy_nginx(net: Pair) -> Host:
    """Keep-alive connections of wrk."""
    nginx = Nginx(net.server, "80 backlog=511")
    Wrk(net.client, nginx.url, connections=20, seconds=20)
    return net.server


def busy_client(net: Pair) -> Host:
    """The same, by the files of the client."""
    busy_nginx(net)
    return net.client


def closes_each(net: Pair) -> Host:
    """A server that closes after each answer."""
    nginx = Nginx(net.server, "80 backlog=511", keepalive=0)
    Wrk(net.client, nginx.url, connections=5, seconds=20)
    return net.server


def short_connections(net: Pair) -> Host:
    """Clients that close first, far from the end of their ports."""
    keep_asking([ShortConnections(net.client, [listen(net.server)], 50)], 2)
    return net.client


def cookies_always(net: Pair) -> Host:
    """A server that answers every SYN with a cookie."""
    net.server.sysctl["net.ipv4.tcp_syncookies"] = 2
    connect(net.client, listen(net.server, answer=echo), 40, wait=True)
    return net.server


def full_to_the_limit(net: Pair) -> Host:
    """As many wait as the limit says, which is one less than there is room for."""
    listener = listen(net.server, 10)
    connect(net.client, listener, 10, wait=True)
    until(lambda: listener.waiting == 10, what="ten that wait")
    return net.server


def half_open_few(net: Pair) -> Host:
    """Some SYNs that nobody acknowledges, and a queue with room."""
    flood(net.server, net.client, listen(net.server, 128), count=20, rate=50).wait()
    return net.server


def an_old_overflow(net: Pair) -> Host:
    """A queue that has overflowed, and does not any more."""
    listener = listen(net.server, 2)
    fill(net.client, listener)
    turned_away(net.client, listener)()
    listener.close()
    return net.server


def workers_together(net: Pair) -> Host:
    """Four listeners at one port, all of which accept."""
    first = listen(net.server, 20, shared=True, answer=echo)
    for _ in range(3):
        listen(net.server, 20, port=first.port, shared=True, answer=echo)
    assert connect(net.client, first, 60, wait=True).ask() == 60
    return net.server


def idle_connections(net: Pair) -> Host:
    """Connections on which nobody says anything."""
    connect(net.client, listen(net.server, answer=echo), 50, wait=True)
    return net.client


HEALTHY = (
    busy_nginx, busy_client, closes_each, short_connections, cookies_always, full_to_the_limit, half_open_few,
    an_old_overflow, workers_together, idle_connections,
)  # fmt: skip


@BOTH
@pytest.mark.parametrize("load", HEALTHY, ids=lambda load: load.__name__)
def test_a_healthy_lab_under_load_has_no_finding(pair: Pair, load: Callable[[Pair], Host], way: str) -> None:
    assert said(diagnosed(taken(load(pair), way))) == []
