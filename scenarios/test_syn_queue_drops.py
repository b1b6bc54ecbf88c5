"""The SYN queue is full: which SYN is dropped by which rule."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from harness.instruments.accept_queue import overflow
from harness.instruments.syn_queue import SYNCOOKIES, ceiling, flooded, listening
from harness.instruments.syns import Answers, become_known, call, knock
from harness.laws import since
from harness.laws.queues import Knobs
from harness.laws.ranges import at_least
from harness.traffic import RawPeer, connect
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

ABORT = "net.ipv4.tcp_abort_on_overflow"


@pytest.mark.claim("syn-queue.overflow-resets")
def test_overflow_resets(claim: ClaimRun, pair: Pair) -> None:
    server, peer = pair.server, RawPeer(pair.server, pair.client)
    full = Knobs(3, tcp_syncookies=0)
    last_quarter = Knobs(100, tcp_max_syn_backlog=4, tcp_syncookies=0)
    for value, (rule, knobs) in product((0, 1), {"full": full, "in its last quarter": last_quarter}.items()):
        server.sysctl[ABORT] = value
        listener = listening(server, knobs)
        flooded(pair.client, listener, 20)
        with claim.effect(f"tcp_abort_on_overflow {value}, five SYNs at a SYN queue that is {rule}") as effect:
            effect.compare("SYNs dropped", knock(peer, listener, 5).dropped, document=5)
            resets = at_least(1) if value else 0
            effect.compare("RSTs sent", effect.delta(server).Tcp.OutRsts, document=resets, kernel=0)
    with claim.control("tcp_abort_on_overflow 1, three handshakes end at a full accept queue") as control:
        server.sysctl[SYNCOOKIES] = 1  # for those that fill it, where three half-open ones fill the SYN queue
        clients = overflow(pair.client, server, 3).late
        until(lambda: clients.fates()["open"] == 0, what="the RSTs to arrive")
        control.expect("what the clients see", dict(clients.fates()), {"ECONNRESET": 3})


@pytest.mark.claim("syn-queue.drop-rule-full")
def test_drop_rule_full(claim: ClaimRun, pair: Pair) -> None:
    server, peer = pair.server, RawPeer(pair.server, pair.client)
    for backlog in (1, 2, 3):
        knobs = Knobs(backlog, tcp_syncookies=0)
        with claim.effect(f"backlog {backlog}, cookies off: one SYN more than fits") as effect:
            listener, room = listening(server, knobs), ceiling(knobs)
            effect.premise("(answered, dropped) of those that fit", knock(peer, listener, room), (room, 0))
            effect.compare("(answered, dropped) of one more", knock(peer, listener), document=(0, 1))
            effect.compare("TCPReqQFullDrop", effect.delta(server).TcpExt.TCPReqQFullDrop, document=1)
        with claim.control(f"backlog {backlog}, as full, cookies on") as control:
            server.sysctl[SYNCOOKIES] = 1
            control.expect("half-open", listener.half_open, room)
            control.expect("(answered, dropped) of one more", knock(peer, listener), (1, 0))
            control.expect("SyncookiesSent", control.delta(server).TcpExt.SyncookiesSent, 1)


@pytest.mark.claim("syn-queue.drop-rule-accept-full")
def test_drop_rule_accept_full(claim: ClaimRun, pair: Pair) -> None:
    server, peer = pair.server, RawPeer(pair.server, pair.client)
    always = since("accept-queue-full-drops-syns")
    for cookies, young in product((0, 1), (0, 1, 2, 3)):
        with claim.effect(f"tcp_syncookies {cookies}, {young} young requests, then a full accept queue") as effect:
            listener = listening(server, Knobs(5, tcp_syncookies=cookies))
            connect(pair.client, listener, 5, wait=True)
            effect.premise("(answered, dropped) of the young", knock(peer, listener, young), (young, 0))
            connect(pair.client, listener, wait=True)
            until(lambda listener=listener: listener.waiting == 6, what="a full accept queue")  # type: ignore[misc]
            effect.premise("half-open", listener.half_open, young)
            document, kernel = ((0, 1) if full else (1, 0) for full in (young > 1, young > 1 or always))
            answers = knock(peer, listener)
            effect.compare("(answered, dropped) of a SYN", answers, document=document, kernel=kernel)
            overflows = effect.delta(server).TcpExt.ListenOverflows
            effect.compare("ListenOverflows", overflows, document=document[1], kernel=answers.dropped)
        with claim.control(f"tcp_syncookies {cookies}, {young} young requests, one connection accepted") as control:
            listener.accept()
            control.expect("(answered, dropped) of a SYN", knock(peer, listener), (1, 0))


@pytest.mark.claim("syn-queue.drop-rule-last-quarter")
def test_drop_rule_last_quarter(claim: ClaimRun, pair: Pair) -> None:
    server, client, unknown = pair.server, pair.client, RawPeer(pair.server, pair.client)
    for max_syn_backlog in (7, 128, 402):
        fit = max_syn_backlog - (max_syn_backlog >> 2) + 1
        listener = listening(server, Knobs(4096, tcp_max_syn_backlog=max_syn_backlog, tcp_syncookies=0))
        with claim.effect(f"tcp_max_syn_backlog {max_syn_backlog}, cookies off, no limit but this one") as effect:
            effect.compare("half-open, of as many SYNs", flooded(client, listener, fit - 1), document=fit - 1)
            effect.compare(f"(answered, dropped) of a SYN at {fit - 1}", knock(unknown, listener), document=(1, 0))
            effect.compare(f"(answered, dropped) of a SYN at {fit}", knock(unknown, listener), document=(0, 1))
            effect.compare("half-open", listener.half_open, document=fit)
            effect.premise("TCPReqQFullDrop", effect.delta(server).TcpExt.TCPReqQFullDrop, 0)
        with claim.control(f"tcp_max_syn_backlog {max_syn_backlog}: cookies on") as control:
            server.sysctl[SYNCOOKIES] = 1
            control.expect("(answered, dropped) of a SYN", knock(unknown, listener), (1, 0))
            control.expect("half-open", listener.half_open, fit + 1)


@pytest.mark.claim("syn-queue.last-quarter-spares-nobody")
def test_last_quarter_spares_nobody(claim: ClaimRun, pair: Pair) -> None:
    server, client, stranger = pair.server, pair.client, RawPeer(pair.server, pair.client)
    known = Answers(1, 0) if since("peers-are-known-by-round-trip") else Answers(0, 1)
    become_known(client, server)
    for max_syn_backlog in (7, 128):
        fit = max_syn_backlog - (max_syn_backlog >> 2) + 1
        listener = listening(server, Knobs(4096, tcp_max_syn_backlog=max_syn_backlog, tcp_syncookies=0))
        flooded(client, listener, 2 * max_syn_backlog)
        with claim.control(f"tcp_max_syn_backlog {max_syn_backlog}, {fit} half-open: a SYN of a stranger") as control:
            control.expect("half-open", listener.half_open, fit)
            control.expect("(answered, dropped)", knock(stranger, listener), (0, 1))
        with claim.effect(
            f"tcp_max_syn_backlog {max_syn_backlog}, {fit} half-open: a SYN of a peer with a round trip on record"
        ) as effect:
            effect.compare("(answered, dropped)", call(client, listener), document=(0, 1), kernel=known)
