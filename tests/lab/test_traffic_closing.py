"""Connections that are closed in order leave TIME-WAIT where they should."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput, NotReady
from harness.observe import count, counters, sockets
from harness.traffic import listen
from harness.traffic.closing import leave_time_wait

if TYPE_CHECKING:
    from harness.lab import Pair


@pytest.mark.parametrize("closer", ["client", "server"])
def test_the_closer_is_left_with_time_wait(pair: Pair, closer: str) -> None:
    here, there = (pair.client, pair.server) if closer == "client" else (pair.server, pair.client)
    made = leave_time_wait(pair.client, listen(pair.server), 5, closer=closer)
    assert sorted((s.local, s.remote) for s in sockets(here, "state time-wait")) == sorted(made)
    assert len(set(made)) == 5
    assert {local[0] for local, _ in made} == {here.ip}
    assert {remote[0] for _, remote in made} == {there.ip}
    assert (count(here, "exclude time-wait"), count(there, "state connected")) == (closer == "server", 0)


def test_thousands(pair: Pair) -> None:
    made = leave_time_wait(pair.client, listen(pair.server), 3000, deadline=30)
    assert (len(set(made)), count(pair.client, "state time-wait")) == (3000, 3000)
    moved = counters(pair.server)
    assert (moved.TcpExt.ListenOverflows, moved.Tcp.RetransSegs, moved.Tcp.CurrEstab) == (0, 0, 0)


def test_as_many_as_asked_for_though_ports_come_back(pair: Pair) -> None:
    pair.client.sysctl["net.ipv4.ip_local_port_range"] = "40000 40099"
    made = leave_time_wait(pair.client, listen(pair.server, 10), 40, closer="server")
    assert (len(set(made)), count(pair.server, "state time-wait")) == (40, 40)
    with pytest.raises(NotReady, match="ports, not 101"):
        leave_time_wait(pair.client, listen(pair.server, 10), 101, closer="server", deadline=0.2)


def test_a_listener_with_little_room(pair: Pair) -> None:
    assert len(leave_time_wait(pair.client, listen(pair.server, 0), 3)) == 3


def test_a_source_of_ones_choice(pair: Pair) -> None:
    # With timestamps, connect() from a port of one's choice takes a TIME-WAIT over at once (tcp_twsk_unique()).
    pair.server.sysctl["net.ipv4.tcp_timestamps"] = 0
    listener = listen(pair.server)
    made = leave_time_wait(pair.client, listener, source=(pair.client.ip, 41000))
    assert made == [((pair.client.ip, 41000), listener.address)]
    with pytest.raises(NotReady, match=r"connect\(\) from client to port \d+: EADDRNOTAVAIL"):
        leave_time_wait(pair.client, listener, source=(pair.client.ip, 41000))


def test_a_closer_that_there_is_not(pair: Pair) -> None:
    with pytest.raises(BadInput, match="'both'"):
        leave_time_wait(pair.client, listen(pair.server), closer="both")
    with pytest.raises(BadInput, match="41000"):
        leave_time_wait(pair.client, listen(pair.server), 2, source=(pair.client.ip, 41000))
