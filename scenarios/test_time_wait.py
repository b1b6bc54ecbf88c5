"""TIME-WAIT: who gets it, how long it lasts, what it blocks and answers, and what happens without it."""

from __future__ import annotations

import errno
import fcntl
import math
import socket
import struct
import sys
import termios
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness.laws.kernel import running
from harness.laws.ranges import at_most, between, one_of
from harness.observe import segments, sockets
from harness.traffic import SYN_OPTIONS, RawPeer, connect, drop, hold, listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.repair import Placed, place_both
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.phases import Phase
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair
    from harness.laws.ranges import Range
    from harness.observe import Capture, Segment, Socket
    from harness.observe.sockets import Endpoint
    from harness.traffic import Drop, Listener, RawConnection

MAX_BUCKETS = "net.ipv4.tcp_max_tw_buckets"
TIMESTAMPS = "net.ipv4.tcp_timestamps"
FIN_TIMEOUT = "net.ipv4.tcp_fin_timeout"
PORT_RANGE = "net.ipv4.ip_local_port_range"

ABORTIVELY = struct.pack("ii", 1, 0)  # SO_LINGER: close() resets
# Where the kernel has knobs for the machine only, of the two hosts it is the server that has them: so the server is
# the side that closes first, and connects, where the scenario sets one.


def connection(client: Host, listener: Listener, source: Endpoint | None = None) -> tuple[socket.socket, socket.socket]:
    """An established connection, the client's end and the server's; `source` binds the client, with SO_REUSEADDR."""
    (here,) = connect(client, listener, source=source, wait=True).sockets
    (there,) = listener.accept()
    return here, there


def ended(one: socket.socket) -> bool:
    """Whether the other side's FIN has arrived."""
    try:
        return not one.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False


def states(host: Host, port: int) -> list[str]:
    """The states of a host's connections from or to a port."""
    return [one.state for one in ends(host, port)]


def ends(host: Host, port: int) -> list[Socket]:
    """A host's connections from or to a port."""
    return sockets(host, f"exclude listening ( sport = :{port} or dport = :{port} )", family=host.family)


def seconds_to_go(host: Host, port: int) -> float:
    """What the timer of the host's only TIME-WAIT from or to a port has left, as inet_diag reports it."""
    (one,) = ends(host, port)
    assert one.timer is not None
    assert (one.state, one.timer.kind) == ("TIME-WAIT", "timewait")
    return one.timer.expires


def ss(host: Host, *arguments: str) -> list[list[str]]:
    """The rows of `ss` as lists of words, without the header."""
    return [line.split() for line in host.run("ss", *arguments).stdout.splitlines()[1:]]


# Who gets it


@pytest.mark.claim("time-wait.active-closer")
def test_active_closer(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server

    def both(port: int) -> dict[str, list[str]]:
        return {"client": states(client, port), "server": states(server, port)}

    for closer, document in (
        ("client", {"client": ["TIME-WAIT"], "server": []}),
        ("server", {"client": [], "server": ["TIME-WAIT"]}),
    ):
        with claim.effect(f"the {closer} closes first") as effect:
            listener = listen(server)
            leave_time_wait(client, listener, closer=closer)
            effect.compare("states", both(listener.port), document=document)
            rows = ss(client if closer == "client" else server, "-tan")
            words = [row[0] for row in rows if any(word.endswith(f":{listener.port}") for word in row[3:5])]
            effect.compare("ss -tan", [word for word in words if word != "LISTEN"], document=["TIME-WAIT"])

    with claim.effect(
        "both close at once: neither FIN arrives before both are sent, nor its ACK before both"
    ) as effect:
        listener = listen(server)
        capture = claim.capture(server, port=listener.port)
        here, there = connection(client, listener)
        fins = [hold(client, "FA", sport=listener.port), hold(server, "FA", dport=listener.port)]
        here.close()
        there.close()
        until(lambda: all(fin.count for fin in fins), what="both FINs")
        effect.premise("with both FINs sent", both(listener.port), {"client": ["FIN-WAIT-1"], "server": ["FIN-WAIT-1"]})
        # By their numbers: a repeated FIN acknowledges the other side's as well.
        ends_at = {side: capture.segments(direction=side, flags="FA")[0].seq + 1 for side in ("in", "out")}
        acks = [drop(server, ack=ends_at["out"] % 2**32), drop(client, ack=ends_at["in"] % 2**32)]
        for fin in fins:
            fin.release()
        closing = {"client": ["CLOSING"], "server": ["CLOSING"]}
        until(lambda: both(listener.port) == closing, what="CLOSING on both sides")
        effect.premise("with both FINs delivered, and no ACK yet", both(listener.port), closing)
        for ack in acks:
            ack.lift()
        until(
            lambda: all(state != ["CLOSING"] for state in both(listener.port).values()),
            deadline=20,
            what="the FINs to be repeated and acknowledged",
        )
        effect.compare("states", both(listener.port), document={"client": ["TIME-WAIT"], "server": ["TIME-WAIT"]})

    with claim.control("the client does not close but aborts: a RST in place of the FIN") as control:
        listener = listen(server)
        here, there = connection(client, listener)
        here.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTIVELY)
        here.close()
        until(lambda: not states(server, listener.port), what="the RST to arrive")
        control.expect("states", both(listener.port), {"client": [], "server": []})
        control.expect("error on the server", there.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), errno.ECONNRESET)


