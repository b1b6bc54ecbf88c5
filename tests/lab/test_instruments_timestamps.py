"""The instruments of timestamps: a clock at its rate and at another, offsets, and clients that share an address."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.errors import GlobalSysctl, NotReady
from harness.instruments.outside_port import OutsidePort
from harness.instruments.shared_address import answered_syns, arrive, let_in, setbacks, shift_clock, visits
from harness.instruments.stamped import CLOCK, WORDS, Stamped
from harness.instruments.timestamp_clock import (
    Advance,
    Offset,
    advance,
    clock_of,
    clocks_apart,
    different,
    offset_of_answer,
    offset_towards,
    repeated_words,
    switch_timestamps,
)
from harness.instruments.wall_clock import time_of_day_stepped
from harness.instruments.wrap import no_wrap, stream_after_wrap, wrap_by_repair
from harness.lab import Pair, machine
from harness.laws.serial import distance
from harness.laws.timestamps import ticks_a_second
from harness.observe import capture, states_at
from harness.traffic import RawPeer, drop, establish, listen

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.lab import BehindNat, Lan


def test_a_clock_goes_at_its_rate_and_at_no_other(pair: Pair) -> None:
    with capture(pair.server) as packets:
        moved = advance(packets, establish(pair.client, listen(pair.server)))
    rate = moved.nearest(ticks_a_second())
    assert moved.expected(rate).accepts(moved.ticks)
    assert not moved.expected(rate * 3).accepts(moved.ticks)
    assert not moved.expected(rate).accepts(moved.ticks * 3)


def test_the_nearest_rate() -> None:
    assert Advance(75, 0.29, 0.3).nearest((100, 250, 1000)) == 250


def test_offsets_of_connections(pair: Pair) -> None:
    switch_timestamps(pair, 2)
    peer = RawPeer(pair.client, pair.server)
    for offset in (offset_towards(peer), offset_of_answer(peer, listen(pair.client))):
        assert offset.ticks <= offset.slack
    assert different([Offset(10, 2), Offset(11, 2), Offset(100, 2), Offset(5000, 2)]) == 3


def test_the_old_segment_is_seen_where_nothing_keeps_it_out(pair: Pair) -> None:
    assert stream_after_wrap(pair, wrap_by_repair) == b"hellonew data"
    switch_timestamps(pair, 0)
    assert stream_after_wrap(pair, wrap_by_repair) == b"helloold data"
    assert stream_after_wrap(pair, no_wrap) == b"hellonew data"


def test_raw_clients_of_one_address_arrive(pair: Pair) -> None:
    listener, peer = listen(pair.server), RawPeer(pair.server, pair.client)
    assert answered_syns(peer, listener, [1000, None]) == 2
    assert arrive(peer, listener, [3000, 1000, 2000]) == 3
    assert len(listener.accepted) == 3


def test_an_answer_that_is_no_syn_ack_is_an_error(pair: Pair) -> None:
    listener, peer = listen(pair.server), RawPeer(pair.server, pair.client)
    nobody = replace(listener, socket=pair.server.socket())
    nobody.socket.bind((pair.server.ip, 9))
    with nobody.socket, pytest.raises(NotReady, match="has answered SYNs with RA"):
        answered_syns(peer, nobody, [1000])


def test_real_clients_are_let_in_and_leave(pair: Pair) -> None:
    listener = listen(pair.server)
    assert let_in(pair.client, listener, 3) == 3
    visited = listen(pair.server)
    assert visits(pair.client, visited, 5000)
    assert "ESTAB" not in states_at(pair.server, visited.port)


def test_setbacks(pair: Pair) -> None:
    listener = listen(pair.server)
    with capture(pair.server) as packets:
        establish(pair.client, listener)
    (syn,) = packets.segments(flags="S")
    clocks = [5, 6, 5, 2**32 - 1, 3]
    assert setbacks([replace(syn, tsval=clock) for clock in clocks]) == 2


def test_a_client_whose_syn_is_not_answered_does_not_visit(pair: Pair) -> None:
    listener = listen(pair.server)
    drop(pair.server, "S")
    assert not visits(pair.client, listener, 5000, deadline=0.2)


def test_a_clock_is_moved(lan: Callable[..., Lan]) -> None:
    ahead, server = lan(2).hosts
    shift_clock(ahead, 1_000_000)
    switch_timestamps(Pair(ahead, server, ahead.lab.cable_of(ahead)), 2)
    with capture(server) as packets:
        before = clock_of(ahead)
        establish(ahead, listen(server))
    (syn,) = packets.segments(flags="S")
    assert syn.tsval is not None
    assert 1_000_000 <= distance(before, syn.tsval) < 1_100_000


def test_what_a_peer_says_is_taken_or_not(pair: Pair) -> None:
    peer = Stamped(pair.server, pair.client)
    assert peer.say(CLOCK - 1000) == b""
    assert peer.say(CLOCK + 1) == WORDS
    peer.take(CLOCK + 1)
    assert peer.last == CLOCK + 1
    assert peer.say(CLOCK - 1) == b""
    assert peer.say(None) == WORDS


def test_what_is_echoed_counts_from_the_last(pair: Pair) -> None:
    peer = Stamped(pair.server, pair.client)
    assert [peer.echo(7), peer.echo(9)] == [7, 9]


def test_an_echo_with_an_ack_for_each_is_tried_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Stamped(pair.server, pair.client)
    once, tries = peer._echo_once, []

    def answered_one_by_one(later: tuple[int, ...], ahead: int) -> int | None:
        tries.append(later)
        return None if len(tries) == 1 else once(later, ahead)

    monkeypatch.setattr(peer, "_echo_once", answered_one_by_one)
    assert peer.echo(10, 20) == 10
    assert len(tries) == 2


def test_words_are_lost_and_said_again(pair: Pair) -> None:
    connection = establish(pair.client, listen(pair.server))
    with capture(pair.client) as packets:
        newer_by = repeated_words(pair, connection, packets)
    assert len(newer_by) == 2
    assert min(newer_by) > 0


def test_hosts_without_offsets_have_one_clock(lan: Callable[..., Lan]) -> None:
    one, other, third = lan(3).hosts
    for host in (one, other):
        shift_clock(host, 0)
    peers = [RawPeer(host, third) for host in (one, other)]
    assert clocks_apart(*peers) < 1000


def test_the_time_of_day_is_nobodys_on_a_shared_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(machine.OWN_KERNEL, raising=False)
    with pytest.raises(GlobalSysctl, match="belongs to the whole machine"), time_of_day_stepped(1):
        pass


def test_clients_come_through_one_port_until_it_is_another(behind_nat: Callable[..., BehindNat]) -> None:
    net = behind_nat()
    first, second = net.clients
    shift_clock(first, 0)
    shift_clock(second, -1_000_000)
    with capture(net.server) as packets:
        port = OutsidePort(net, listen(net.server), packets)
        port.leave_time_wait(first)
        assert port.states == ["TIME-WAIT"]
        visit = port.visit(second)
        assert (visit.result, visit.is_older, len(visit.syns)) == ("connected", True, 2)
        assert 0 <= visit.until_answered < visit.seconds
        with pytest.raises(NotReady, match=r"connect\(\) said ETIMEDOUT, the server saw S S$"):
            _ = replace(visit, result="ETIMEDOUT", seen=visit.syns).until_answered
        assert {segment.sport for segment in packets.segments(flags="S")} == {port.number}
        port.change(port.number + 1)
        assert port.states == []
        visit = port.visit(second)
        assert (visit.last, visit.is_older, visit.opening) == (None, False, ["S", "SA"])
