"""The SYN queue is full: what fills it, which SYN is dropped by which rule, and what counts it."""

from __future__ import annotations

import socket
import time
from itertools import product
from typing import TYPE_CHECKING

import pytest

from harness.instruments.syn_queue import SYNCOOKIES, ceiling, flooded, listening
from harness.instruments.syns import Answers, call, knock
from harness.laws import since
from harness.laws.queues import Knobs
from harness.observe import netstat
from harness.traffic import RawPeer, connect, drop
from harness.traffic.hping3 import Hping3Flood
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.phases import LivePhase
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair
    from harness.traffic import Listener


def most_half_open(phase: LivePhase, client: Host, listener: Listener, *, spoofed: bool) -> int:
    """The most that were seen during and after a flood by hping3 that lost a thousand SYNs."""
    server = listener.host
    seen: list[tuple[float, float]] = []
    began = time.monotonic()

    def a_thousand_dropped() -> bool:
        seen.append((round(time.monotonic() - began, 4), listener.half_open))
        return phase.delta(server).TcpExt.ListenDrops >= 1000

    with Hping3Flood(client, server.ip, listener.port, spoofed=spoofed):
        until(a_thousand_dropped, deadline=30, what="a thousand SYNs dropped")
    phase.series("half-open", seen, unit="requests")
    return max(*(int(n) for _, n in seen), listener.half_open)


@pytest.mark.claim("syn-queue.flood-fills")
def test_flood_fills(claim: ClaimRun, pair: Pair) -> None:
    client, server, knobs = pair.client, pair.server, Knobs(128, tcp_syncookies=0)
    with claim.effect("1000 crafted SYNs, backlog 128, cookies off") as effect:
        effect.compare("half-open", flooded(client, listening(server, knobs), 1000), document=ceiling(knobs))
        effect.compare("dropped", effect.delta(server).TcpExt.ListenDrops, document=1000 - ceiling(knobs))
    if server.family == socket.AF_INET:  # hping3 has no IPv6
        with claim.effect("hping3 -S --flood, its SYN-ACKs lost on their way back") as effect:
            listener = listening(server, knobs)
            with drop(client, "SA", sport=listener.port):
                seen = most_half_open(effect, client, listener, spoofed=False)
            effect.compare("most half-open", seen, document=ceiling(knobs))
        with claim.effect("hping3 -S --flood --rand-source") as effect:
            server.route("default", RawPeer(server, client).address, server.family)
            server.close_netlink()
            seen = most_half_open(effect, client, listening(server, knobs), spoofed=True)
            effect.compare("most half-open", seen, document=ceiling(knobs))
        with claim.control("hping3 -S --flood, each SYN-ACK answered with RST by the client's kernel") as control:
            listener = listening(server, knobs)
            with Hping3Flood(client, server.ip, listener.port):
                until(lambda: control.delta(client).Tcp.OutRsts >= 1000, deadline=30, what="a thousand RSTs")
            until(lambda: listener.half_open == 0, what="the queue to empty")
            control.expect("half-open", listener.half_open, 0)
    with claim.control("150 real clients, which acknowledge") as control:
        listener = listening(server, knobs)
        for _ in range(150):
            connect(client, listener, wait=True)
            listener.accept()
        control.expect("half-open", listener.half_open, 0)
        control.expect("dropped", control.delta(server).TcpExt.ListenDrops, 0)