@pytest.mark.claim("time-wait.passive-closer-free")
def test_passive_closer_free(claim: ClaimRun, pair: Pair) -> None:
    for closer in ("client", "server"):
        active, passive = (pair.client, pair.server) if closer == "client" else (pair.server, pair.client)
        with claim.effect(f"the {closer} closes first") as effect:
            listener = listen(pair.server)
            ((local, remote),) = leave_time_wait(pair.client, listener, closer=closer)
            effect.compare("connections of the other side", states(passive, listener.port), document=[])
            listener.close()
            again = connect(passive, listen(active), source=remote, wait=True)
            effect.compare("its port, used again at once", again.results(), document={"connected": 1})
            effect.premise("TIME-WAIT of the side that closed first", time_waits(active, local, remote), 1)
    with claim.control("the last ACK is lost: the other side still waits for it") as control:
        last = lose_the_last_ack(pair.server, listen(pair.client))
        control.expect("state of the other side", states(pair.client, last.remote[1]), ["LAST-ACK"])
        last.repeats.lift()
        until(lambda: not states(pair.client, last.remote[1]), what="the FIN to be repeated and acknowledged")


def time_waits(host: Host, local: Endpoint, remote: Endpoint) -> int:
    """How many TIME-WAIT a host has of a connection: one or none."""
    return sum((one.local, one.remote) == (local, remote) for one in sockets(host, "state time-wait"))


# How long it lasts

# A timer of 60 s that has begun a moment ago, by inet_diag and as ss prints it.
JUST_BEGUN = between(55, 60)
JUST_BEGUN_IN_SS = one_of(*(f"timer:(timewait,{left},0)" for left in ("1min", *(f"{n}sec" for n in range(55, 60)))))


class Lifetime(NamedTuple):
    """How long a state lasted, in seconds: at least until it was last seen, at most until it was first missed."""

    at_least: float
    at_most: float


@dataclass(frozen=True)
class Timer:
    """A lifetime that ends with a kernel timer of so many seconds.

    Since 4.8 a timer may run late by a step of the wheel, which is at most an eighth of its time: 500462a9de65 "timers:
    Switch to a non-cascading wheel". Before 4.1 one clock that ticks every 7.5 s ended all TIME-WAIT, those of 60 s
    with the eighth tick, which comes 52.5 to 60 s after they began: 789f558cfb36 "tcp/dccp: get rid of central timewait
    timer". A busy machine looks seldom: what counts is that the timer can have ended between two looks.
    """

    seconds: float

    def accepts(self, measured: Lifetime) -> bool:
        """Whether it does."""
        earliest, latest = self.seconds, self.seconds * 1.125
        if running() < "4.1":
            earliest, latest = (52.5, 60) if self.seconds >= 60 else (self.seconds, self.seconds + 15)
        return measured.at_most >= earliest - 0.05 and measured.at_least <= latest + 0.1

    def __repr__(self) -> str:
        return f"{self.seconds:g} s by a timer of the kernel"


@dataclass(frozen=True)
class Exactly60:
    """The document's 60 s, of which the steps of a timer may make a few more."""

    def accepts(self, measured: Lifetime) -> bool:
        """Whether it is not less, and at most a step more."""
        return measured.at_most >= 59.95 and measured.at_least <= 60 * 1.125 + 0.1

    def __repr__(self) -> str:
        return "60 s, a step of the timer wheel later at most"


class Watched:
    """A connection's end in some state, looked at now and then until it is gone."""

    def __init__(self, host: Host, local: Endpoint, state: str, begun: float) -> None:
        self.host, self.local, self.state = host, local, state
        self._begun, self._seen_first = begun, time.monotonic()
        self._seen, self._missed = self._seen_first, math.nan

    def gone(self, alive: set[tuple[Endpoint, str]], looked: float) -> bool:
        """Take note of one look at the host's sockets, which began at `looked`."""
        if math.isnan(self._missed):
            if (self.local, self.state) in alive:
                self._seen = looked
            else:
                self._missed = time.monotonic()
        return not math.isnan(self._missed)

    @property
    def lifetime(self) -> Lifetime:
        """How long it lasted, once it is gone."""
        return Lifetime(self._seen - self._seen_first, self._missed - self._begun)


