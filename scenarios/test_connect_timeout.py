"""How long connect() tries, when a segment is sent again, and when a connection is given up: the documents' tables."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import pytest

from harness.errors import CounterMissing, Unsupported
from harness.laws.kernel import running
from harness.laws.ranges import at_least, at_most, between
from harness.laws.timers import HZ, JIFFY, LATE, RTO_MAX, RTO_MIN, about, doubling, granularity, syn_waits
from harness.observe import sockets
from harness.traffic import RawPeer, connect, drop, echo, hold, listen
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lan, Pair
    from harness.laws.ranges import Range
    from harness.observe import Capture, Socket, TcpInfo, Timer
    from harness.traffic import Listener

SYN_RETRIES = "net.ipv4.tcp_syn_retries"
LINEAR = "net.ipv4.tcp_syn_linear_timeouts"
RETRIES2 = "net.ipv4.tcp_retries2"
RTO_MIN_SYSCTL = "net.ipv4.tcp_rto_min_us"
RTO_MAX_SYSCTL = "net.ipv4.tcp_rto_max_ms"

# Document 004: tcp_syn_retries, and after how many seconds connect() fails.
TABLE = {1: 3, 2: 7, 3: 15, 4: 31, 5: 63}

LONGEST = RTO_MAX + max(granularity(RTO_MAX, hz) for hz in HZ) + LATE


def documented(retries: int, linear: int) -> Range:
    """What counts as the document's time: nothing that the kernel's own law accounts for, where that is another."""
    law = syn_waits(retries, linear)
    late = LATE if sum(law) == TABLE[retries] else min(LATE, abs(sum(law) - TABLE[retries]) / 5)
    return about(*doubling(1, retries), late=late)


@dataclass
class Ends:
    """Sockets that the kernel will end with an error, and when it did."""

    poll: select.poll = field(default_factory=select.poll)
    open: dict[int, socket.socket] = field(default_factory=dict)
    error: dict[socket.socket, str] = field(default_factory=dict)
    at: dict[socket.socket, float] = field(default_factory=dict)

    def watch(self, *connections: socket.socket) -> None:
        for connection in connections:
            self.poll.register(connection, 0)
            self.open[connection.fileno()] = connection

    def wait(self, wanted: Iterable[socket.socket], deadline: float) -> None:
        """Sleep until each of these has its error; the times are seconds since the epoch, as in a capture."""
        waited_for = set(wanted)
        give_up = time.monotonic() + deadline
        while waited_for - self.at.keys() and time.monotonic() < give_up:
            for descriptor, _ in self.poll.poll(1000):
                now = time.time()
                self.poll.unregister(descriptor)
                ended = self.open.pop(descriptor)
                self.at[ended] = now
                self.error[ended] = errno.errorcode[ended.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)]
        assert not waited_for - self.at.keys(), f"{len(waited_for - self.at.keys())} not ended within {deadline} s"


def rounds(values: Sequence[int]) -> list[Sequence[int]]:
    """What can be tried side by side: each client with a value of its own, where the kernel has it for each.

    6fa251663069 "ipv4: Namespaceify tcp syn retries sysctl knob", 4.6; tcp_retries2 in the same release.
    """
    return [values] if running() >= "4.6" else [[value] for value in values]


def linear_timeouts(host: Host) -> int:
    """tcp_syn_linear_timeouts, 0 where there is none: ccce324dabfe "tcp: make the first N SYN RTO backoffs linear"."""
    return int(host.sysctl[LINEAR]) if LINEAR in host.sysctl else 0


def the(host: Host, connection: socket.socket) -> Socket:
    """What inet_diag says of one connection."""
    (found,) = [s for s in sockets(host, "exclude listening") if s.inode == os.fstat(connection.fileno()).st_ino]
    return found


def tcp_info(host: Host, connection: socket.socket) -> TcpInfo:
    """TCP_INFO of one connection."""
    info = the(host, connection).info
    assert info is not None
    return info


def ss_rto(host: Host, connection: socket.socket) -> float:
    """The RTO as `ss --info` prints it, in seconds."""
    (here, there) = (f"{end[1]}" for end in (connection.getsockname(), connection.getpeername()))
    output = host.run("ss", "--tcp", "--numeric", "--info", f"sport = :{here} and dport = :{there}").stdout
    (rto,) = re.findall(r"\brto:([\d.]+)", output)
    return float(rto) / 1000


def sent(seen: Capture, host: Host, port: int) -> list[float]:
    """When data, or a SYN, was sent from a host's port, first and again, in seconds since the epoch.

    Hosts choose their ports by themselves: two may choose the same.
    """
    own = [s for s in seen.segments() if (s.src, s.sport) == (host.ip, port)]
    return [s.time for s in own if s.length or s.flags.strip("EC") == "S"]


def gaps(times: Sequence[float]) -> list[float]:
    """The seconds between one and the next."""
    return [round(later - earlier, 3) for earlier, later in pairwise(times)]


def established(client: Host, listener: Listener) -> socket.socket:
    """A real connection on which a request was answered."""
    clients = connect(client, listener, wait=True)
    assert clients.ask() == 1
    return clients[0].socket


@dataclass
class Knock:
    """A connect() from a host with tcp_syn_retries and tcp_syn_linear_timeouts of its own."""

    host: Host
    listener: Listener
    retries: int
    linear: int
    port: int = 0

    def begin(self, ends: Ends) -> socket.socket:
        self.host.sysctl[SYN_RETRIES] = self.retries
        if LINEAR in self.host.sysctl:
            self.host.sysctl[LINEAR] = self.linear
        connecting = connect(self.host, self.listener)[0].socket
        self.port = connecting.getsockname()[1]
        ends.watch(connecting)
        return connecting


def knock_all(knocks: Sequence[Knock]) -> dict[tuple[int, int], tuple[Knock, str, float]]:
    """Let all knock, side by side where the kernel lets them, until connect() has failed.

    By (tcp_syn_retries, tcp_syn_linear_timeouts): the knock, the error, and when, in seconds since the epoch.
    """
    results = {}
    for together in rounds([knock.retries for knock in knocks]):
        ends = Ends()
        begun = [(knock, knock.begin(ends)) for knock in knocks if knock.retries in together]
        longest = max(sum(syn_waits(knock.retries, knock.linear)) for knock, _ in begun)
        ends.wait([connecting for _, connecting in begun], deadline=2 * longest + 60)
        for knock, one in begun:
            results[knock.retries, knock.linear] = knock, ends.error[one], ends.at[one]
    return results


@pytest.mark.claim("connect-timeout.syn-retries-table")
@pytest.mark.slow(70)
def test_syn_retries_table(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    server, *clients = lan(11).hosts
    listener = listen(server)
    lost = drop(server, "S", dport=listener.port)
    seen = claim.capture(server, port=listener.port)
    linear = linear_timeouts(server)
    knocks = [Knock(host, listener, n, linear) for n, host in zip(TABLE, clients, strict=False)]
    if linear:
        knocks += [Knock(host, listener, n, 0) for n, host in zip(TABLE, clients[5:], strict=True)]
    with claim.effect("SYNs vanish: tcp_syn_retries 1 to 5, each on a client of its own") as effect:
        results = knock_all(knocks)
        failed_after: list[tuple[float, float]] = []
        for n in TABLE:
            knock, error, ended = results[n, linear]
            syns, law = sent(seen, knock.host, knock.port), syn_waits(n, linear)
            seconds = round(ended - syns[0], 2)
            effect.compare(f"{n} retries: the error", error, document="ETIMEDOUT")
            effect.compare(f"{n} retries: seconds", seconds, document=documented(n, linear), kernel=about(*law))
            effect.compare(f"{n} retries: SYNs sent again", len(syns) - 1, document=n, kernel=len(law) - 1)
            for gap, wait in zip(gaps(syns), law, strict=False):
                effect.premise(f"{n} retries: seconds between two SYNs", gap, about(wait))
            effect.series(f"SYNs, {n} retries", [(round(at - syns[0], 3), float(i)) for i, at in enumerate(syns)])
            failed_after.append((n, seconds))
        effect.series("connect() fails after", failed_after, x="tcp_syn_retries", unit="s")
        effect.series("the document", [(n, TABLE[n]) for n in TABLE], x="tcp_syn_retries", unit="s")
    if linear:
        with claim.control("tried at the same time: tcp_syn_linear_timeouts 0") as control:
            for n in TABLE:
                knock, error, ended = results[n, 0]
                syns = sent(seen, knock.host, knock.port)
                control.expect(f"{n} retries: the error", error, "ETIMEDOUT")
                control.expect(f"{n} retries: seconds", round(ended - syns[0], 2), about(*syn_waits(n, 0)))
                control.expect(f"{n} retries: SYNs sent again", len(syns) - 1, n)
    with claim.control("SYNs arrive") as control:
        lost.lift()
        for host in clients[:5]:
            control.expect("connect()", connect(host, listener, wait=True)[0].result, "connected")


class Blocked(threading.Thread):
    """A connect() that blocks, of an application that has set SO_SNDTIMEO, or not (None)."""

    def __init__(self, host: Host, address: tuple[str, int], patience: int | None) -> None:
        super().__init__(daemon=True)
        self.socket = host.socket()
        self.address = address
        self.patience = patience
        self.error = -1
        self.seconds = 0.0
        host.lab.on_close(self._give_up)
        if patience is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", patience, 0))
        self.start()

    def run(self) -> None:
        began = time.monotonic()
        self.error = self.socket.connect_ex(self.address)
        self.seconds = round(time.monotonic() - began, 2)

    def _give_up(self) -> None:
        """End a connect() that still blocks: a descriptor is not closed under the thread that is in it."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.join(30)
        self.socket.close()

    def result(self, deadline: float) -> str:
        """The name of the errno, or "connected"."""
        self.join(deadline)
        assert not self.is_alive(), "connect() still blocks"
        return errno.errorcode[self.error] if self.error else "connected"


