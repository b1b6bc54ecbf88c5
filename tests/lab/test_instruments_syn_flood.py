"""Services with different defences under a small flood: who is full, who is served, and what an operator reads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from harness.errors import Unsupported
from harness.instruments.syn_flood import (
    VISITED,
    Defence,
    Services,
    answer_to_nobody,
    besieged,
    syn_recv,
    syns_dropped,
    visit,
)
from harness.instruments.syn_queue import MAX_SYN_BACKLOG, SYNACK_RETRIES, ceiling
from harness.lab import lan
from harness.laws.queues import Knobs
from harness.observe import count, counters, counting
from harness.traffic import connect, listen
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Lab

# Queues so short that they stay full for a minute, or half of it.
NONE, COOKIES = Defence(Knobs(3, tcp_syncookies=0)), Defence(Knobs(3, tcp_syncookies=1), synack_retries=4)
DEFENCES = {"none": NONE, "cookies": COOKIES}
FULL = ceiling(NONE.knobs)


def services(lab: Lab) -> Services:
    return Services(lambda n: lan(lab, n), DEFENCES)


def test_all_are_served_without_a_flood(lab: Lab) -> None:
    peaceful = services(lab)
    peaceful.open()
    peaceful.check_settings()
    assert peaceful.serve(3) == {"none": 3, "cookies": 3}
    assert peaceful.half_open() == peaceful.dropped() == {"none": 0, "cookies": 0}
    assert [host.sysctl[SYNACK_RETRIES] for host in peaceful.hosts.values()] == ["5", "4"]


def test_cookies_serve_under_a_flood(lab: Lab) -> None:
    attacked = services(lab)
    attacked.open()
    with attacked.flooded(rate=200, distinct=400):
        attacked.wait_until_dropped(10, ["none"])
        assert attacked.serve(3, through=["cookies"])["cookies"] == 3
        assert attacked.dropped()["none"] > 10
    assert attacked.dropped()["cookies"] == 0
    assert attacked.half_open()["none"] <= FULL


def test_a_burst(lab: Lab) -> None:
    attacked = services(lab)
    attacked.open()
    attacked.burst(100)
    assert attacked.half_open() == {"none": FULL, "cookies": ceiling(COOKIES.knobs)}
    assert attacked.dropped() == {"none": 100 - FULL, "cookies": 0}
    host = attacked.hosts["none"]
    assert syn_recv(host) == count(host, "state syn-recv") == FULL
    assert syns_dropped(host) == counters(host).TcpExt.ListenDrops == 100 - FULL


def test_servers_that_cannot_differ(lab: Lab) -> None:
    alike = services(lab)
    alike.open()
    alike.hosts["none"].sysctl[MAX_SYN_BACKLOG] = 77
    with pytest.raises(Unsupported, match="cannot be compared"):
        alike.check_settings()


def test_a_service_that_lets_go(lab: Lab) -> None:
    attacked = services(lab)
    attacked.open()
    attacked.burst(10)
    assert attacked.half_open()["none"] == FULL
    attacked.hosts["none"].sysctl[SYNACK_RETRIES] = 0
    attacked.wait_until_let_go("none", 2)
    assert attacked.half_open()["none"] <= 2


def test_visitors(lab: Lab) -> None:
    peaceful = services(lab)
    peaceful.open()
    began = time.monotonic()
    assert peaceful.visited(4) == {"none": 4, "cookies": 4}
    assert time.monotonic() - began > VISITED / 2


def test_visitors_without_patience(lab: Lab) -> None:
    """A listener that does not accept answers nobody, and one that is full lets nobody in."""
    server, client = lan(lab, 2).hosts
    full, silent = listen(server, 0), listen(server, 10)
    connect(client, full, wait=True)
    until(lambda: full.waiting == 1)
    with counting(client) as delta:
        assert visit(client, {"full": full}, 4, patience=1.5) == {"full": 0}
    assert delta.Tcp.RetransSegs >= 4
    assert silent.waiting == 0


@pytest.mark.slow(11)
@pytest.mark.ipv4_only("a network of 65536 addresses")
def test_a_request_of_a_neighbour_that_nobody_is_stays(lab: Lab) -> None:
    """Without the routes an ICMP error of the server's own, three seconds later, ends the request: a dropped SYN."""
    server, client = lan(lab, 2).hosts
    far, lost = (f"{server.ip.rsplit('.', 2)[0]}.77.{n}" for n in (1, 2))
    service = COOKIES.serve(server)
    knock = f"hping3 --syn --count 1 --spoof {{}} --destport {service.port} {server.ip}"
    # Its status is 1: it hears of no answer.
    client.run(*knock.format(lost).split(), check=False)
    until(lambda: counters(server).TcpExt.ListenDrops == 1, what="the request of an address that is not found to end")
    answer_to_nobody(server, client)
    with counting(server) as moved:
        client.run(*knock.format(far).split(), check=False)
        until(lambda: moved.TcpExt.TCPSynRetrans == 3, what="SYN-ACKs after 1, 3 and 7 s, which nobody answers")
        assert (service.half_open, moved.TcpExt.ListenDrops) == (1, 0)


@pytest.mark.ipv4_only("hping3 has no IPv6")
def test_a_siege(lab: Lab) -> None:
    server, client = lan(lab, 2).hosts
    answer_to_nobody(server, client)
    service = COOKIES.serve(server)
    with besieged(client, service):
        assert counters(server).TcpExt.SyncookiesSent > 0
        assert 0 < service.half_open <= ceiling(COOKIES.knobs)
        assert visit(client, {"": service}, 3, patience=30) == {"": 3}
    assert counters(server).TcpExt.ListenDrops == 0
