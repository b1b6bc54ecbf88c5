"""The SYN queue: how many requests stay half-open, for how long, which SYN is dropped, and what helps in a flood."""

from __future__ import annotations

import re
import socket
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness.errors import NotReady
from harness.laws import queues
from harness.laws.kernel import running
from harness.laws.queues import Knobs
from harness.laws.ranges import at_least, between
from harness.observe import accept_queue, count, counters, half_open, sockets
from harness.traffic import RawPeer, connect, drop, echo, flood, listen
from harness.traffic.hping3 import Hping3Flood
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.claims.phases import Phase
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lan, Pair
    from harness.laws.ranges import Range
    from harness.observe import Counters
    from harness.traffic import Attempts, Listener, RawConnection

SOMAXCONN = "net.core.somaxconn"
MAX_SYN_BACKLOG = "net.ipv4.tcp_max_syn_backlog"
SYNCOOKIES = "net.ipv4.tcp_syncookies"
SYNACK_RETRIES = "net.ipv4.tcp_synack_retries"

# SYNs a second: a queue of a thousand is full in a moment, and no packet is lost on the way to it.
PACE = 20_000


def set_knobs(server: Host, knobs: Knobs) -> None:
    """Put the three sysctls in force."""
    server.sysctl[SOMAXCONN] = knobs.somaxconn
    server.sysctl[MAX_SYN_BACKLOG] = knobs.tcp_max_syn_backlog
    server.sysctl[SYNCOOKIES] = knobs.tcp_syncookies


def listening(server: Host, knobs: Knobs) -> Listener:
    """A listener under these settings; nobody accepts."""
    set_knobs(server, knobs)
    return listen(server, knobs.backlog)


def ceiling(knobs: Knobs) -> int:
    """How many requests the running kernel should leave half-open."""
    return queues.half_open(running(), knobs)


def syn_recv(listener: Listener) -> int:
    """How many requests of a listener are half-open."""
    return half_open(listener.host, listener.port)


def waiting(listener: Listener) -> int:
    """How many connections wait for accept()."""
    return accept_queue(listener.host, listener.port).waiting


def flooded(near: Host, listener: Listener, n: int) -> int:
    """How many requests are half-open when the kernel has dealt with n SYNs that nobody will acknowledge.

    They are the same n each time: of those that are half-open already, a second flood makes no new requests.
    """
    before = counters(listener.host)
    flood(listener.host, near, listener, count=n, rate=PACE).wait()
    until(lambda: dealt_with(listener, before) >= n, what=f"{n} SYNs half-open, dropped or answered with a cookie")
    return syn_recv(listener)


def dealt_with(listener: Listener, before: Counters) -> int:
    """How many SYNs are half-open, were dropped, or were answered with a cookie."""
    moved = (counters(listener.host) - before).TcpExt
    return syn_recv(listener) + moved.ListenDrops + moved.SyncookiesSent


class Answers(NamedTuple):
    """What became of SYNs: how many got a SYN-ACK, how many were dropped."""

    answered: int
    dropped: int


def knock(peer: RawPeer, listener: Listener, n: int = 1) -> Answers:
    """Send n SYNs from a peer's fresh ports; returns when the kernel has answered or dropped each."""
    host, before = listener.host, counters(listener.host)
    ports = {connection.port for connection in peer.half_open(listener, n)}

    def answers() -> Answers:
        answered = ports & {reply.dport for reply in peer.poll() if str(reply.flags) == "SA"}
        return Answers(len(answered), (counters(host) - before).TcpExt.ListenDrops)

    until(lambda: sum(answers()) >= n, what=f"{n} SYNs answered or dropped")
    return answers()


def call(client: Host, listener: Listener) -> Answers:
    """What became of the SYN of one real client."""
    before, attempt = counters(listener.host), connect(client, listener)

    def answers() -> Answers:
        return Answers(attempt.connected, (counters(listener.host) - before).TcpExt.ListenDrops)

    until(lambda: sum(answers()), what="a client connected or its SYN dropped")
    return answers()


