"""The SYN queue: what stands in it, how many requests fit, and what makes it longer."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from harness.evidence import state
from harness.instruments.accept_queue import come_one_by_one, room
from harness.instruments.syn_queue import ceiling, flooded, listening, set_knobs
from harness.laws.queues import Knobs
from harness.observe import count, netstat, ss, states_at
from harness.traffic import RawPeer, listen
from harness.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair
    from harness.traffic import RawConnection


@pytest.mark.claim("syn-queue.handshake-path")
def test_handshake_path(claim: ClaimRun, pair: Pair) -> None:
    listener, peer = listen(pair.server, 10), RawPeer(pair.server, pair.client)

    def queues() -> tuple[int, int]:
        return listener.half_open, listener.waiting

    with claim.effect("a peer sends its SYN, then its ACK; then the server accepts") as effect:
        connection = peer.connection(listener)
        connection.syn()
        effect.compare("(half-open, waiting) after the SYN", queues(), document=(1, 0))
        at_server = states_at(pair.server, connection.port)
        effect.compare("state after the SYN", state(at_server), document=["SYN-RECV"])
        connection.send("A")
        until(lambda: queues() != (1, 0), what="the ACK to arrive")
        effect.compare("(half-open, waiting) after the ACK", queues(), document=(0, 1))
        at_server = states_at(pair.server, connection.port)
        effect.compare("state after the ACK", state(at_server), document=["ESTAB"])
        accepted = listener.accept()
        effect.compare("connections that accept() returned", len(accepted), document=1)
        effect.compare("(half-open, waiting) after accept()", queues(), document=(0, 0))
        at_server = states_at(pair.server, connection.port)
        effect.compare("state after accept()", state(at_server), document=["ESTAB"])
    with claim.control("a SYN whose ACK does not come, an ACK whose SYN did not come") as control:
        peer.connection(listener).syn()
        control.expect("(half-open, waiting) without the ACK", queues(), (1, 0))
        stray = peer.connection(listener)
        stray.send("A", ack=1)
        stray.wait("R")
        control.expect("(half-open, waiting) after a stray ACK", queues(), (1, 0))
        control.expect("connections to accept", len(listener.accept_all()), 0)


def in_syn_recv(server: Host) -> int:
    """What `netstat -natp | grep SYN_RECV | wc -l` counts."""
    return sum(row.state == "SYN_RECV" for row in netstat.rows(server, "-natp"))


@pytest.mark.claim("syn-queue.length-is-syn-recv")
def test_length_is_syn_recv(claim: ClaimRun, pair: Pair) -> None:
    server, peer = pair.server, RawPeer(pair.server, pair.client)
    listener = listen(server, 50)
    requests: list[RawConnection] = []
    for length in (1, 5, 20):
        with claim.effect(f"{length} requests half-open, backlog 50") as effect:
            for _ in range(length - len(requests)):
                requests.append(peer.connection(listener))
                requests[-1].syn()
            effect.compare("SYN-RECV sockets, inet_diag", count(server, "state syn-recv"), document=length)
            effect.compare("netstat -natp | grep SYN_RECV | wc -l", in_syn_recv(server), document=length)
            columns = ss.listener(server, listener.port).queues
            effect.compare("(Recv-Q, Send-Q) of the listener, ss -lnt", columns, document=(0, 50))
            listed = ss.rows(server, "-tan", "state", "syn-recv")
            effect.premise("lines of ss -tan state syn-recv", len(listed), length)
    with claim.control("the same requests, acknowledged") as control:
        for request in requests:
            request.send("A")
        until(lambda: listener.half_open == 0, what="all handshakes to end")
        control.expect("SYN-RECV sockets, inet_diag", count(server, "state syn-recv"), 0)
        control.expect("netstat -natp | grep SYN_RECV | wc -l", in_syn_recv(server), 0)
        columns = ss.listener(server, listener.port).queues
        control.expect("(Recv-Q, Send-Q) of the listener, ss -lnt", columns, (20, 50))


# How many fit

SETTINGS = [
    Knobs(backlog=1000, somaxconn=4096, tcp_max_syn_backlog=128, tcp_syncookies=0),
    Knobs(backlog=128, somaxconn=4096, tcp_max_syn_backlog=512, tcp_syncookies=0),
    Knobs(backlog=511, somaxconn=128, tcp_max_syn_backlog=512, tcp_syncookies=0),
    Knobs(backlog=511, somaxconn=128, tcp_max_syn_backlog=512, tcp_syncookies=1),
    Knobs(backlog=10, somaxconn=4096, tcp_max_syn_backlog=512, tcp_syncookies=0),
    Knobs(backlog=10, somaxconn=4096, tcp_max_syn_backlog=512, tcp_syncookies=1),
    Knobs(backlog=300, somaxconn=200, tcp_max_syn_backlog=64, tcp_syncookies=1),
    Knobs(backlog=128, somaxconn=4096, tcp_max_syn_backlog=512, tcp_syncookies=2),
]


@pytest.mark.claim("syn-queue.not-max-syn-backlog-alone")
def test_not_max_syn_backlog_alone(claim: ClaimRun, pair: Pair) -> None:
    for knobs in SETTINGS:
        with claim.effect(f"{knobs}: 600 SYNs") as effect:
            measured = flooded(pair.client, listening(pair.server, knobs), 600)
            effect.compare("it is tcp_max_syn_backlog", measured == knobs.tcp_max_syn_backlog, document=False)
            effect.compare("half-open", measured, document=ceiling(knobs))
    law: list[tuple[float, float]] = []
    with claim.control("cookies off, backlog and somaxconn out of the way: nothing else decides") as control:
        for max_syn_backlog in (4, 128, 512):
            knobs = Knobs(4096, 4096, max_syn_backlog, tcp_syncookies=0)
            measured = flooded(pair.client, listening(pair.server, knobs), 600)
            control.expect(f"half-open, tcp_max_syn_backlog {max_syn_backlog}", measured, ceiling(knobs))
            law.append((max_syn_backlog, measured))
        control.series("half-open", law, x="tcp_max_syn_backlog", unit="requests")


@pytest.mark.claim("syn-queue.ceiling-is-accept-ceiling")
def test_ceiling_is_accept_ceiling(claim: ClaimRun, pair: Pair) -> None:
    law: dict[int, list[tuple[float, float]]] = {0: [], 1: []}
    for limit, cookies in product((1, 10, 128), (0, 1)):
        knobs = Knobs(backlog=limit, tcp_syncookies=cookies)
        with claim.effect(f"backlog {limit}, tcp_syncookies {cookies}: as many of each as come") as effect:
            accepted = come_one_by_one(pair.client, listening(pair.server, knobs), limit + 5)
            effect.premise("waiting for accept()", accepted, room(knobs))
            measured = flooded(pair.client, listening(pair.server, knobs), limit + 50)
            effect.compare("half-open", measured, document=accepted, kernel=ceiling(knobs))
            law[cookies].append((limit, measured))
            effect.series(f"half-open, tcp_syncookies {cookies}", law[cookies], x="backlog", unit="requests")
    with claim.control("a longer accept queue than the last quarter of tcp_max_syn_backlog allows") as control:
        knobs = Knobs(300, tcp_max_syn_backlog=128, tcp_syncookies=0)
        accepted = come_one_by_one(pair.client, listening(pair.server, knobs), 305)
        control.expect("waiting for accept()", accepted, 301)
        control.expect("half-open", flooded(pair.client, listening(pair.server, knobs), 350), 97)


@pytest.mark.slow(20)
def test_ceilings_follow_the_model(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both queues, under settings drawn at random, against harness.laws.queues."""
    monkeypatch.setenv("HYPOTHESIS_STORAGE_DIRECTORY", str(tmp_path))
    from hypothesis import given, settings
    from hypothesis import strategies as some

    every = some.builds(
        Knobs,
        backlog=some.integers(0, 300),
        somaxconn=some.integers(0, 300),
        tcp_max_syn_backlog=some.integers(1, 600),
        tcp_syncookies=some.sampled_from((0, 1, 2)),
    )

    @settings(max_examples=60, deadline=None, database=None, derandomize=True)
    @given(every)
    def follows(knobs: Knobs) -> None:
        predicted = room(knobs), ceiling(knobs)
        with listening(pair.server, knobs) as listener:
            waits = come_one_by_one(pair.client, listener, predicted[0] + 3)
        with listening(pair.server, knobs) as listener:
            assert (waits, flooded(pair.client, listener, predicted[1] + 20)) == predicted

    follows()


