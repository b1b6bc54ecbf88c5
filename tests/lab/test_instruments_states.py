"""Sockets in many states, connections that come and go, other addresses, arrivals that are counted."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from harness.errors import ProgramFailed
from harness.instruments.programs import command
from harness.instruments.six_states import SIX_STATES, UNREAD, six_states
from harness.observe import count, counters, shell, tally
from harness.traffic import arrivals, connect, drop, listen
from harness.traffic.closing import churn, leave_time_wait
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