def watch_until_gone(host: Host, watched: list[Watched], *, deadline: float) -> None:
    """Look at a host's sockets until none of those watched is there."""

    def all_gone() -> bool:
        looked = time.monotonic()
        found = sockets(host, "exclude listening", family=host.family, details=False)
        alive = {(one.local, one.state) for one in found}
        return all([one.gone(alive, looked) for one in watched])  # noqa: C419 - each must see each look

    until(all_gone, deadline=deadline, what="all that is watched to be gone")


def time_wait(pair: Pair) -> Watched:
    """A TIME-WAIT of the server's, watched from its begin."""
    listener, begun = listen(pair.server), time.monotonic()
    ((local, _),) = leave_time_wait(pair.client, listener, closer="server")
    return Watched(pair.server, local, "TIME-WAIT", begun)


def orphan(pair: Pair) -> Watched:
    """An orphaned FIN-WAIT-2 of the server's: its application has closed, the client's never will."""
    listener = listen(pair.server)
    _, there = connection(pair.client, listener)
    begun = time.monotonic()
    there.close()
    until(lambda: states(pair.server, listener.port) == ["FIN-WAIT-2"], what="FIN-WAIT-2")
    return Watched(pair.server, listener.address, "FIN-WAIT-2", begun)


@pytest.mark.slow(66)
@pytest.mark.claim("time-wait.lasts-60s")
def test_lasts_60s(claim: ClaimRun, pair: Pair) -> None:
    server = pair.server
    with claim.effect("two TIME-WAIT, the second begun when the first is 3 s old, until both are gone") as effect:
        first = time_wait(pair)
        effect.compare(
            "its timer at the begin, by inet_diag", seconds_to_go(server, first.local[1]), document=JUST_BEGUN
        )
        ((timer,),) = [
            [word for word in row if word.startswith("timer:")]
            for row in ss(server, "-tano", "state", "time-wait", f"sport = :{first.local[1]}")
        ]
        effect.compare("its timer at the begin, by ss -o", timer, document=JUST_BEGUN_IN_SS)
        course: list[tuple[float, float]] = []
        started = time.monotonic()

        def three_seconds_old() -> bool:
            course.append((time.monotonic() - started, seconds_to_go(server, first.local[1])))
            return course[-1][1] <= 57

        until(three_seconds_old, deadline=30, what="the timer to run for three seconds")
        effect.series("timer of the first", course[::10] + course[-1:], unit="s")
        second = time_wait(pair)
        watch_until_gone(server, [first, second], deadline=120)
        for name, one in (("first", first), ("second", second)):
            effect.compare(f"lifetime of the {name}", one.lifetime, document=Exactly60(), kernel=Timer(60))
        effect.note("lifetimes", {"first": first.lifetime, "second": second.lifetime})
    with claim.control("the other end of such a connection, the client's") as control:
        listener = listen(server)
        here, there = connection(pair.client, listener)
        there.close()
        until(lambda: ended(here), what="the server's FIN")
        begun = time.monotonic()
        here.close()
        until(lambda: not states(pair.client, listener.port), deadline=20, what="the client's end to be gone")
        control.expect("its lifetime in seconds", time.monotonic() - begun, at_most(5))
        control.expect("states at the server", states(server, listener.port), ["TIME-WAIT"])


@pytest.mark.slow(63)
@pytest.mark.claim("time-wait.fin-timeout-sets-it")
def test_fin_timeout_sets_it(claim: ClaimRun, pair: Pair) -> None:
    server = pair.server
    values = (60, 30, 5)
    with claim.effect("tcp_fin_timeout 60, 30 and 5, a TIME-WAIT and an orphaned FIN-WAIT-2 under each") as effect:
        effect.premise("tcp_fin_timeout by default", server.sysctl[FIN_TIMEOUT], "60")
        waiting: dict[int, Watched] = {}
        orphans: dict[int, Watched] = {}
        for value in values:
            server.sysctl[FIN_TIMEOUT] = value
            waiting[value], orphans[value] = time_wait(pair), orphan(pair)
        watch_until_gone(server, [*waiting.values(), *orphans.values()], deadline=120)
        for value in values:
            effect.compare(
                f"lifetime of TIME-WAIT, tcp_fin_timeout {value}",
                waiting[value].lifetime,
                document=Timer(value),
                kernel=Timer(60),
            )
        effect.note("lifetimes of TIME-WAIT", {value: one.lifetime for value, one in waiting.items()})
    with claim.control("what the knob does time: the orphans, whose applications have closed them") as control:
        for value in values:
            control.expect(f"lifetime of FIN-WAIT-2, tcp_fin_timeout {value}", orphans[value].lifetime, Timer(value))
        points = [(value, orphans[value].lifetime.at_most) for value in reversed(values)]
        control.series("FIN-WAIT-2", points, x="tcp_fin_timeout", unit="s")
        held = connection(pair.client, listen(server))[1]
        held.shutdown(socket.SHUT_WR)
        until(lambda: states(server, held.getsockname()[1]) == ["FIN-WAIT-2"], what="FIN-WAIT-2")
        (one,) = ends(server, held.getsockname()[1])
        control.expect("timer of a FIN-WAIT-2 whose application holds it", one.timer, None)