# What makes it longer


@pytest.mark.claim("syn-queue.grow-needs-all-three")
def test_grow_needs_all_three(claim: ClaimRun, pair: Pair) -> None:
    names = ("backlog", "somaxconn", "tcp_max_syn_backlog")

    def measured(knobs: Knobs) -> int:
        return flooded(pair.client, listening(pair.server, knobs), 600)

    for cookies in (0, 1):
        before = Knobs(128, 128, 128, cookies)
        with claim.control(f"tcp_syncookies {cookies}: all three at 128") as control:
            control.expect("half-open", measured(before), ceiling(before))
        bars: list[tuple[str, float]] = []
        with claim.effect(f"tcp_syncookies {cookies}: some raised from 128 to 512") as effect:
            for raised in product((False, True), repeat=3):
                backlog, somaxconn, max_syn_backlog = (512 if each else 128 for each in raised)
                knobs = Knobs(backlog, somaxconn, max_syn_backlog, cookies)
                which = ", ".join(name for name, each in zip(names, raised, strict=True) if each) or "nothing"
                document = ceiling(knobs if all(raised) else before)
                longest = measured(knobs)
                effect.compare(f"half-open, raised: {which}", longest, document=document, kernel=ceiling(knobs))
                bars.append((which.replace(", ", "\n"), longest))
            effect.series(f"half-open, tcp_syncookies {cookies}", bars, x="raised from 128 to 512", unit="requests")


@pytest.mark.claim("syn-queue.resize-needs-listen")
def test_resize_needs_listen(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    small, large = Knobs(512, 512, 128, 0), Knobs(512, 512, 512, 0)
    with claim.effect("tcp_max_syn_backlog raised from 128 to 512 under a listener") as effect:
        listener = listening(server, small)
        effect.premise("half-open before", flooded(client, listener, 600), ceiling(small))
        set_knobs(server, large)
        after = flooded(client, listener, 600)
        effect.compare("half-open after", after, document=ceiling(small), kernel=ceiling(large))
    small, large = Knobs(512, 128, 4096, 0), Knobs(512, 512, 4096, 0)
    with claim.effect("somaxconn raised from 128 to 512 under a listener") as effect:
        listener = listening(server, small)
        effect.premise("half-open before", flooded(client, listener, 600), ceiling(small))
        set_knobs(server, large)
        effect.compare("half-open after", flooded(client, listener, 600), document=ceiling(small))
        effect.compare("Send-Q after", listener.limit, document=128)
    with claim.control("listen() again") as control:
        listener.listen(512)
        control.expect("half-open", flooded(client, listener, 600), ceiling(large))
        control.expect("Send-Q", listener.limit, 512)