@pytest.mark.claim("syn-queue.drop-counter")
def test_drop_counter(claim: ClaimRun, pair: Pair) -> None:
    server, peer = pair.server, RawPeer(pair.server, pair.client)
    full = Knobs(20, tcp_syncookies=0)
    last_quarter = Knobs(4096, tcp_max_syn_backlog=40, tcp_syncookies=0)
    for (rule, knobs), n in product({"full": full, "in its last quarter": last_quarter}.items(), (1, 7, 20)):
        # A queue that is more than half full is thinned out when requests are a few seconds old
        # (reqsk_timer_handler()), so each measurement has one of its own, just filled.
        listener = listening(server, knobs)
        flooded(pair.client, listener, ceiling(knobs))
        with claim.effect(f"{n} SYNs at a queue that is {rule}") as effect:
            before = netstat.statistic(server, netstat.SYNS_TO_LISTEN)
            effect.premise("(answered, dropped)", knock(peer, listener, n), (0, n))
            moved = effect.delta(server).TcpExt
            effect.compare("ListenDrops", moved.ListenDrops, document=n)
            printed = netstat.statistic(server, netstat.SYNS_TO_LISTEN) - before
            effect.compare('netstat -s | grep "SYNs to LISTEN"', printed, document=n)
            effect.premise("TCPReqQFullDrop", moved.TCPReqQFullDrop, n if knobs is full else 0)
            effect.premise("ListenOverflows", moved.ListenOverflows, 0)
    with claim.control("20 SYNs at a queue with room") as control:
        before = netstat.statistic(server, netstat.SYNS_TO_LISTEN)
        control.expect("(answered, dropped)", knock(peer, listening(server, Knobs(50)), 20), (20, 0))
        moved = control.delta(server).TcpExt
        control.expect("(ListenDrops, TCPReqQFullDrop)", (moved.ListenDrops, moved.TCPReqQFullDrop), (0, 0))
        printed = netstat.statistic(server, netstat.SYNS_TO_LISTEN) - before
        control.expect('netstat -s | grep "SYNs to LISTEN"', printed, 0)


@pytest.mark.claim("syn-queue.drop-rule-full")
def test_drop_rule_full(claim: ClaimRun, pair: Pair) -> None:
    server, peer = pair.server, RawPeer(pair.server, pair.client)
    for backlog in (1, 10, 60):
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
            effect.premise("ListenOverflows", effect.delta(server).TcpExt.ListenOverflows, answers.dropped)
        with claim.control(f"tcp_syncookies {cookies}, {young} young requests, one connection accepted") as control:
            listener.accept()
            control.expect("(answered, dropped) of a SYN", knock(peer, listener), (1, 0))


def become_known(client: Host, listener: Listener) -> None:
    """Let the server measure a round trip to the client in a connection that ends well."""
    server = listener.host
    with connect(client, listener, wait=True):
        (accepted,) = listener.accept()
    accepted.close()
    until(lambda: " rtt " in server.run("ip", "tcp_metrics", "show", client.ip).stdout, what="metrics of the client")


@pytest.mark.claim("syn-queue.drop-rule-last-quarter")
def test_drop_rule_last_quarter(claim: ClaimRun, pair: Pair) -> None:
    server, client, unknown = pair.server, pair.client, RawPeer(pair.server, pair.client)
    known = Answers(1, 0) if since("peers-are-known-by-round-trip") else Answers(0, 1)
    for max_syn_backlog in (7, 128, 402):
        fit = max_syn_backlog - (max_syn_backlog >> 2) + 1
        listener = listening(server, Knobs(4096, tcp_max_syn_backlog=max_syn_backlog, tcp_syncookies=0))
        become_known(client, listener)
        with claim.effect(f"tcp_max_syn_backlog {max_syn_backlog}, cookies off, no limit but this one") as effect:
            effect.premise("half-open", flooded(client, listener, fit - 1), fit - 1)
            effect.compare(f"(answered, dropped) of a SYN at {fit - 1}", knock(unknown, listener), document=(1, 0))
            effect.compare(f"(answered, dropped) of a SYN at {fit}", knock(unknown, listener), document=(0, 1))
            effect.compare("half-open", listener.half_open, document=fit)
            effect.premise("TCPReqQFullDrop", effect.delta(server).TcpExt.TCPReqQFullDrop, 0)
        with claim.control(f"tcp_max_syn_backlog {max_syn_backlog}: a peer that the kernel knows") as control:
            control.expect("(answered, dropped) of its SYN", call(client, listener), known)
        with claim.control(f"tcp_max_syn_backlog {max_syn_backlog}: cookies on") as control:
            server.sysctl[SYNCOOKIES] = 1
            control.expect("(answered, dropped) of a SYN", knock(unknown, listener), (1, 0))
            control.expect("half-open", listener.half_open, fit + 1)