def queued(client: Host, listener: Listener, n: int) -> int:
    """How many connections wait for accept() after n real clients have come, one after another."""
    host, before = listener.host, counters(listener.host)
    with ExitStack() as clients:
        for i in range(1, n + 1):
            clients.enter_context(connect(client, listener))
            until(
                lambda i=i: waiting(listener) + (counters(host) - before).TcpExt.ListenDrops >= i,  # type: ignore[misc]
                what=f"client {i} waiting or refused",
            )
        return waiting(listener)


def timer(seconds: float) -> Range:
    """What a kernel timer of so many seconds may take.

    It ends at a step of the timer wheel, which are up to an eighth of the time apart (kernel/time/timer.c, since 4.8;
    a tick before that), and is noticed half a second later at worst.
    """
    return between(seconds - 0.02, seconds * 1.125 + 0.5)


class Lifetime(NamedTuple):
    """How long a request lived, in seconds: at least until it was last seen, at most until it was first missed."""

    at_least: float
    at_most: float


@dataclass(frozen=True)
class EndsAfter:
    """A lifetime that ends with a kernel timer of so many seconds, which `timer` says how long may take.

    On a busy machine we look seldom; what counts is that the timer can have ended between two looks.
    """

    seconds: float

    def accepts(self, measured: Lifetime) -> bool:
        """Whether it does."""
        return measured.at_most >= self.seconds - 0.02 and measured.at_least <= self.seconds * 1.125 + 0.1

    def __repr__(self) -> str:
        return f"{self.seconds:g} s, a step of the timer wheel later at most"


class Request:
    """A half-open request, alone on its listener, that is looked at now and then."""

    def __init__(self, peer: RawPeer, listener: Listener) -> None:
        self.listener = listener
        self.connection = peer.connection(listener)
        self._sent = time.monotonic()
        self.connection.syn()
        self._seen = self._answered = time.monotonic()
        self._missed: float | None = None

    def gone(self) -> bool:
        """Look whether it is gone."""
        looked = time.monotonic()
        if self._missed is None:
            if syn_recv(self.listener):
                self._seen = looked
            else:
                self._missed = time.monotonic()
        return self._missed is not None

    @property
    def lifetime(self) -> Lifetime:
        """Its lifetime, once it is gone."""
        assert self._missed is not None
        return Lifetime(self._seen - self._answered, self._missed - self._sent)


# What the queue is


@pytest.mark.claim("syn-queue.handshake-path")
def test_handshake_path(claim: ClaimRun, pair: Pair) -> None:
    listener, peer = listen(pair.server, 10), RawPeer(pair.server, pair.client)

    def queues() -> tuple[int, int]:
        return syn_recv(listener), waiting(listener)

    def state(port: int) -> list[str]:
        return [found.state for found in sockets(pair.server, f"dport = :{port}")]

    with claim.effect("a peer sends its SYN, then its ACK; then the server accepts") as effect:
        connection = peer.connection(listener)
        connection.syn()
        effect.compare("(half-open, waiting) after the SYN", queues(), document=(1, 0))
        effect.compare("state after the SYN", state(connection.port), document=["SYN-RECV"])
        connection.send("A")
        until(lambda: queues() != (1, 0), what="the ACK to arrive")
        effect.compare("(half-open, waiting) after the ACK", queues(), document=(0, 1))
        effect.compare("state after the ACK", state(connection.port), document=["ESTAB"])
        accepted = listener.accept()
        effect.compare("connections that accept() returned", len(accepted), document=1)
        effect.compare("(half-open, waiting) after accept()", queues(), document=(0, 0))
        effect.compare("state after accept()", state(connection.port), document=["ESTAB"])
    with claim.control("a SYN whose ACK does not come, an ACK whose SYN did not come") as control:
        peer.connection(listener).syn()
        control.expect("(half-open, waiting) without the ACK", queues(), (1, 0))
        stray = peer.connection(listener)
        stray.send("A", ack=1)
        stray.wait("R")
        control.expect("(half-open, waiting) after a stray ACK", queues(), (1, 0))
        control.expect("connections to accept", listener.accept_all(), [])