@pytest.mark.claim("connect-timeout.sndtimeo-caps")
@pytest.mark.slow(8)
def test_sndtimeo_caps(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    server, *clients = lan(3).hosts
    listener = listen(server)
    tries = {1: (1, 2, 5, None), 2: (1, 3, 10, None)}
    for together in rounds(list(tries)):
        lost = drop(server, "S", dport=listener.port)
        retried = dict(zip(together, clients, strict=False))
        with claim.effect(f"SYNs vanish: tcp_syn_retries {' and '.join(map(str, together))}, SO_SNDTIMEO") as effect:
            blocked = []
            for n, host in retried.items():
                host.sysctl[SYN_RETRIES] = n
                blocked += [(n, Blocked(host, listener.address, patience)) for patience in tries[n] if patience]
            alone = [(n, Blocked(host, listener.address, None)) for n, host in retried.items()]
            ended: dict[int, list[tuple[float, float]]] = {n: [] for n in retried}
            for n, one in blocked:
                law = syn_waits(n, linear_timeouts(server))
                limits = f"{n} retries ({TABLE[n]} s), SO_SNDTIMEO {one.patience} s"
                result = one.result(deadline=120)
                assert one.patience is not None
                document = documented(n, linear_timeouts(server)) if TABLE[n] < one.patience else about(one.patience)
                kernel = about(*law) if sum(law) < one.patience else about(one.patience)
                effect.compare(f"{limits}: seconds", one.seconds, document=document, kernel=kernel)
                ended[n].append((one.patience, one.seconds))
                effect.series(f"connect() fails after, {n} retries", ended[n], x="SO_SNDTIMEO in seconds", unit="s")
                # 004 names no error. __inet_stream_connect() leaves the -EINPROGRESS that it began with.
                effect.premise(f"{limits}: errno", result, "EINPROGRESS" if one.patience < sum(law) else "ETIMEDOUT")
                if one.patience == 1:
                    effect.premise("the kernel goes on trying", the(retried[n], one.socket).state, "SYN-SENT")
        with claim.control("tried at the same time: no SO_SNDTIMEO") as control:
            for n, one in alone:
                control.expect(f"{n} retries: errno", one.result(deadline=120), "ETIMEDOUT")
                control.expect(f"{n} retries: seconds", one.seconds, about(*syn_waits(n, linear_timeouts(server))))
        with claim.control("SYNs arrive, SO_SNDTIMEO 1 s") as control:
            lost.lift()
            control.expect("connect()", Blocked(clients[0], listener.address, 1).result(deadline=30), "connected")


@pytest.mark.claim("connect-timeout.default-five")
def test_default_five(claim: ClaimRun, pair: Pair) -> None:
    def of_a_socket() -> int:
        with pair.client.socket() as fresh:
            return fresh.getsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT)

    default = 6 if running() >= "3.7" else 5
    with claim.effect("a fresh network namespace") as effect:
        effect.compare("tcp_syn_retries", int(pair.client.sysctl[SYN_RETRIES]), document=5, kernel=default)
        effect.compare("TCP_SYNCNT of a new socket", of_a_socket(), document=5, kernel=default)
    with claim.control("tcp_syn_retries set to 3") as control:
        pair.client.sysctl[SYN_RETRIES] = 3
        control.expect("tcp_syn_retries", int(pair.client.sysctl[SYN_RETRIES]), 3)
        control.expect("TCP_SYNCNT of a new socket", of_a_socket(), 3)


