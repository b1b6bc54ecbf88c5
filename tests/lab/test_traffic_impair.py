"""Impairments of one direction: exactly the segments that were meant are dropped, or held and delivered later."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import BadInput, Unsupported
from harness.lab import Lab
from harness.lab import pair as make_pair
from harness.lab.impairment import Impairment, SegmentMatch
from harness.observe import accept_queue, capture, count, counting
from harness.traffic import RawPeer, arrivals, connect, drop, echo, hold, impair, listen
from harness.traffic.frames import segment_in
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from harness.lab import Pair
    from harness.traffic import Drop
    from harness.traffic.impair import Rule


def knock(pair: Pair, n: int, flags: str = "S", port: int = 9) -> RawPeer:
    """Send n segments to the server, to a port that answers each with RST."""
    peer = RawPeer(pair.server, pair.client)
    for _ in range(n):
        peer.connection(port).send(flags)
    return peer


def answered(peer: RawPeer) -> list[int]:
    """The ports whose segment reached TCP, which are numbered from 20000 in the order of sending."""
    return [reply.dport - 20000 + 1 for reply in peer.poll()]


@pytest.mark.parametrize(
    ("first", "most", "lost"),
    [(1, None, [1, 2, 3, 4, 5, 6]), (1, 1, [1]), (3, 1, [3]), (2, 3, [2, 3, 4]), (5, None, [5, 6]), (7, 1, [])],
)
def test_the_nth_segments_are_dropped(pair: Pair, first: int, most: int | None, lost: list[int]) -> None:
    with drop(pair.server, "S", first=first, count=most) as rule, counting(pair.server) as moved:
        peer = knock(pair, 6)
        until(lambda: rule.count + moved.Tcp.InSegs >= 6, what="six SYNs")
        assert (rule.count, moved.Tcp.InSegs) == (len(lost), 6 - len(lost))
        wanted = [i for i in range(1, 7) if i not in lost]
        until(lambda: len(answered(peer)) >= len(wanted), what="the answers")
        assert answered(peer) == wanted


# Fives: since 4.18 a limit lets five through where less or more was asked for, unless a burst is named.
@pytest.mark.parametrize(
    ("first", "most", "lost"), [(1, 5, [1, 2, 3, 4, 5]), (6, 5, [6, 7, 8, 9, 10]), (6, None, [6, 7, 8, 9, 10, 11, 12])]
)
def test_without_numgen_limits_count(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, first: int, most: int | None, lost: list[int]
) -> None:
    refused: list[int] = []

    def kernel_of_before(*_: object) -> list[Rule]:
        refused.append(1)
        raise Unsupported("no numgen")

    monkeypatch.setattr(impair, "counted_by_number", kernel_of_before)
    with drop(pair.server, "S", first=first, count=most) as rule, counting(pair.server) as moved:
        knock(pair, 12)
        until(lambda: rule.count + moved.Tcp.InSegs >= 12, what="twelve SYNs")
        assert (rule.count, moved.Tcp.InSegs, refused) == (len(lost), 12 - len(lost), [1])


# What a host may get, and the letters that mean it.
SEGMENTS = {
    "S": b"", "SEC": b"", "S ": b"a cookie's data", "SA": b"", "A": b"", "A ": b"data", "PA": b"data",
    "FA": b"", "FPA": b"data", "F": b"", "R": b"", "RA": b"",
}  # fmt: skip
MEANT = {
    "S": {"S", "SEC", "S "}, "SA": {"SA"}, "AS": {"SA"}, "SEC": {"SEC"},
    "A": {"A"},
    "PA": {"PA"}, "P": {"PA"},
    "F": {"F", "FA", "FPA"}, "FA": {"FA", "FPA"}, "FPA": {"FPA"},
    "R": {"R", "RA"}, "RA": {"RA"},
}  # fmt: skip


@pytest.mark.parametrize(("flags", "meant"), MEANT.items())
def test_flags_mean_what_people_mean(pair: Pair, flags: str, meant: set[str]) -> None:
    """The same for what is dropped, held, counted and captured."""
    with capture(pair.server) as seen, hold(pair.server, flags) as held:
        counted = arrivals(pair.server, flags)
        peer = RawPeer(pair.server, pair.client)
        for number, (one, payload) in enumerate(SEGMENTS.items(), start=1):
            # With options the payload begins elsewhere.
            options = [("NOP", None)] * (4 * (number % 3))
            peer.connection(9).send(one.strip(), seq=number, payload=payload, options=options)
        until(lambda: len(seen.segments(direction="in")) == len(SEGMENTS), what="all of them")

        def named(numbers: Iterable[int]) -> set[str]:
            return {list(SEGMENTS)[number - 1] for number in numbers}

        assert named(segment.seq for segment in seen.segments(direction="in", flags=flags)) == meant
        assert (held.count, counted.count) == (len(meant), len(meant))
        taken = [segment_in(frame) or b"" for frame in held.held()]
        assert named(int.from_bytes(tcp[4:8], "big") for tcp in taken) == meant


def test_acknowledgement_numbers_are_matched(pair: Pair) -> None:
    with drop(pair.server, ack=7) as rule, counting(pair.server) as moved:
        connection = RawPeer(pair.server, pair.client).connection(9)
        for number in (6, 7, 7 << 24, 8):
            connection.send("A", ack=number)
        until(lambda: rule.count + moved.Tcp.InSegs >= 4, what="four segments")
        assert (rule.count, moved.Tcp.InSegs) == (1, 3)


def test_ports_are_matched(pair: Pair) -> None:
    with drop(pair.server, dport=9) as by_destination, drop(pair.server, sport=20000, dport=10) as by_both:
        with counting(pair.server) as moved:
            knock(pair, 2, port=9)
            knock(pair, 2, port=10)
            until(lambda: by_destination.count + by_both.count + moved.Tcp.InSegs >= 4, what="four segments")
            assert (by_destination.count, by_both.count, moved.Tcp.InSegs) == (2, 1, 1)


def test_only_one_direction_is_impaired(pair: Pair) -> None:
    listener = listen(pair.server, answer=echo)
    clients = connect(pair.client, listener, wait=True)
    with drop(pair.client) as rule, capture(pair.server) as seen:
        clients.sockets[0].send(b"hello")
        until(lambda: rule.count >= 1, what="the answer to be dropped")
        assert any(segment.payload == b"hello" for segment in seen.segments(direction="in"))
        assert clients.ask(b"?", deadline=0.05) == 0


def test_the_third_ack_is_lost_once_and_comes_again(pair: Pair) -> None:
    listener = listen(pair.server)
    with drop(pair.server, "A", dport=listener.port, count=1) as rule:
        clients = connect(pair.client, listener, wait=True)
        until(lambda: rule.count == 1, what="the ACK")
        assert (clients.connected, count(pair.server, "state syn-recv")) == (1, 1)
        # The server's SYN-ACK timer, one second, brings another.
        until(lambda: accept_queue(pair.server, listener.port).waiting == 1, what="the handshake to complete")
        assert rule.lift() == 1


def test_a_lifted_rule_lets_everything_pass_and_keeps_its_count(pair: Pair) -> None:
    def knocked(rule: Drop, n: int) -> None:
        with counting(pair.server) as moved:
            before = rule.count
            knock(pair, n)
            until(lambda: rule.count - before + moved.Tcp.InSegs >= n, what="the segments")

    rule = drop(pair.server)
    knocked(rule, 3)
    assert (rule.lift(), rule.lift(), rule.count) == (3, 3, 3)
    with counting(pair.server) as moved:
        knock(pair, 2)
        until(lambda: moved.Tcp.InSegs >= 2, what="the segments")
    assert rule.count == 3


def test_held_segments_come_late_and_in_order(pair: Pair) -> None:
    with hold(pair.server, "S", dport=9) as held, counting(pair.server) as moved:
        peer = knock(pair, 5)
        until(lambda: held.count == 5, what="five SYNs")
        assert (moved.Tcp.InSegs, answered(peer)) == (0, [])
        assert held.release() == 5
        until(lambda: len(answered(peer)) == 5, what="the answers")
        assert answered(peer) == [1, 2, 3, 4, 5]
        assert (moved.Tcp.InSegs, moved.Tcp.InCsumErrors) == (5, 0)


def test_frames_that_were_held_are_delivered_when_wanted(pair: Pair) -> None:
    held = hold(pair.server, "S", dport=9)
    with counting(pair.server) as moved:
        peer = knock(pair, 2)
        until(lambda: held.count == 2, what="two SYNs")
        frames = held.held()
        held.lift()
        assert (len(frames), moved.Tcp.InSegs) == (2, 0)
        held.deliver(frames[1:])
        until(lambda: answered(peer), what="the answer")
        assert (answered(peer), moved.Tcp.InSegs) == ([2], 1)


def test_a_held_handshake_of_a_real_client(pair: Pair) -> None:
    listener = listen(pair.server)
    held = hold(pair.server, "A", dport=listener.port)
    clients = connect(pair.client, listener, wait=True)
    until(lambda: held.count >= 1, what="the ACK")
    assert (clients.connected, count(pair.server, "state syn-recv")) == (1, 1)
    assert held.release() >= 1
    assert len(listener.accept()) == 1


@pytest.mark.parametrize("flags", ["", "X", "SAX", "s", "S A", "S,A", "S.", "SYN", 2, b"S"])
@pytest.mark.parametrize("rule", [drop, hold, arrivals])
def test_flags_that_are_none(pair: Pair, flags: Any, rule: Callable[..., object]) -> None:
    with pytest.raises(BadInput, match="TCP flags are letters of FSRPAUEC, not") as refused:
        rule(pair.server, flags)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "match",
    [
        *({"sport": 65536}, {"sport": -1}, {"sport": "80"}, {"dport": 1.5}, {"dport": True}),
        *({"ack": -1}, {"ack": 2**32}, {"ack": "1"}),
        *({"first": 0}, {"first": -3}, {"first": 1.5}, {"count": 0}, {"count": -1}, {"count": 2**40}),
    ],
    ids=str,
)
def test_segments_that_cannot_be_are_refused_in_one_line(pair: Pair, match: dict[str, Any]) -> None:
    ((word, value),) = match.items()
    with pytest.raises(BadInput, match=rf"^{word} is a whole number from [01] to \d+, not {value!r}$"):
        drop(pair.server, "S", **match)
    for rule in (hold, arrivals) if word in ("sport", "dport") else ():
        with pytest.raises(BadInput, match=f"^{word} is a whole number"):
            rule(pair.server, **match)


def test_the_other_family_is_left_alone(pair: Pair) -> None:
    from harness.lab import IPV4, IPV6

    other = IPV6 if pair.server.family == IPV4 else IPV4
    with drop(pair.server) as rule, counting(pair.server) as moved, pair.client.socket(family=other) as client:
        assert client.connect_ex((pair.server.address(other), 9)) != 0
        assert (rule.count, moved.Tcp.InSegs) == (0, 1)


def test_each_rule_says_what_it_did_while_it_is_in_force_and_after_the_lab() -> None:
    began = time.time()
    with Lab() as lab:
        pair = make_pair(lab)
        rule = drop(pair.server, "S", dport=9, first=2, count=3)
        held = hold(pair.server, "A", dport=9)
        knock(pair, 6)
        knock(pair, 2, "A")
        until(lambda: (rule.count, held.count) == (3, 2), what="three SYNs of six, and two ACKs")
        in_force = lab.impairments[0]()
        match = SegmentMatch(flags="S", dport=9, first=2, count=3)
        assert in_force == Impairment("drop", "server", match, in_force.since, None, 3)
    dropped, kept = (rule() for rule in lab.impairments)
    assert (dropped.dropped, kept.kind, kept.dropped) == (3, "hold", 2)
    assert kept.match == SegmentMatch(flags="A", dport=9)
    assert dropped.until is not None
    assert began <= dropped.since <= dropped.until <= time.time()