# What it blocks


def bound(host: Host, address: Endpoint) -> str:
    """What bind() without SO_REUSEADDR says."""
    with host.socket() as one:
        try:
            one.bind(address)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
    return "bound"


@pytest.mark.claim("time-wait.blocks-four-tuple")
def test_blocks_four_tuple(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    # 28044fc1d495 "net: Add a bhash2 table hashed by port and address", 6.1, forgot TIME-WAIT; 936a192f9740 "tcp: Add
    # TIME_WAIT sockets in bhash2.", 6.2 and 6.1.5, mended it.
    forgotten = running() >= "6.1" and running() < "6.1.5"
    for timestamps in (0, 1):
        closer.sysctl[TIMESTAMPS] = timestamps
        closer.sysctl[PORT_RANGE] = "32768 60999"
        listener, other = listen(peer), listen(peer)
        ((chosen, _),) = leave_time_wait(closer, listener)
        ((bound_before, _),) = leave_time_wait(closer, listener, source=(closer.ip, 0))
        ((_, free),) = leave_time_wait(closer, listener, closer="server")
        closer.sysctl[PORT_RANGE] = f"{chosen[1]} {chosen[1]}"

        with claim.effect(f"the four-tuple of a TIME-WAIT, tcp_timestamps {timestamps}") as effect:
            refused = "bound" if forgotten else "EADDRINUSE"
            effect.compare("bind()", bound(closer, bound_before), document="EADDRINUSE", kernel=refused)
            result = connect(closer, listener, wait=True)[0].result
            effect.compare("connect() when no port but this is left", result, document="EADDRNOTAVAIL")
            result = connect(closer, listener, source=bound_before, wait=True)[0].result
            effect.compare(
                "connect() after bind() with SO_REUSEADDR, as the old one",
                result,
                document="EADDRNOTAVAIL",
                kernel="connected" if timestamps else "EADDRNOTAVAIL",
            )
            effect.premise("TIME-WAIT left of it", time_waits(closer, bound_before, listener.address), 1 - timestamps)
        with claim.control(f"other four-tuples of the same local ports, tcp_timestamps {timestamps}") as control:
            control.expect("connect()", connect(closer, other, wait=True)[0].result, "connected")
            result = connect(closer, other, source=bound_before, wait=True)[0].result
            control.expect("connect() after bind() with SO_REUSEADDR", result, "connected")
        with claim.control(f"a four-tuple whose other side has the TIME-WAIT, tcp_timestamps {timestamps}") as control:
            control.expect("bind()", bound(closer, free), "bound")


# What it answers


@dataclass(frozen=True)
class LastAck:
    """A connection that one side closed first, and whose other side waits in LAST-ACK because the last ACK was lost.

    `local` and `remote` are its endpoints as the side has them that closed first; `other` is the other side's
    socket, which its application still holds. `repeats` drops what repeats its FIN.
    """

    local: Endpoint
    remote: Endpoint
    other: socket.socket
    repeats: Drop


def lose_the_last_ack(closer: Host, listener: Listener) -> LastAck:
    """Connect to a listener, close first, and lose the ACK of the other side's FIN."""
    here, there = connection(closer, listener)
    local, remote = here.getsockname()[:2], here.getpeername()[:2]
    lost = drop(listener.host, "A", sport=local[1], dport=remote[1], count=1)
    repeats = drop(closer, "FA", sport=remote[1], dport=local[1], first=2)
    here.shutdown(socket.SHUT_WR)
    until(lambda: ended(there), what="the FIN of the side that closes first")
    there.shutdown(socket.SHUT_WR)
    until(lambda: lost.count, what="the last ACK to be lost")
    here.close()
    return LastAck(local, remote, there, repeats)


def answers_to_fins(capture: Capture, last: LastAck) -> list[Segment]:
    """What the side that closed first has answered to the FINs of the other, the lost ACK included."""
    sent = capture.segments(direction="in", sport=last.local[1], dport=last.remote[1])
    closed = next(i for i, one in enumerate(sent) if one.flags == "FA")
    return [one for one in sent[closed:] if one.flags != "FA"]


@pytest.mark.claim("time-wait.reacks-fin")
def test_reacks_fin(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    at_closer, at_peer = claim.capture(closer), claim.capture(peer)
    undisturbed = listen(peer)
    ((local, _),) = leave_time_wait(closer, undisturbed)
    with claim.effect(
        "the last ACK is lost, and the repeated FIN arrives when the timer has run for a second"
    ) as effect:
        last = lose_the_last_ack(closer, listen(peer))
        port = last.remote[1]
        effect.premise("the other side", states(peer, port), ["LAST-ACK"])
        until(lambda: seconds_to_go(closer, port) < 59, deadline=30, what="the timer to run for a second")
        before = seconds_to_go(closer, port)
        last.repeats.lift()
        until(lambda: not states(peer, port), deadline=30, what="the other side's LAST-ACK to end")
        after, read = seconds_to_go(closer, port), time.time()
        answer = answers_to_fins(at_peer, last)[1]
        effect.compare("answer to the repeated FIN", answer.flags, document="A")
        fin = at_peer.segments(direction="out", sport=port, flags="FA")[0]
        effect.compare("what it acknowledges", answer.ack, document=(fin.seq + 1) % 2**32)
        effect.compare("timer: later after it than before", after > before, document=True)
        answered = at_closer.segments(direction="out", dport=port, flags="A")[-1].time
        effect.compare("timer when it was answered", after + read - answered, document=between(59.9, 60.5))
        effect.note("timer before and after", (before, after))
        effect.premise("error at the other side", last.other.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0)
    with claim.control("a connection closed at the same time whose last ACK was not lost") as control:
        control.expect("timer", seconds_to_go(closer, undisturbed.port), at_most(59))
        fins = at_closer.segments(direction="in", sport=undisturbed.port, dport=local[1], flags="FA")
        control.expect("FINs of the other side", len(fins), 1)


# What happens without it


@pytest.mark.claim("time-wait.without-it-rst")
def test_without_it_rst(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    capture = claim.capture(peer)

    def fate() -> tuple[str, str]:
        """What answers the repeated FIN, and which error the other side's application finds on its socket."""
        last = lose_the_last_ack(closer, listen(peer))
        last.repeats.lift()
        until(lambda: not states(peer, last.remote[1]), deadline=30, what="the other side's LAST-ACK to end")
        error = last.other.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return answers_to_fins(capture, last)[1].flags, errno.errorcode.get(error, "no error")

    usual = closer.sysctl[MAX_BUCKETS]
    with claim.effect("tcp_max_tw_buckets 0: the last ACK is lost, the FIN repeated") as effect:
        closer.sysctl[MAX_BUCKETS] = 0
        flags, error = fate()
        effect.compare("answer to the repeated FIN", flags, document="R")
        effect.compare("error at the other side", error, document="ECONNRESET")
        effect.premise("TCPTimeWaitOverflow", effect.delta(closer).TcpExt.TCPTimeWaitOverflow, 1)
    with claim.control(f"tcp_max_tw_buckets {usual}: the same with a TIME-WAIT") as control:
        closer.sysctl[MAX_BUCKETS] = usual
        control.expect("(answer to the repeated FIN, error at the other side)", fate(), ("A", "no error"))


@pytest.mark.claim("time-wait.without-it-last-ack-refuses")
def test_without_it_last_ack_refuses(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    capture = claim.capture(closer)
    usual = closer.sysctl[MAX_BUCKETS]

    def answers(local: Endpoint, remote: Endpoint, since: float) -> list[str]:
        """What has come back to the closer on a four-tuple, but for FINs of the old connection."""
        received = capture.segments(direction="in", sport=remote[1], dport=local[1])
        return [one.flags for one in received if one.time >= since and one.flags != "FA"]

    def syns(local: Endpoint, remote: Endpoint, since: float) -> list[float]:
        """When the closer has sent SYNs."""
        sent = capture.segments(direction="out", sport=local[1], dport=remote[1], flags="S")
        return [one.time for one in sent if one.time >= since]

    with claim.effect("no TIME-WAIT: a new connect() of the same four-tuple meets LAST-ACK") as effect:
        closer.sysctl[MAX_BUCKETS] = 0
        last = lose_the_last_ack(closer, listen(peer))
        effect.premise("before", (states(closer, last.remote[1]), states(peer, last.remote[1])), ([], ["LAST-ACK"]))
        since = time.time()
        new = connect(closer, last.remote, source=last.local, wait=True, deadline=20)
        effect.compare("connect()", new[0].result, document="ECONNREFUSED", kernel="connected")
        # A challenge ACK, which connect() resets.
        effect.compare(
            "answers to its SYNs", answers(last.local, last.remote, since)[:2], document=["RA"], kernel=["A", "SA"]
        )
        first, second, *_ = syns(last.local, last.remote, since)
        effect.premise("seconds until the SYN is sent again", second - first, resent_after())
        effect.note("seconds until connected", new[0].seconds)
        effect.premise(
            "error at the other side", last.other.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), errno.ECONNRESET
        )
        if "TcpExt.TCPSYNChallenge" in effect.delta(peer):
            effect.premise("TCPSYNChallenge", effect.delta(peer).TcpExt.TCPSYNChallenge, 1)
    with claim.effect("crafted SYNs at LAST-ACK, whose numbers are in its window and beyond it") as effect:
        raw, listener = RawPeer(peer, closer), listen(peer)
        for where, distance in (("in the window", 10), ("beyond the window", 2**30), ("below the window", -(2**30))):
            one = raw.connection(listener)
            one.handshake()
            one.send("FA")
            one.wait("A")
            listener.accept()[0].close()
            one.ack = (one.wait("FA").seq + 1) % 2**32
            one.send("S", seq=one.seq + distance, options=SYN_OPTIONS)
            answer = one.wait(lambda reply: str(reply.flags) in ("A", "R", "RA"))
            # 0c24604b68fc "tcp: implement RFC 5961 4.2", 3.6
            kernel = "A" if running() >= "3.6" else one_of("A", "RA")
            effect.compare(f"answer, {where}", str(answer.flags), document="RA", kernel=kernel)
            one.send("R")
    with claim.control("the last ACK arrives: the same connect() meets no LAST-ACK") as control:
        listener = listen(peer)
        here, there = connection(closer, listener)
        local = here.getsockname()[:2]
        here.close()
        until(lambda: ended(there), what="the FIN of the side that closes first")
        there.close()
        until(lambda: not states(peer, listener.port), what="the last ACK")
        since = time.time()
        control.expect("connect()", connect(closer, listener, source=local, wait=True)[0].result, "connected")
        control.expect("answers to its SYN", answers(local, listener.address, since)[:1], ["SA"])
    with claim.control("with a TIME-WAIT: connect() does not even send a SYN") as control:
        closer.sysctl[MAX_BUCKETS] = usual
        last = lose_the_last_ack(closer, listen(peer))
        closer.sysctl[PORT_RANGE] = f"{last.local[1]} {last.local[1]}"
        since = time.time()
        control.expect("connect()", connect(closer, last.remote, wait=True)[0].result, "EADDRNOTAVAIL")
        control.expect("SYNs sent", len(syns(last.local, last.remote, since)), 0)


def resent_after() -> Range:
    """When a SYN is sent again whose answer was an ACK out of place.

    After two ticks since 5.6, 9603d47bad46 "tcp: Reduce SYN resend delay if a suspicous ACK is received"; before, after
    the initial timeout of a second.
    """
    return between(0, 0.5) if running() >= "5.6" else between(0.98, 1.7)


@dataclass(frozen=True)
class Delayed:
    """A data segment of a connection that has ended since, as a frame, and where it belongs."""

    frame: bytes
    segment: Segment
    local: Endpoint
    remote: Endpoint


OLD, NEW = b"old data", b"new"


def delayed(closer: Host, listener: Listener) -> Delayed:
    """Let a client send data, of which a copy lingers on the way, and both sides close."""
    here, there = connection(closer, listener, (closer.ip, 0))
    local, remote = here.getsockname()[:2], here.getpeername()[:2]
    copies = hold(listener.host, "PA", sport=local[1], dport=remote[1])
    here.send(OLD)
    until(lambda: copies.count, what="the segment to be sent")
    (frame,) = copies.held()[:1]
    copies.lift()
    until(lambda: arrived(there) == OLD, what="the segment to be sent again")
    there.recv(100)
    here.close()
    until(lambda: ended(there), what="the FIN of the side that closes first")
    there.close()
    until(lambda: not states(listener.host, listener.port), what="the last ACK")
    segment = segments.parse(frame, time=0, direction="in", interface="")
    assert segment is not None
    return Delayed(frame, segment, local, remote)


def arrived(one: socket.socket) -> bytes:
    """What can be read, left where it is."""
    try:
        return one.recv(100, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


def unacknowledged(one: socket.socket) -> int:
    """How many bytes have been sent that are not acknowledged."""
    buffer = bytearray(4)
    fcntl.ioctl(one, termios.TIOCOUTQ, buffer)
    return int.from_bytes(buffer, sys.byteorder)


@pytest.mark.claim("time-wait.without-it-old-data")
def test_without_it_old_data(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    cable = RawPeer(peer, closer)

    def replayed(phase: Phase, old: Delayed, new: tuple[socket.socket, socket.socket]) -> bytes:
        """What the new connection's application reads when the old segment arrives behind new data."""
        new[0].send(NEW)
        until(lambda: arrived(new[1]) == NEW, what="new data")
        new[1].recv(100)
        until(lambda: unacknowledged(new[0]) == 0, what="new data to be acknowledged")
        before = phase.delta(peer).Tcp.InSegs
        cable.send(old.frame)
        until(lambda: phase.delta(peer).Tcp.InSegs > before, what="the old segment to arrive")
        return arrived(new[1])

    def connected_again(old: Delayed, phase: Phase, *, ack_fits: bool = True) -> tuple[socket.socket, socket.socket]:
        """The same four-tuple when the clock of initial sequence numbers has come round, which takes 275 s.

        It counts up every 64 ns and has 32 bits (net/core/secure_seq.c, seq_scale()).
        """
        phase.note("placed by TCP_REPAIR", "both ends are real sockets, put at the numbers of the old connection")
        clock = None if old.segment.tsval is None else (old.segment.tsval + 274_878) % 2**32
        acknowledged = old.segment.ack if ack_fits else (old.segment.ack + 2**30) % 2**32
        at = Placed((old.segment.seq - len(NEW)) % 2**32, acknowledged, clock)
        return place_both(closer, peer, (old.local[1], old.remote[1]), at)

    usual = closer.sysctl[MAX_BUCKETS]
    closer.sysctl[MAX_BUCKETS] = 0
    closer.sysctl[TIMESTAMPS] = 0
    with claim.effect("no TIME-WAIT, no timestamps: a new connection where the old segment fits") as effect:
        old = delayed(closer, listen(peer))
        effect.compare("read", replayed(effect, old, connected_again(old, effect)), document=OLD)
    with claim.control("the same, but what the segment acknowledges lies far below") as control:
        old = delayed(closer, listen(peer))
        read = replayed(control, old, connected_again(old, control, ack_fits=False))
        # 354e4aa391ed "tcp: RFC 5961 5.2 Blind Data Injection Attack Mitigation", 3.8
        control.expect("read", read, b"" if running() >= "3.8" else one_of(b"", OLD))
    with claim.control("the same at once: the initial numbers of a new connect() are higher") as control:
        listener = listen(peer)
        old = delayed(closer, listener)
        (here,) = connect(closer, listener, source=old.local, wait=True).sockets
        (there,) = listener.accept()
        control.expect("read", replayed(control, old, (here, there)), b"")
    with claim.control("with timestamps: PAWS drops it") as control:
        closer.sysctl[TIMESTAMPS] = 1
        old = delayed(closer, listen(peer))
        control.expect("read", replayed(control, old, connected_again(old, control)), b"")
        control.expect("PAWSEstab", control.delta(peer).TcpExt.PAWSEstab, 1)
    with claim.control("with a TIME-WAIT: there is no new connection") as control:
        closer.sysctl[TIMESTAMPS] = 0
        closer.sysctl[MAX_BUCKETS] = usual
        listener = listen(peer)
        old = delayed(closer, listener)
        control.expect("connect()", connect(closer, listener, source=old.local)[0].result, "EADDRNOTAVAIL")
        cable.send(old.frame)
        until(lambda: control.delta(peer).Tcp.OutRsts, what="the old segment to be refused")
        control.expect("connections of the other side", states(peer, listener.port), [])


# Which SYN it lets in


def stamps(value: int | None, echo: int) -> list[tuple[str, object]]:
    """The timestamps option, unless there is no value."""
    return [] if value is None else [("NOP", None), ("NOP", None), ("Timestamp", (value, echo))]


STAMP = 1_000_000


def left_behind(peer: RawPeer, listener: Listener, stamp: int | None) -> RawConnection:
    """A connection with a raw peer that the listener's host has closed first; its TIME-WAIT has seen `stamp` last.

    `seq` is the number behind the peer's FIN.
    """
    one = peer.connection(listener)
    reply = one.syn(options=[*SYN_OPTIONS, *stamps(stamp, 0)])
    echo = dict(reply.options)["Timestamp"][0] if stamp is not None else 0
    one.send("A", options=stamps(stamp, echo))
    listener.accept()[0].close()
    fin = one.wait("FA")
    one.ack = (fin.seq + 1) % 2**32
    echo = dict(fin.options)["Timestamp"][0] if stamp is not None else 0
    one.send("FA", options=stamps(stamp, echo))
    one.wait("A")
    until(lambda: states(listener.host, one.port) == ["TIME-WAIT"], what="TIME-WAIT")
    return one


class Answer(NamedTuple):
    """What became of a SYN at a TIME-WAIT: the answer's flags, and the state in which it left the connection."""

    flags: str
    state: str


LET_IN = Answer("SA", "SYN-RECV")
REFUSED = Answer("A", "TIME-WAIT")


class Door:
    """A server that closes first, and a raw peer that knocks with SYNs at what this leaves."""

    def __init__(self, pair: Pair) -> None:
        self.listener = listen(pair.server)
        self.peer = RawPeer(pair.server, pair.client)

    def knock(self, isn: int, stamp: int | None, *, last: int | None = STAMP) -> Answer:
        """The answer to a SYN `isn` behind the end of the old numbers, with a timestamp; the old one's was `last`."""
        one = left_behind(self.peer, self.listener, last)
        end, acknowledged = one.seq, one.ack
        one.send("S", seq=(end + isn) % 2**32, options=[*SYN_OPTIONS, *stamps(stamp, 0)])
        reply = one.wait(lambda _: True)
        if str(reply.flags) == "A":
            assert (reply.seq, reply.ack) == (acknowledged, end)
        (state,) = states(self.listener.host, one.port)
        return Answer(str(reply.flags), state)


def reconnected(pair: Pair) -> Answer:
    """What becomes of a real client that uses a four-tuple again of which the server has the TIME-WAIT."""
    listener = listen(pair.server)
    ((_, client),) = leave_time_wait(pair.client, listener, closer="server")
    capture = connect(pair.client, listener, source=client, wait=True)
    (state,) = states(pair.server, client[1])
    return Answer(capture[0].result, state)


def refused_by_paws(phase: Phase, host: Host) -> int:
    """How often PAWS refused a segment at a TIME-WAIT: a counter of its own since 6.16.

    c449d5f3a3d7 "tcp: add LINUX_MIB_PAWS_TW_REJECTED counter"
    """
    moved = phase.delta(host)
    return moved["TcpExt.PAWSTimewait" if "TcpExt.PAWSTimewait" in moved else "TcpExt.PAWSEstab"]


@pytest.mark.claim("time-wait.inbound-higher-isn")
def test_inbound_higher_isn(claim: ClaimRun, pair: Pair) -> None:
    door = Door(pair)
    with claim.effect("no timestamps in the old connection: SYNs above its end") as effect:
        for isn in (1, 100_000, 2**31 - 1):
            effect.compare(f"SYN {isn} above", door.knock(isn, None, last=None), document=LET_IN)
    with claim.effect("timestamps in the old connection: SYNs above its end") as effect:
        effect.compare("SYN 1 above, no timestamp", door.knock(1, None), document=LET_IN)
        effect.compare("SYN 1 above, the same timestamp", door.knock(1, STAMP), document=LET_IN)
        effect.compare("SYN 1 above, timestamp 1 newer", door.knock(1, STAMP + 1), document=LET_IN)
        effect.premise("refused by PAWS", refused_by_paws(effect, pair.server), 0)
    with claim.effect("timestamps in the old connection: a SYN above its end, whose timestamp is older") as effect:
        effect.compare("SYN 1 above, timestamp 1 older", door.knock(1, STAMP - 1), document=LET_IN, kernel=REFUSED)
        effect.premise("refused by PAWS", refused_by_paws(effect, pair.server), 1)
    with claim.effect("a real client connects from the same port") as effect:
        effect.compare("connect()", reconnected(pair), document=Answer("connected", "ESTAB"))
    with claim.control("SYNs not above its end, whose timestamp is not newer") as control:
        for isn in (0, -1, -100_000):
            control.expect(f"SYN {isn} above, no timestamps", door.knock(isn, None, last=None), REFUSED)
            control.expect(f"SYN {isn} above, the same timestamp", door.knock(isn, STAMP), REFUSED)
        control.expect("refused by PAWS", refused_by_paws(control, pair.server), 0)
    with claim.control("two SYNs not above its end, at once: since 4.0 the second gets no answer") as control:
        one = left_behind(door.peer, door.listener, None)
        for _ in range(2):
            one.send("S", seq=one.seq, options=SYN_OPTIONS)
        one.wait("A")
        # 4fb17a609167 "tcp: mitigate ACK loops for connections as tcp_timewait_sock": one in half a second
        if "TcpExt.TCPACKSkippedTimeWait" in control.delta(pair.server):
            until(lambda: control.delta(pair.server).TcpExt.TCPACKSkippedTimeWait, what="the second SYN to be skipped")
            control.expect("answers to the second", len(one.replies()[one.taken :]), 0)
        control.expect("state", states(pair.server, one.port), ["TIME-WAIT"])


@pytest.mark.claim("time-wait.inbound-newer-timestamp")
def test_inbound_newer_timestamp(claim: ClaimRun, pair: Pair) -> None:
    door = Door(pair)
    with claim.effect("timestamps in the old connection: SYNs with a newer one") as effect:
        for newer in (1, 2**31 - 1):
            for isn in (1, 0, -100_000):
                answer = door.knock(isn, (STAMP + newer) % 2**32)
                effect.compare(f"SYN {isn} above, timestamp {newer} newer", answer, document=LET_IN)
        effect.premise("refused by PAWS", refused_by_paws(effect, pair.server), 0)
    with claim.control("the same numbers, but the timestamp is not newer") as control:
        control.expect("SYN 0 above, the same timestamp", door.knock(0, STAMP), REFUSED)
        control.expect("SYN -100000 above, the same timestamp", door.knock(-100_000, STAMP), REFUSED)
        control.expect("refused by PAWS", refused_by_paws(control, pair.server), 0)
        control.expect("SYN 0 above, timestamp 1 older", door.knock(0, STAMP - 1), REFUSED)
        control.expect("SYN -100000 above, timestamp 1 older", door.knock(-100_000, STAMP - 1), REFUSED)
        control.expect("refused by PAWS", refused_by_paws(control, pair.server), 2)
    with claim.control("no timestamps in the old connection: the SYN's is not looked at") as control:
        control.expect("SYN -100000 above, with a timestamp", door.knock(-100_000, STAMP, last=None), REFUSED)
