"""Sockets in many states, what they cost, connections that come and go, other addresses, programs that are started."""

from __future__ import annotations

import itertools
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.errors import NotReady, ProgramFailed
from harness.instruments import memory
from harness.instruments.memory import Growth, Memory, grow, receive_memory
from harness.instruments.programs import command
from harness.instruments.shop import DATABASE, THREADS, Shop, Visit
from harness.instruments.six_states import SIX_STATES, UNREAD, six_states
from harness.observe import count, counters, shell, tally
from harness.observe.memory import Cache
from harness.traffic import arrivals, connect, drop, echo, listen
from harness.traffic.closing import churn, leave_time_wait
from harness.traffic.connection import establish
from harness.traffic.hping3 import packets_sent
from harness.traffic.nginx import check_configuration
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair

LONG = "fd00:1111:2222:3333:4444:5555:6666:7777"


def test_six_states(pair: Pair) -> None:
    listener = six_states(pair)
    assert tally(pair.server) == SIX_STATES
    assert listener.waiting == 3
    assert listener.accepted[-1].recv(100) == UNREAD


def test_connections_come_and_go(pair: Pair) -> None:
    before = counters(pair.server)
    with churn(pair.server, listen(pair.client)):
        until(lambda: (counters(pair.server) - before).Tcp.ActiveOpens >= 20, what="twenty connections")
    after = counters(pair.server)
    assert count(pair.server) == 0
    assert (after - before).Tcp.PassiveOpens == 0


@pytest.mark.parametrize("address", [LONG, "10.99.0.1"])
def test_another_address(pair: Pair, address: str) -> None:
    pair.server.add_address(address)
    leave_time_wait(pair.server, listen(pair.server, address=address), 2)
    assert count(pair.server, "state time-wait") == 2


def test_a_listener_for_both_families(pair: Pair) -> None:
    listener = listen(pair.server, port=8000, address="::")
    for family in (socket.AF_INET, socket.AF_INET6):
        assert connect(pair.client, (pair.server.address(family), 8000), wait=True).connected == 1
    assert listener.waiting == 2


def test_arrivals_are_counted(pair: Pair) -> None:
    listener = listen(pair.server)
    syns, others = arrivals(pair.server, "S", dport=listener.port), arrivals(pair.server, "S", dport=listener.port + 1)
    connect(pair.client, listener, 3, wait=True)
    assert (syns.count, others.count) == (3, 0)
    with drop(pair.server, "A", dport=listener.port):
        connect(pair.client, listener, wait=True)
    assert syns.count == 4


def test_a_line_in_another_language(pair: Pair) -> None:
    line = 'echo "$LC_ALL $LANGUAGE"'
    assert shell.printed(pair.server, line).split() == ["C"]
    assert shell.printed(pair.server, line, language="pt_BR").split() == ["C.UTF-8", "pt_BR"]
    assert not shell.is_translated("net-tools", "xx")


def test_connecting_by_hand(pair: Pair) -> None:
    listener = listen(pair.server)
    assert shell.connect_by_hand(pair.client, *listener.address) == ""
    address, port = listener.address
    listener.close()
    assert "Connection refused" in shell.connect_by_hand(pair.client, address, port)


def test_a_configuration_is_only_read(pair: Pair) -> None:
    assert check_configuration(pair.server, "server { listen 80; }").returncode == 0
    refused = check_configuration(pair.server, "server { listen 80 }")
    assert refused.returncode == 1
    assert "unexpected" in refused.stderr
    assert count(pair.server) == 0


def test_programs_are_files() -> None:
    interpreter, *_, program, argument = command("shop.py", 80)
    assert argument == "80"
    assert interpreter
    assert program.endswith("/programs/shop.py")


def test_hping3_says_what_it_sent() -> None:
    assert packets_sent("--- 10.0.0.1 hping statistic ---\n12 packets transmitted, 0 packets received") == 12
    with pytest.raises(ProgramFailed, match="hping3 reported no packets:\nnothing"):
        packets_sent("nothing")


def test_growth_is_what_each_connection_added(pair: Pair) -> None:
    held = Cache("TCP", 100, 2000, 2048.0, 204800)
    before, after = Memory(10, 1 << 20, {"TCP": held}), Memory(30, 3 << 20, {"TCP": replace(held, objects=300)})
    growth = after.since(before, 100)
    assert growth == Growth((2 << 20) / 100, {"TCP": 2.0})
    assert Growth.middle([growth, Growth(1.0, {"TCP": 9.0}), Growth(9e9, {"TCP": 1.0})]) == growth
    assert Memory.now(pair.client).slab > 0


def test_growth_among_others_connections_is_not_told(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = itertools.count(0, 30)
    monkeypatch.setattr(memory, "steady", lambda *_: Memory(0, 0, {}))
    monkeypatch.setattr(Memory, "now", lambda _: Memory(2 * 100 + next(looks), 1 << 20, {}))
    grow(pair, 100)[1].close()
    with pytest.raises(NotReady, match="ours cannot be told"):
        grow(pair, 100, tries=1)
    assert next(looks) == 90


def test_receive_memory_is_what_nobody_has_read(pair: Pair) -> None:
    ends = establish(pair.client, listen(pair.server))
    assert receive_memory(pair.server) == 0
    ends.client.send(b"x" * 1000)
    assert until(lambda: receive_memory(pair.server), what="the bytes to arrive") >= 1000


def test_a_shop_and_its_customers(pair: Pair) -> None:
    shop = Shop("shop", pair.server, pair.client, options=("--connect-timeout", 1), gives_up=1)
    shop.wait_until_open()
    assert Visit(pair.client, shop, "/health").served() == "200 well"
    with listen(pair.client, port=DATABASE, answer=echo):
        assert Visit(pair.client, shop).served() == "200 SELECT 1"
    assert Visit(pair.client, shop).served() == "503 ECONNREFUSED"
    with drop(pair.client, "S", dport=DATABASE):
        shop.besiege(pair.client)
        shop.all_threads_connect()
        assert [visit.waits for visit in shop.visits] == [True] * THREADS
        assert [visit.served() for visit in shop.visits] == ["503 timeout"] * THREADS
    assert shop.law == [1]
    assert all(1 <= visit.seconds < 20 for visit in shop.visits)