@pytest.mark.claim("syn-queue.length-is-syn-recv")
def test_length_is_syn_recv(claim: ClaimRun, pair: Pair) -> None:
    server, peer = pair.server, RawPeer(pair.server, pair.client)
    listener = listen(server, 50)
    requests: list[RawConnection] = []

    def netstat() -> int:
        return sum("SYN_RECV" in line for line in server.run("netstat", "-natp").stdout.splitlines())

    def columns() -> tuple[int, ...]:
        (row,) = server.run("ss", "-lnt", f"sport = :{listener.port}").stdout.splitlines()[1:]
        return tuple(int(column) for column in row.split()[1:3])

    for length in (1, 5, 20):
        with claim.effect(f"{length} requests half-open, backlog 50") as effect:
            for _ in range(length - len(requests)):
                requests.append(peer.connection(listener))
                requests[-1].syn()
            effect.compare("SYN-RECV sockets, inet_diag", count(server, "state syn-recv"), document=length)
            effect.compare("netstat -natp | grep SYN_RECV | wc -l", netstat(), document=length)
            effect.compare("(Recv-Q, Send-Q) of the listener, ss -lnt", columns(), document=(0, 50))
            listed = server.run("ss", "-tan", "state", "syn-recv").stdout.splitlines()[1:]
            effect.premise("lines of ss -tan state syn-recv", len(listed), length)
    with claim.control("the same requests, acknowledged") as control:
        for request in requests:
            request.send("A")
        until(lambda: syn_recv(listener) == 0, what="all handshakes to end")
        control.expect("SYN-RECV sockets, inet_diag", count(server, "state syn-recv"), 0)
        control.expect("netstat -natp | grep SYN_RECV | wc -l", netstat(), 0)
        control.expect("(Recv-Q, Send-Q) of the listener, ss -lnt", columns(), (20, 50))


# How it fills


@pytest.mark.claim("syn-queue.flood-fills")
def test_flood_fills(claim: ClaimRun, pair: Pair) -> None:
    client, server, knobs = pair.client, pair.server, Knobs(128, tcp_syncookies=0)

    def most_half_open(listener: Listener, phase: Phase, *, spoofed: bool) -> int:
        """The most that were seen during and after a flood by hping3 that lost a thousand SYNs."""
        seen: list[tuple[float, float]] = []
        began = time.monotonic()

        def a_thousand_dropped() -> bool:
            seen.append((round(time.monotonic() - began, 4), syn_recv(listener)))
            return phase.delta(server).TcpExt.ListenDrops >= 1000

        with Hping3Flood(client, server.ip, listener.port, spoofed=spoofed):
            until(a_thousand_dropped, deadline=30, what="a thousand SYNs dropped")
        phase.series("half-open", seen, unit="requests")
        return max(*(int(n) for _, n in seen), syn_recv(listener))

    with claim.effect("1000 crafted SYNs, backlog 128, cookies off") as effect:
        effect.compare("half-open", flooded(client, listening(server, knobs), 1000), document=ceiling(knobs))
        effect.compare("dropped", effect.delta(server).TcpExt.ListenDrops, document=1000 - ceiling(knobs))
    if server.family == socket.AF_INET:  # hping3 has no IPv6
        with claim.effect("hping3 -S --flood, its SYN-ACKs lost on their way back") as effect:
            listener = listening(server, knobs)
            with drop(client, "SA", sport=listener.port):
                seen = most_half_open(listener, effect, spoofed=False)
            effect.compare("most half-open", seen, document=ceiling(knobs))
        with claim.effect("hping3 -S --flood --rand-source") as effect:
            server.route("default", RawPeer(server, client).address, server.family)
            server.close_netlink()
            seen = most_half_open(listening(server, knobs), effect, spoofed=True)
            effect.compare("most half-open", seen, document=ceiling(knobs))
        with claim.control("hping3 -S --flood, each SYN-ACK answered with RST by the client's kernel") as control:
            listener = listening(server, knobs)
            with Hping3Flood(client, server.ip, listener.port):
                until(lambda: control.delta(client).Tcp.OutRsts >= 1000, deadline=30, what="a thousand RSTs")
            until(lambda: syn_recv(listener) == 0, what="the queue to empty")
            control.expect("half-open", syn_recv(listener), 0)
    with claim.control("150 real clients, which acknowledge") as control:
        listener = listening(server, knobs)
        for _ in range(150):
            connect(client, listener, wait=True)
            listener.accept()
        control.expect("half-open", syn_recv(listener), 0)
        control.expect("dropped", control.delta(server).TcpExt.ListenDrops, 0)


