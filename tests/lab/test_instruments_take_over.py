"""The instruments of take-over: they see a law that is not the kernel's, and both lives of a four-tuple."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput, NotReady
from harness.instruments.last_ack import OldPeer
from harness.instruments.take_over import (
    BOUND_TO_LO,
    CABLE,
    LOOPBACK,
    MAPPED,
    NO_PORT,
    ONE_LOOPBACK,
    OWN_ADDRESS,
    EachWay,
    RarerWays,
    Trial,
    comes_back,
    grow_old,
    law_at,
    leave_behind,
    succession,
    takes_over,
    watch,
)
from harness.instruments.two_lives import OLD_DATA, TwoLives
from harness.laws.take_over import MILLISECOND, TakeOver
from harness.observe import capture
from harness.traffic import listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.connection import establish, read
from harness.traffic.forged import inject
from harness.traffic.ports import give_ports
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair

REUSE = "net.ipv4.tcp_tw_reuse"
PORT = 41000


def test_a_trial_that_was_not_watched_has_no_age(pair: Pair) -> None:
    trial = Trial(pair.client, listen(pair.server), 0.1)
    with pytest.raises(NotReady, match=r"watch\(\) it first"):
        trial.against_the_law()


def test_tries_against_the_law_are_told(pair: Pair) -> None:
    pair.client.sysctl[REUSE] = 1
    give_ports(pair.client)
    trial = Trial(pair.client, listen(pair.server), 0.5)
    watch([trial])
    assert trial.against_the_law() == []
    assert trial.taken_at is not None
    law, age = law_at(pair.client), trial.taken_at
    trial.law = TakeOver(law.clock, law.unit, 10**12)
    (later,) = trial.against_the_law()
    assert later.startswith("taken after")
    trial.law = TakeOver(law.clock, law.unit, -1)
    assert all(odd.startswith("refused after") for odd in trial.against_the_law())
    assert trial.against_the_law()
    assert trial.taken_younger_than(age + 0.001)
    assert not trial.taken_younger_than(age)
    assert trial.refused_older_than(0.001)
    assert not trial.refused_older_than(age)


def test_what_is_not_reused_is_given_up(pair: Pair) -> None:
    pair.client.sysctl[REUSE] = 0
    give_ports(pair.client)
    trial = Trial(pair.client, listen(pair.server), 0.5, patience=0.3)
    watch([trial])
    assert trial.taken_at is None
    assert not trial.taken_younger_than(100)
    assert trial.refused_older_than(0.3)


def test_the_law_follows_the_hosts_delay(pair: Pair) -> None:
    if law_at(pair.client).unit != MILLISECOND:
        pytest.skip("the kernel has no tcp_tw_reuse_delay")
    pair.client.sysctl["net.ipv4.tcp_tw_reuse_delay"] = 7
    assert law_at(pair.client).more_than == 7


def test_a_port_is_taken_over_once_it_is_old(pair: Pair) -> None:
    client, listener = pair.client, listen(pair.server)
    client.sysctl[REUSE] = 1
    with capture(client) as packets:
        leave_behind(client, listener, PORT, b"four")
        assert not takes_over(client, listener)
        grow_old()
        assert takes_over(client, listener)
    lives = succession(packets, PORT)
    assert "S" not in lives.last.flags
    assert lives.numbers == 65537
    assert lives.ticks > 0


def test_each_way_is_taken_over_or_not(pair: Pair) -> None:
    pair.client.sysctl[REUSE] = 1
    ways = EachWay(pair.client, pair.server)
    grow_old()
    assert ways.taken_over() == {CABLE: True, LOOPBACK: True, OWN_ADDRESS: True}
    assert ways.taken_over() == {CABLE: False, LOOPBACK: False, OWN_ADDRESS: False}


def test_rarer_ways_are_taken_over_or_not(pair: Pair) -> None:
    pair.client.sysctl[REUSE] = 1
    ways = RarerWays(pair.client)
    wanted = {ONE_LOOPBACK, BOUND_TO_LO} | ({MAPPED} if pair.client.family == socket.AF_INET6 else set())
    grow_old()
    assert ways.taken_over() == dict.fromkeys(wanted, True)
    assert ways.taken_over() == dict.fromkeys(wanted, False)


def test_who_binds_the_port_comes_back_or_not(pair: Pair) -> None:
    client, listener = pair.client, listen(pair.server)
    leave_time_wait(client, listener, source=(client.ip, PORT))
    assert comes_back(client, listener, PORT) == "connected"
    client.sysctl["net.ipv4.tcp_timestamps"] = 0
    leave_time_wait(client, listener, source=(client.ip, PORT + 1))
    assert comes_back(client, listener, PORT + 1) == NO_PORT


def test_a_succession_without_timestamps_has_no_ticks(pair: Pair) -> None:
    client, listener = pair.client, listen(pair.server)
    client.sysctl["net.ipv4.tcp_timestamps"] = 0
    with capture(client) as packets:
        give_ports(client, first=PORT)
        for _ in range(2):
            establish(client, listener).close("server")
    with pytest.raises(BadInput, match="has no timestamps"):
        _ = succession(packets, PORT).ticks


def test_what_is_left_of_the_old_life_arrives_at_the_new_one(pair: Pair) -> None:
    client, listener = pair.client, listen(pair.server)
    client.sysctl[REUSE] = 1
    with capture(client) as packets:
        life = TwoLives(client, listener, packets, PORT)
        life.repeat_data()
        until(lambda: life.to_client.flags == "R", what="the RST of who knows the old connection no more")
        grow_old()
        new = life.begin_again()
        inject(pair.server, life.to_server, "PA", tsval=life.to_server.tsval, payload=b"forged")
        assert until(lambda: read(new.server), what="the forged data") == b"forged"
        inject(client, life.to_client, "R", tsval=life.old_to_client.tsval)
        assert new.fate() == "ECONNRESET"
    assert life.data.payload == OLD_DATA
    assert life.old_to_server.next_seq != life.syn.seq


def test_an_end_that_hears_no_ack_stays_in_last_ack(pair: Pair) -> None:
    with capture(pair.server) as packets:
        peer = OldPeer(pair.client, listen(pair.server), packets, PORT, closes=False)
        assert peer.in_last_ack
        peer.hear_again()
        peer.wait_for_end()
        assert peer.resets() == []