def last_timer(host: Host, connecting: socket.socket, retransmits: int) -> Timer | None:
    """The timer of a SYN once it has been sent again so often."""
    timer = the(host, connecting).timer
    return timer if timer and timer.retransmits >= retransmits else None


@pytest.mark.claim("connect-timeout.default-over-a-minute")
@pytest.mark.slow(70)
def test_default_over_a_minute(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    server, five, default, patient = lan(4).hosts
    listener = listen(server)
    lost = drop(server, "S", dport=listener.port)
    linear = linear_timeouts(server)
    if running() < "4.6":
        raise Unsupported("tcp_syn_retries is one for the whole machine: only the form in full size can be run")
    five.sysctl[SYN_RETRIES] = 5
    retries = int(default.sysctl[SYN_RETRIES])
    with claim.effect("SYNs vanish, the application has no timeout") as effect:
        began = time.time()
        to_five, to_default = connect(five, listener)[0].socket, connect(default, listener)[0].socket
        with_timeout = connect(patient, listener, timeout=2)
        ends = Ends()
        ends.watch(to_five, to_default)
        until(lambda: with_timeout.pending == 0, deadline=30, what="the application's own timeout")
        law = syn_waits(5, linear)
        ends.wait([to_five], deadline=2 * sum(law) + 60)
        waited = round(ends.at[to_five] - began, 2)
        effect.compare("tcp_syn_retries 5: seconds", waited, document=at_least(60), kernel=about(*law))
        effect.premise("tcp_syn_retries 5: errno", ends.error[to_five], "ETIMEDOUT")
        # The default goes on when 5 has ended: its end is read from the timer after its last SYN.
        law = syn_waits(retries, linear)
        timer = until(lambda: last_timer(default, to_default, len(law) - 1), deadline=60, what="the last SYN")
        assert timer is not None
        end = round(time.time() - began + timer.expires, 2)
        effect.compare(f"tcp_syn_retries {retries}, the default: seconds until its last timer fires", end,
                       document=at_least(60), kernel=about(*law))  # fmt: skip
        effect.premise("and that is the end by the law", end, about(*law))
        ss = default.run("ss", "-tano", "state", "syn-sent").stdout
        effect.premise("SYNs sent again, as `ss -o` prints them", re.findall(r"timer:\(on,.*?,(\d+)\)", ss),
                      [str(len(law) - 1)])  # fmt: skip
        effect.note("ss -tano state syn-sent", ss.splitlines())
    with claim.control("tried at the same time: the application gives up after 2 s") as control:
        control.expect("results", dict(with_timeout.results()), {"timeout": 1})
        control.expect("seconds", with_timeout[0].seconds, between(2, 2 + LATE))
    with claim.control("SYNs arrive") as control:
        lost.lift()
        answered = connect(patient, listener, wait=True)[0]
        control.expect("connect()", answered.result, "connected")
        control.expect("seconds", answered.seconds, at_most(LATE))


@pytest.mark.claim("connect-timeout.default-over-a-minute")
@pytest.mark.full_size("the default waits 127 or 131 s, and the timer wheel adds some: up to 150 s")
@pytest.mark.slow(150)
def test_default_to_the_end(claim: ClaimRun, pair: Pair) -> None:
    listener = listen(pair.server)
    lost = drop(pair.server, "S", dport=listener.port)
    law = syn_waits(int(pair.client.sysctl[SYN_RETRIES]), linear_timeouts(pair.client))
    with claim.effect("SYNs vanish, the application has no timeout, all knobs at their defaults") as effect:
        blocked = Blocked(pair.client, listener.address, None)
        effect.premise("errno", blocked.result(deadline=600), "ETIMEDOUT")
        effect.compare("seconds", blocked.seconds, document=at_least(60), kernel=about(*law))
        effect.premise("seconds by the law", blocked.seconds, about(*law))
        effect.premise("SYNs lost", lost.count, len(law))
    with claim.control("SYNs arrive") as control:
        lost.lift()
        control.expect("connect()", Blocked(pair.client, listener.address, None).result(deadline=30), "connected")


def prefer_short_rto(host: Host, to: Host, seconds: float) -> None:
    """A route to one host with rto_min: 05bb1fad1cde "[TCP]: Allow minimum RTO to be configurable via routing
    metrics.", 2.6.23."""
    length = 32 if host.family == socket.AF_INET else 128
    device = next(iter(host.interfaces))
    host.run("ip", "route", "add", f"{to.ip}/{length}", "dev", device, "rto_min", f"{round(seconds * 1000)}ms")


def first_retransmissions(
    claim: ClaimRun, host: Host, connection: socket.socket, listener: Listener, n: int
) -> list[float]:
    """Seconds between a byte that is lost, and the first n times it is sent again."""
    port = connection.getsockname()[1]
    with drop(listener.host, sport=port):
        seen = claim.capture(listener.host, port=port)
        connection.send(b"x")
        until(lambda: len(sent(seen, host, port)) > n, deadline=60, what=f"{n} retransmissions")
        return gaps(sent(seen, host, port))[:n]


class FarAway:
    """A raw peer that claims, by the time stamps it echoes, to have been `seconds` away.

    A round trip is measured by the echo when a segment was retransmitted (tcp_ack_update_rtt()). Without SACK there
    is no tail loss probe, so that what is sent again is sent by the RTO.
    """

    CLOCK = 1000  # a second, since 9a568de4818d "tcp: switch TCP TS option (RFC 7323) to 1ms clock", 4.13; HZ before

    def __init__(self, listener: Listener, near: Host, seconds: int) -> None:
        self.raw = RawPeer(listener.host, near).connection(listener)
        self.now = 1_000_000
        self.raw.syn(options=[("MSS", 1460), self.stamp(0)])
        (first,) = self.raw.replies()
        self.raw.send("A", options=[self.stamp(dict(first.options)["Timestamp"][0])])
        (self.server,) = listener.accept()
        self.server.send(b"x")
        self.raw.wait("PA")
        again = self.raw.wait("PA", deadline=60)
        self.raw.ack += 1
        past = (dict(again.options)["Timestamp"][0] - seconds * self.CLOCK) % 2**32
        self.raw.send("A", options=[self.stamp(past)])
        until(lambda: not the(listener.host, self.server).send_q, what="the acknowledgement to arrive")

    def next_transmission(self, deadline: float) -> None:
        """Sleep until the host sends data again; asking every 20 ms for minutes would cost more than the wait."""
        select.select([self.raw.peer._socket], [], [], deadline)
        self.raw.wait("PA")

    def stamp(self, echo: int) -> tuple[str, tuple[int, int]]:
        self.now += 1
        return "Timestamp", (self.now, echo)


@pytest.mark.claim("connect-timeout.rto-bounds")
@pytest.mark.slow(125)
def test_rto_bounds(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    listener = listen(server, answer=echo)
    raw_listener = listen(server)
    at_the_server = claim.capture(server, port=raw_listener.port)
    # The longest wait begins first, and the lower bound is measured meanwhile.
    far = FarAway(raw_listener, client, 200)
    bounds = between(RTO_MIN, RTO_MAX)
    with claim.effect("a round trip that seems to take 200 s: the upper bound") as effect:
        effect.note("how", "the peer echoes a time stamp of 200 s ago in its acknowledgement of a retransmission")
        effect.compare("RTO in TCP_INFO", tcp_info(server, far.server).rto, document=bounds)
        effect.compare("RTO by ss --info", ss_rto(server, far.server), document=bounds)
        effect.premise("RTO", tcp_info(server, far.server).rto, RTO_MAX)
        far.server.send(b"y")
        far.raw.wait("PA")
        timer = the(server, far.server).timer
        assert timer is not None
        effect.compare("the retransmission timer", timer.expires, document=between(100, LONGEST))
    with claim.effect("a real connection of one cable: the lower bound") as effect:
        near = established(client, listener)
        effect.compare("RTO in TCP_INFO", tcp_info(client, near).rto, document=bounds)
        effect.compare("RTO by ss --info", ss_rto(client, near), document=bounds)
        for gap in first_retransmissions(claim, client, near, listener, 3):
            effect.compare("seconds between two transmissions", gap, document=bounds)
    with claim.control("no lower bound of 200 ms: rto_min 50ms on the route") as control:
        prefer_short_rto(client, server, 0.05)
        near = established(client, listener)
        control.expect("RTO in TCP_INFO", tcp_info(client, near).rto, between(0.05, 0.15))
        control.expect("RTO by ss --info", ss_rto(client, near), between(0.05, 0.15))
        control.expect("seconds", first_retransmissions(claim, client, near, listener, 1)[0], between(0.04, 0.19))
        client.run("ip", "route", "del", f"{server.ip}/{32 if server.family == socket.AF_INET else 128}")
    if RTO_MIN_SYSCTL in client.sysctl:
        with claim.control("no lower bound of 200 ms: tcp_rto_min_us 50000") as control:
            client.sysctl[RTO_MIN_SYSCTL] = 50_000
            near = established(client, listener)
            control.expect("RTO in TCP_INFO", tcp_info(client, near).rto, between(0.05, 0.15))
            control.expect("seconds", first_retransmissions(claim, client, near, listener, 1)[0], between(0.04, 0.19))
    with claim.control("a round trip that seems to take 20 s") as control:
        nearer = FarAway(raw_listener, client, 20)
        control.expect("RTO in TCP_INFO", tcp_info(server, nearer.server).rto, between(20, 119))
    if RTO_MAX_SYSCTL in server.sysctl:
        with claim.control("an upper bound of 10 s: tcp_rto_max_ms 10000") as control:
            server.sysctl[RTO_MAX_SYSCTL] = 10_000
            bounded = FarAway(listen(server), client, 200)
            control.expect("RTO in TCP_INFO", tcp_info(server, bounded.server).rto, 10.0)
            server.sysctl[RTO_MAX_SYSCTL] = 120_000
    with claim.effect("the upper bound, when its timer has fired") as effect:
        far.next_transmission(deadline=300)
        original, again = [s.time for s in at_the_server.segments() if s.payload == b"y"][:2]
        effect.compare("seconds between two transmissions", round(again - original, 2), document=about(RTO_MAX))
        until(lambda: (timer := the(server, far.server).timer) and timer.retransmits, what="the timer to be set again")
        effect.compare("RTO in TCP_INFO, not doubled", tcp_info(server, far.server).rto, document=bounds)


@pytest.mark.claim("connect-timeout.rto-bounds")
@pytest.mark.full_size("a retransmission after 120 s, and two more")
@pytest.mark.slow(400)
def test_rto_stays_at_its_upper_bound(claim: ClaimRun, pair: Pair) -> None:
    listener = listen(pair.server)
    seen = claim.capture(pair.server, port=listener.port)
    far, nearer = FarAway(listener, pair.client, 200), FarAway(listener, pair.client, 20)

    def transmissions(of: FarAway) -> list[float]:
        return [s.time for s in seen.segments() if s.payload == b"y" and s.dst == of.raw.peer.address]

    with claim.effect("a round trip that seems to take 200 s") as effect:
        far.server.send(b"y")
        nearer.server.send(b"y")
        for _ in range(4):
            far.next_transmission(deadline=300)
        for gap in gaps(transmissions(far)):
            effect.compare("seconds between two transmissions", gap, document=about(RTO_MAX))
    with claim.control("tried at the same time: 20 s") as control:
        first, second, *_ = gaps(transmissions(nearer))
        control.expect("seconds between two transmissions", first, between(20, 119))
        control.expect("doubled", second, between(1.7 * first, LONGEST))


@pytest.mark.claim("connect-timeout.lan-rto")
def test_lan_rto(claim: ClaimRun, pair: Pair) -> None:
    listener = listen(pair.server, answer=echo)
    # The median of ten: what a busy machine does to a round trip is not what a LAN does.
    near_200_ms = between(0.2, 0.22)
    with claim.effect("ten real connections of one cable, each with a request answered") as effect:
        connections = [established(pair.client, listener) for _ in range(10)]
        infos = [tcp_info(pair.client, one) for one in connections]
        effect.compare("RTO in TCP_INFO, the median", median(info.rto for info in infos), document=near_200_ms)
        printed = median(ss_rto(pair.client, one) for one in connections)
        effect.compare("RTO by ss --info, the median", printed, document=near_200_ms)
        for info in infos:
            # srtt + rttvar, the latter at least 200 ms (tcp_rtt_estimator()), in whole jiffies.
            effect.premise("RTO", info.rto, between(RTO_MIN, RTO_MIN + info.rtt + 4 * info.rttvar + JIFFY))
        effect.note("RTOs, round trips", [(info.rto, info.rtt) for info in infos])
        waits = [first_retransmissions(claim, pair.client, one, listener, 1)[0] for one in connections[:3]]
        effect.compare("seconds until a lost byte is sent again, the least", min(waits), document=between(0.2, 0.25))
    with claim.control("a network of 300 ms: the SYN-ACK is on its way for so long") as control:
        delayed = hold(pair.client, "SA", sport=listener.port)
        began = time.monotonic()
        clients = connect(pair.client, listener)
        until(lambda: time.monotonic() - began > 0.3, what="300 ms")
        delayed.release()
        clients.wait()
        control.expect("RTO in TCP_INFO", tcp_info(pair.client, clients[0].socket).rto, at_least(0.9))
    with claim.control("rto_min 50ms on the route") as control:
        prefer_short_rto(pair.client, pair.server, 0.05)
        short = established(pair.client, listener)
        control.expect("RTO in TCP_INFO", tcp_info(pair.client, short).rto, between(0.05, 0.15))


@dataclass
class Stranded:
    """An established connection whose peer has fallen silent after it was made."""

    host: Host
    socket: socket.socket
    patience: float
    port: int = 0
    probes: int = 0

    def __post_init__(self) -> None:
        self.port = self.socket.getsockname()[1]

    def transmissions(self, seen: Capture) -> list[float]:
        """When the byte was sent that nobody acknowledged, first and again, in seconds since the epoch."""
        own = [s for s in seen.segments() if (s.src, s.sport) == (self.host.ip, self.port)]
        return [s.time for s in own if s.payload == b"x"]

    def count_probes(self, counted: object) -> None:
        """Tail loss probes look like retransmissions and are none of the RTO's (since 3.10)."""
        try:
            self.probes = counted.TcpExt.TCPLossProbes  # type: ignore[attr-defined]
        except CounterMissing:
            self.probes = 0


@pytest.mark.claim("connect-timeout.retries2")
@pytest.mark.slow(60)
def test_retries2(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    give_up_after(claim, lan, [1, 2, 3, 4, 5, 6, 7])


@pytest.mark.claim("connect-timeout.retries2")
@pytest.mark.full_size("the default of 15 takes more than 924.6 s")
@pytest.mark.slow(1100)
def test_retries2_default(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    give_up_after(claim, lan, [8, 10, 15])


def give_up_after(claim: ClaimRun, lan: Callable[..., Lan], values: Sequence[int]) -> None:
    """Let connections with these values of tcp_retries2 send to a peer that has fallen silent, side by side."""
    server, *clients = lan(len(values) + 4).hosts
    *ordinary, quick, bounded, control_host = clients
    listener = listen(server, answer=echo)
    seen = claim.capture(server, port=listener.port)
    for together in rounds(values):
        with claim.effect(f"the peer falls silent: tcp_retries2 {', '.join(map(str, together))}") as effect:
            stranded: dict[str, Stranded] = {}
            for n, host in zip(together, ordinary, strict=False):
                host.sysctl[RETRIES2] = n
                stranded[f"{n}"] = Stranded(host, established(host, listener), sum(doubling(RTO_MIN, n)))
            if 3 in together:
                # The patience is a time. With an RTO of 50 ms more retransmissions fit into it.
                prefer_short_rto(quick, server, 0.05)
                quick.sysctl[RETRIES2] = 3
                stranded["3, rto_min 50ms"] = Stranded(quick, established(quick, listener), sum(doubling(RTO_MIN, 3)))
            if RTO_MAX_SYSCTL in bounded.sysctl:
                bounded.sysctl[RTO_MAX_SYSCTL] = 1000
                patience = sum(doubling(RTO_MIN, 15, longest=1.0))
                stranded["15, tcp_rto_max_ms 1000"] = Stranded(bounded, established(bounded, listener), patience)
            untouched = established(control_host, listener)
            silence = drop(server, dport=listener.port)
            ends = Ends()
            for one in stranded.values():
                ends.watch(one.socket)
                one.socket.send(b"x")
            if running() >= "4.6":
                untouched.send(b"x")
            longest = max(one.patience for one in stranded.values())
            ends.wait([one.socket for one in stranded.values()], deadline=4 * longest + 60)
            for name, one in stranded.items():
                one.count_probes(effect.delta(one.host))
                times = one.transmissions(seen)
                end, first = ends.at[one.socket], times[1 + one.probes]
                effect.compare(f"tcp_retries2 {name}: the error", ends.error[one.socket], document="ETIMEDOUT")
                effect.compare(f"tcp_retries2 {name}: seconds", round(end - times[0], 2),
                               document=at_least(round(one.patience, 1)))  # fmt: skip
                # retransmits_timed_out() counts from the first retransmission by the RTO, and looks at each RTO.
                effect.premise(f"{name}: from the first retransmission to the last, s", round(times[-1] - first, 3),
                              at_most(one.patience + JIFFY))  # fmt: skip
                effect.premise(f"{name}: from the first retransmission to the end, s", round(end - first, 3),
                              at_least(one.patience - JIFFY))  # fmt: skip
                effect.note(f"{name}: sent again after", gaps(times))
            effect.series("given up", [(float(name), round(ends.at[one.socket] - one.transmissions(seen)[0], 3))
                                       for name, one in stranded.items() if name.isdigit()],
                          x="tcp_retries2", unit="s")  # fmt: skip
        with claim.control("tried at the same time: tcp_retries2 left at 15") as control:
            if max(together) < 15 and running() >= "4.6":
                control.expect("state", the(control_host, untouched).state, "ESTAB")
                control.expect("bytes that wait for an answer", the(control_host, untouched).send_q, 1)
        with claim.control("the peer answers again") as control:
            silence.lift()
            alive = established(ordinary[0], listener)
            control.expect("state", the(ordinary[0], alive).state, "ESTAB")