@pytest.mark.claim("syn-queue.drop-counter")
def test_drop_counter(claim: ClaimRun, pair: Pair) -> None:
    server, peer = pair.server, RawPeer(pair.server, pair.client)

    def netstat() -> int:
        found = re.search(r"(\d+) SYNs to LISTEN sockets dropped", server.run("netstat", "-s").stdout)
        return int(found[1]) if found else 0

    full = Knobs(20, tcp_syncookies=0)
    last_quarter = Knobs(4096, tcp_max_syn_backlog=40, tcp_syncookies=0)
    for rule, knobs in {"full": full, "in its last quarter": last_quarter}.items():
        for n in (1, 7, 20):
            # A queue that is more than half full is thinned out when requests are a few seconds old
            # (reqsk_timer_handler()), so each measurement has one of its own, just filled.
            listener = listening(server, knobs)
            flooded(pair.client, listener, ceiling(knobs))
            with claim.effect(f"{n} SYNs at a queue that is {rule}") as effect:
                before = netstat()
                effect.premise("(answered, dropped)", knock(peer, listener, n), (0, n))
                moved = effect.delta(server).TcpExt
                effect.compare("ListenDrops", moved.ListenDrops, document=n)
                effect.compare('netstat -s | grep "SYNs to LISTEN"', netstat() - before, document=n)
                effect.premise("TCPReqQFullDrop", moved.TCPReqQFullDrop, n if knobs is full else 0)
                effect.premise("ListenOverflows", moved.ListenOverflows, 0)
    with claim.control("20 SYNs at a queue with room") as control:
        before = netstat()
        control.expect("(answered, dropped)", knock(peer, listening(server, Knobs(50)), 20), (20, 0))
        moved = control.delta(server).TcpExt
        control.expect("(ListenDrops, TCPReqQFullDrop)", (moved.ListenDrops, moved.TCPReqQFullDrop), (0, 0))
        control.expect('netstat -s | grep "SYNs to LISTEN"', netstat() - before, 0)


# How long it is

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
            accepted = queued(pair.client, listening(pair.server, knobs), limit + 5)
            effect.premise("waiting for accept()", accepted, queues.waiting(running(), knobs))
            measured = flooded(pair.client, listening(pair.server, knobs), limit + 50)
            effect.compare("half-open", measured, document=accepted, kernel=ceiling(knobs))
            law[cookies].append((limit, measured))
            effect.series(f"half-open, tcp_syncookies {cookies}", law[cookies], x="backlog", unit="requests")
    with claim.control("a longer accept queue than the last quarter of tcp_max_syn_backlog allows") as control:
        knobs = Knobs(300, tcp_max_syn_backlog=128, tcp_syncookies=0)
        accepted = queued(pair.client, listening(pair.server, knobs), 305)
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
        predicted = queues.waiting(running(), knobs), ceiling(knobs)
        with listening(pair.server, knobs) as listener:
            waits = queued(pair.client, listener, predicted[0] + 3)
        with listening(pair.server, knobs) as listener:
            assert (waits, flooded(pair.client, listener, predicted[1] + 20)) == predicted

    follows()


# Which SYN is dropped


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
            control.expect("half-open", syn_recv(listener), room)
            control.expect("(answered, dropped) of one more", knock(peer, listener), (1, 0))
            control.expect("SyncookiesSent", control.delta(server).TcpExt.SyncookiesSent, 1)


@pytest.mark.claim("syn-queue.drop-rule-accept-full")
def test_drop_rule_accept_full(claim: ClaimRun, pair: Pair) -> None:
    server, peer = pair.server, RawPeer(pair.server, pair.client)
    # 5ea8ea2cb7f1 "tcp/dccp: drop SYN packets if accept queue is full", 4.10
    always = running() >= "4.10"
    for cookies, young in product((0, 1), (0, 1, 2, 3)):
        with claim.effect(f"tcp_syncookies {cookies}, {young} young requests, then a full accept queue") as effect:
            listener = listening(server, Knobs(5, tcp_syncookies=cookies))
            connect(pair.client, listener, 5, wait=True)
            effect.premise("(answered, dropped) of the young", knock(peer, listener, young), (young, 0))
            connect(pair.client, listener, wait=True)
            until(lambda listener=listener: waiting(listener) == 6, what="a full accept queue")  # type: ignore[misc]
            effect.premise("half-open", syn_recv(listener), young)
            document, kernel = ((0, 1) if full else (1, 0) for full in (young > 1, young > 1 or always))
            answers = knock(peer, listener)
            effect.compare("(answered, dropped) of a SYN", answers, document=document, kernel=kernel)
            effect.premise("ListenOverflows", effect.delta(server).TcpExt.ListenOverflows, answers.dropped)
        with claim.control(f"tcp_syncookies {cookies}, {young} young requests, one connection accepted") as control:
            listener.accept()
            control.expect("(answered, dropped) of a SYN", knock(peer, listener), (1, 0))


@pytest.mark.claim("syn-queue.drop-rule-last-quarter")
def test_drop_rule_last_quarter(claim: ClaimRun, pair: Pair) -> None:
    server, client, unknown = pair.server, pair.client, RawPeer(pair.server, pair.client)

    # d82bae12dc38 "tcp: remove per-destination timestamp cache", 4.12: before it, only tcp_tw_recycle made peers known.
    known = Answers(1, 0) if running() >= "4.12" else Answers(0, 1)

    def become_known(listener: Listener) -> None:
        """Let the server measure a round trip to the client in a connection that ends well."""
        with connect(client, listener, wait=True):
            (accepted,) = listener.accept()
        accepted.close()
        until(
            lambda: " rtt " in server.run("ip", "tcp_metrics", "show", client.ip).stdout, what="metrics of the client"
        )

    for max_syn_backlog in (7, 128, 402):
        fit = max_syn_backlog - (max_syn_backlog >> 2) + 1
        listener = listening(server, Knobs(4096, tcp_max_syn_backlog=max_syn_backlog, tcp_syncookies=0))
        become_known(listener)
        with claim.effect(f"tcp_max_syn_backlog {max_syn_backlog}, cookies off, no limit but this one") as effect:
            effect.premise("half-open", flooded(client, listener, fit - 1), fit - 1)
            effect.compare(f"(answered, dropped) of a SYN at {fit - 1}", knock(unknown, listener), document=(1, 0))
            effect.compare(f"(answered, dropped) of a SYN at {fit}", knock(unknown, listener), document=(0, 1))
            effect.compare("half-open", syn_recv(listener), document=fit)
            effect.premise("TCPReqQFullDrop", effect.delta(server).TcpExt.TCPReqQFullDrop, 0)
        with claim.control(f"tcp_max_syn_backlog {max_syn_backlog}: a peer that the kernel knows") as control:
            control.expect("(answered, dropped) of its SYN", call(client, listener), known)
        with claim.control(f"tcp_max_syn_backlog {max_syn_backlog}: cookies on") as control:
            server.sysctl[SYNCOOKIES] = 1
            control.expect("(answered, dropped) of a SYN", knock(unknown, listener), (1, 0))
            control.expect("half-open", syn_recv(listener), fit + 1)


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
        effect.compare("Send-Q after", accept_queue(server, listener.port).limit, document=128)
    with claim.control("listen() again") as control:
        listener.listen(512)
        control.expect("half-open", flooded(client, listener, 600), ceiling(large))
        control.expect("Send-Q", accept_queue(server, listener.port).limit, 512)


# How long a request lives


@pytest.mark.slow(64)
@pytest.mark.claim("syn-queue.fewer-retries-evict-sooner")
def test_fewer_retries_evict_sooner(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    client, *servers = lan(7).hosts
    requests = []
    with claim.effect("a half-open request at each of six servers, tcp_synack_retries 0, 1, 2, 3, 4 and 5") as effect:
        for retries, server in enumerate(servers):
            effect.premise("retries by default", server.sysctl[SYNACK_RETRIES], "5")
            server.sysctl[SYNACK_RETRIES] = retries
            requests.append(Request(RawPeer(server, client), listen(server)))
        until(lambda: [request.gone() for request in requests][:5] == [True] * 5, deadline=45, what="five to be gone")
        for retries, request in enumerate(requests[:5]):
            effect.compare(f"lifetime, {retries} retries", request.lifetime, document=EndsAfter(2 ** (retries + 1) - 1))
        effect.series(
            "lifetime", [(n, request.lifetime.at_most) for n, request in enumerate(requests[:5])], x="retries", unit="s"
        )
    with claim.control("the sixth, with the default of 5") as control:
        until(requests[5].gone, deadline=60, what="the sixth to be gone")
        control.expect("lifetime, 5 retries", requests[5].lifetime, EndsAfter(63))


@pytest.mark.slow(16)
@pytest.mark.claim("syn-queue.retries-then-closed")
def test_retries_then_closed(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    client, *servers = lan(4).hosts
    captures = [claim.capture(server) for server in servers]
    acknowledged, requests = [], []

    with claim.effect("a request at each of three servers that is never acknowledged, 1, 2 and 3 retries") as effect:
        for retries, server in enumerate(servers, start=1):
            server.sysctl[SYNACK_RETRIES] = retries
            listener, other, peer = listen(server), listen(server), RawPeer(server, client)
            requests.append(Request(peer, listener))
            acknowledged.append(peer.connection(other))
            acknowledged[-1].handshake()
        until(lambda: all([request.gone() for request in requests]), deadline=30, what="all requests to be gone")  # noqa: C419
        for retries, server in enumerate(servers, start=1):
            connection = requests[retries - 1].connection
            times = [sent.time for sent in captures[retries - 1].segments(flags="SA", dport=connection.port)]
            effect.compare(f"SYN-ACKs, {retries} retries", len(times), document=1 + retries)
            for n, (earlier, later) in enumerate(pairwise(times)):
                effect.compare(f"seconds from SYN-ACK {n + 1} to the next", later - earlier, document=timer(2**n))
            lifetime = requests[retries - 1].lifetime
            effect.compare(f"lifetime, {retries} retries", lifetime, document=EndsAfter(2 ** (retries + 1) - 1))
            effect.compare("TCPSynRetrans", effect.delta(server).TcpExt.TCPSynRetrans, document=retries)
            connection.send("A")
            effect.compare("answer to an ACK after that", str(connection.wait("R").flags), document="R")
    with claim.control("requests at the same servers that were acknowledged at once") as control:
        for retries, server in enumerate(servers, start=1):
            port = acknowledged[retries - 1].port
            sent = captures[retries - 1].segments(flags="SA", dport=port)
            control.expect(f"SYN-ACKs, {retries} retries", len(sent), 1)
            control.expect("state", [found.state for found in sockets(server, f"dport = :{port}")], ["ESTAB"])


# What helps in a flood

UNDEFENDED = Knobs(backlog=200, somaxconn=200, tcp_max_syn_backlog=512, tcp_syncookies=0)
LONGER = Knobs(backlog=1024, somaxconn=1024, tcp_max_syn_backlog=1024, tcp_syncookies=0)
DEFENCES = {
    "none": (UNDEFENDED, 5),
    "a longer queue": (LONGER, 5),
    "cookies": (Knobs(200, 200, 512, tcp_syncookies=1), 5),
    "fewer retries": (UNDEFENDED, 1),
    "all three": (Knobs(1024, 1024, 1024, tcp_syncookies=1), 1),
}


def defended_by(name: str, server: Host) -> Host:
    """The server, with a defence in force."""
    knobs, retries = DEFENCES[name]
    set_knobs(server, knobs)
    server.sysctl[SYNACK_RETRIES] = retries
    return server


@pytest.mark.slow(20)
@pytest.mark.claim("syn-queue.defences-compared")
def test_defences_compared(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    client, *hosts = lan(1 + len(DEFENCES)).hosts
    servers = {name: defended_by(name, server) for name, server in zip(DEFENCES, hosts, strict=True)}

    def services() -> dict[str, Listener]:
        return {name: listen(servers[name], knobs.backlog, answer=echo) for name, (knobs, _) in DEFENCES.items()}

    def served(services: dict[str, Listener], *, through: set[str]) -> dict[str, int]:
        """Of ten clients of each service, how many are answered by the time that those `through` the flood are."""
        clients: dict[str, Attempts] = {name: connect(client, each, 10) for name, each in services.items()}
        for name in through:
            with suppress(NotReady):
                clients[name].wait()
        return {name: attempts.ask() for name, attempts in clients.items()}

    defended = set(DEFENCES) - {"none"}
    # Until a request is 7 s old none leaves a full queue, which is when the kernel begins to give up requests early
    # (net/ipv4/inet_connection_sock.c, reqsk_timer_handler()); at this rate a queue of 200 is full after 5 s. With one
    # retry a request leaves after 3 s, and no more than 140 are there at a time.
    with claim.effect("40 SYNs a second that are never acknowledged, until queues of 200 are full") as effect:
        under_flood = services()
        floods = [flood(each.host, client, each, rate=40, seconds=60, distinct=400) for each in under_flood.values()]
        full = ceiling(UNDEFENDED)
        until(lambda: all(each.sent >= full for each in floods), deadline=20, what="enough SYNs to fill a queue of 200")
        for name in ("none", "cookies"):
            until(lambda name=name: syn_recv(under_flood[name]) == full, what=f"a full queue, {name}")  # type: ignore[misc]
        got_through = served(under_flood, through=defended)
        for name in sorted(defended):
            moved = effect.delta(servers[name]).TcpExt
            effect.compare(f"clients of 10 served, {name}", got_through[name], document=10)
            effect.premise(f"dropped, {name}", moved.ListenDrops, 0)
            effect.premise(f"of them by a cookie, {name}", moved.SyncookiesRecv, 10 if name == "cookies" else 0)
        effect.note("half-open", {name: syn_recv(each) for name, each in under_flood.items()})
        effect.series("served under the flood", list(got_through.items()), x="defence", unit="clients of 10")
    with claim.control("the same flood without a defence") as control:
        control.expect("clients of 10 served", got_through["none"], 0)
        for running_flood in floods:
            running_flood.stop()
    with claim.control("no flood and no defence") as control:
        control.expect("clients of 10 served", served(services(), through=set(DEFENCES))["none"], 10)
    with claim.control(
        "1000 SYNs at once: more than the longer queue holds, and sooner than a request leaves"
    ) as control:
        at_once = services()
        before = {name: counters(server) for name, server in servers.items()}
        for one in [flood(each.host, client, each, count=1000, rate=PACE) for each in at_once.values()]:
            one.wait()
        for name, each in at_once.items():
            until(lambda name=name, each=each: dealt_with(each, before[name]) >= 1000, what="1000 SYNs dealt with")  # type: ignore[misc]
        lost = {name: -counters(server).TcpExt.ListenDrops for name, server in servers.items()}
        in_time = served(at_once, through={"cookies", "all three"})
        for name, server in servers.items():
            lost[name] += counters(server).TcpExt.ListenDrops
            helped = name in ("cookies", "all three")
            control.expect(f"clients of 10 served, {name}", in_time[name], 10 if helped else 0)
            control.expect(f"SYNs of clients dropped, {name}", lost[name], 0 if helped else at_least(10))
