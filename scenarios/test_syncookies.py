"""SYN cookies: when they are sent, what they stand in for, and what the documents say about both."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness.errors import UnknownSysctl, Unsupported
from harness.laws import queues
from harness.laws.kernel import running
from harness.laws.ranges import at_least, between
from harness.observe import accept_queue, counters, half_open
from harness.traffic import SYN_OPTIONS, RawPeer, connect, echo, flood, listen
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.phases import Phase
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair
    from harness.traffic import Flood, Listener, RawConnection

COOKIES = "net.ipv4.tcp_syncookies"
BACKLOGS = [7, 40]
BEYOND = 9
# What a cookie can say of the client's MSS: net/ipv4/syncookies.c and net/ipv6/syncookies.c, msstab, since 3.13
# (086293542b99 "tcp: syncookies: reduce mss table to four values").
MSS_TABLE = {socket.AF_INET: [536, 1300, 1440, 1460], socket.AF_INET6: [1220, 1420, 1440, 8940]}


class Fates(NamedTuple):
    """What became of SYNs: kept as half-open requests, answered with a cookie, or dropped."""

    kept: int
    cookies: int
    dropped: int


@pytest.fixture(autouse=True)
def kernel_with_cookies(pair: Pair) -> None:
    """All of it needs CONFIG_SYN_COOKIES."""
    try:
        assert pair.server.sysctl[COOKIES]
    except UnknownSysctl as missing:
        raise Unsupported(f"the running kernel is built without CONFIG_SYN_COOKIES: {missing}") from None


def ceiling(backlog: int, cookies: int) -> int:
    """How many requests a listener keeps half-open."""
    return queues.half_open(running(), queues.Knobs(backlog, tcp_syncookies=cookies))


def fates(listener: Listener) -> Fates:
    """The fates of all SYNs up to now."""
    counted = counters(listener.host).TcpExt
    return Fates(half_open(listener.host, listener.port), counted.SyncookiesSent, counted.ListenDrops)


def knock(peer: RawPeer, listener: Listener, n: int) -> Fates:
    """Send n SYNs that will never be acknowledged; returns what became of them once the kernel has seen to all."""
    before = fates(listener)
    peer.half_open(listener, n)
    until(lambda: sum(fates(listener)) >= sum(before) + n, what=f"{n} SYNs to be kept, answered or dropped")
    return Fates(*(now - then for now, then in zip(fates(listener), before, strict=True)))


def waiting(listener: Listener) -> int:
    """How many connections wait for accept()."""
    return accept_queue(listener.host, listener.port).waiting


def moved(phase: Phase, host: Host) -> dict[str, int]:
    """What the phase did to the counters of cookies and of dropped handshakes; those not named did not move."""
    return phase.delta(host).only("TcpExt.Syncookies*", "TcpExt.TCPReqQFull*", "TcpExt.Listen*").nonzero()


def cookies_sent(n: int) -> dict[str, int]:
    """What `moved` says when n SYNs were answered with cookies and nothing else happened."""
    return {"TcpExt.SyncookiesSent": n, "TcpExt.TCPReqQFullDoCookies": n}


def dropped(n: int) -> dict[str, int]:
    """What `moved` says when n SYNs were dropped at a full SYN queue and nothing else happened."""
    return {"TcpExt.ListenDrops": n, "TcpExt.TCPReqQFullDrop": n}


def full(pair: Pair, cookies: int, backlog: int = 7) -> Listener:
    """A listener that answers its clients, its SYN queue filled to the ceiling."""
    pair.server.sysctl[COOKIES] = cookies
    listener = listen(pair.server, backlog, answer=echo)
    peer = RawPeer(pair.server, pair.client)
    room = ceiling(backlog, cookies)
    assert knock(peer, listener, room) == Fates(room, 0, 0)
    return listener


@pytest.mark.claim("syncookies.off")
def test_off(claim: ClaimRun, pair: Pair) -> None:
    peer = RawPeer(pair.server, pair.client)
    for backlog in BACKLOGS:
        kept = ceiling(backlog, 0)
        with claim.effect(f"tcp_syncookies 0, backlog {backlog}: {BEYOND} SYNs more than fit") as effect:
            pair.server.sysctl[COOKIES] = 0
            listener = listen(pair.server, backlog)
            effect.compare("SYNs", knock(peer, listener, kept + BEYOND), document=Fates(kept, 0, BEYOND))
            effect.compare("counters", moved(effect, pair.server), document=dropped(BEYOND))
        kept = ceiling(backlog, 1)
        with claim.control(f"tcp_syncookies 1, backlog {backlog}: {BEYOND} SYNs more than fit") as control:
            pair.server.sysctl[COOKIES] = 1
            listener = listen(pair.server, backlog)
            control.expect("SYNs", knock(peer, listener, kept + BEYOND), Fates(kept, BEYOND, 0))
            control.expect("counters", moved(control, pair.server), cookies_sent(BEYOND))


@pytest.mark.claim("syncookies.on-overflow")
def test_on_overflow(claim: ClaimRun, pair: Pair) -> None:
    pair.server.sysctl[COOKIES] = 1
    peer = RawPeer(pair.server, pair.client)
    for backlog in BACKLOGS:
        kept = ceiling(backlog, 1)
        with claim.effect(f"tcp_syncookies 1, backlog {backlog}: {kept} SYNs, which fit") as effect:
            listener = listen(pair.server, backlog)
            effect.compare("SYNs", knock(peer, listener, kept), document=Fates(kept, 0, 0))
            effect.compare("counters", moved(effect, pair.server), document={})
        with claim.effect(f"tcp_syncookies 1, backlog {backlog}: {BEYOND} more") as effect:
            # A queue that has just been filled: one that is more than half full is thinned out after some seconds
            # (reqsk_timer_handler()), which a busy machine takes for little.
            listener = listen(pair.server, backlog)
            effect.premise("SYNs that fit", knock(peer, listener, kept), Fates(kept, 0, 0))
            effect.compare("SYNs", knock(peer, listener, BEYOND), document=Fates(0, BEYOND, 0))
            effect.compare("counters", moved(effect, pair.server), document=cookies_sent(BEYOND))
        with claim.control(f"tcp_syncookies 1, as many SYNs, room for {4 * backlog}") as control:
            roomy = listen(pair.server, 4 * backlog)
            control.expect("SYNs", knock(peer, roomy, kept + BEYOND), Fates(kept + BEYOND, 0, 0))
            control.expect("counters", moved(control, pair.server), {})


@pytest.mark.claim("syncookies.always")
def test_always(claim: ClaimRun, pair: Pair) -> None:
    peer = RawPeer(pair.server, pair.client)
    pair.server.sysctl[COOKIES] = 2
    with claim.effect("tcp_syncookies 2: 20 SYNs at an empty queue") as effect:
        listener = listen(pair.server, 40, answer=echo)
        effect.compare("SYNs", knock(peer, listener, 20), document=Fates(0, 20, 0))
        effect.compare("counters", moved(effect, pair.server), document=cookies_sent(20))
    with claim.effect("tcp_syncookies 2: 10 clients") as effect:
        served = sum(connect(pair.client, listener, wait=True).ask() for _ in range(10))
        effect.compare("clients served", served, document=10)
        received = {"TcpExt.SyncookiesRecv": 10}
        effect.compare("counters", moved(effect, pair.server), document=cookies_sent(10) | received)
    for value, kept in ((1, 20), (0, 20)):
        with claim.control(f"tcp_syncookies {value}: 20 SYNs at an empty queue") as control:
            pair.server.sysctl[COOKIES] = value
            listener = listen(pair.server, 40, answer=echo)
            control.expect("SYNs", knock(peer, listener, 20), Fates(kept, 0, 0))
            control.expect("a client is answered", connect(pair.client, listener, wait=True).ask(), 1)
            control.expect("counters", moved(control, pair.server), {})


@pytest.mark.claim("syncookies.bypass-the-queue")
def test_bypass_the_queue(claim: ClaimRun, pair: Pair) -> None:
    for cookies in (1, 2):
        places = ceiling(7, cookies)
        listener = full(pair, cookies)
        with claim.effect(
            f"tcp_syncookies {cookies}, {places} half-open requests fill the queue: 10 clients"
        ) as effect:
            served, lengths = 0, set()
            for _ in range(10):
                served += connect(pair.client, listener, wait=True).ask()
                lengths.add(half_open(pair.server, listener.port))
            effect.compare("clients served", served, document=10)
            effect.compare("lengths of the SYN queue meanwhile", lengths, document={places})
            received = {"TcpExt.SyncookiesRecv": 10}
            effect.compare("counters", moved(effect, pair.server), document=cookies_sent(10) | received)
    listener = full(pair, 0)
    with claim.control("tcp_syncookies 0, the queue full: a client") as control:
        client = connect(pair.client, listener)
        until(lambda: control.delta(pair.server).TcpExt.TCPReqQFullDrop >= 1, what="the SYN to be dropped")
        control.expect("clients connected", client.connected, 0)
    with claim.control("tcp_syncookies 0, a queue with room: a handshake, step by step") as control:
        roomy = listen(pair.server, 7)
        connection = RawPeer(pair.server, pair.client).connection(roomy)
        connection.syn()
        control.expect("places taken after the SYN", half_open(pair.server, roomy.port), 1)
        connection.send("A")
        until(lambda: waiting(roomy) == 1, what="the handshake to complete")
        control.expect("places taken after the ACK", half_open(pair.server, roomy.port), 0)


def forgeries(peer: RawPeer, listener: Listener) -> dict[str, RawConnection]:
    """Four ACKs with a cookie that the server did not give them: what is wrong, and the connection that sent it."""
    altered, foreign, shifted, invented = (peer.connection(listener) for _ in range(4))
    for connection in (altered, foreign, shifted):
        connection.syn()
    altered.send("A", ack=altered.ack + 1000)
    foreign.send("A", ack=altered.ack)
    shifted.send("A", seq=shifted.seq + 1000)
    invented.send("A", ack=0x12345678)
    return {
        "the cookie plus 1000": altered,
        "another port's cookie": foreign,
        "another sequence number": shifted,
        "no SYN before": invented,
    }


def answers(sent: dict[str, RawConnection]) -> dict[str, str]:
    """The flags of the segments that answered the ACKs."""
    return {what: str(one.wait(lambda reply: reply.flags != "SA").flags) for what, one in sent.items()}


def takes(listener: Listener, peer: RawPeer, offset: int) -> bool:
    """Whether the listener takes an ACK whose number is `offset` more than the cookie's."""

    def judged() -> tuple[int, int]:
        counted = counters(listener.host).TcpExt
        return counted.SyncookiesRecv, counted.SyncookiesFailed

    before = judged()
    connection = peer.connection(listener)
    connection.syn()
    connection.send("A", ack=connection.ack + offset)
    until(lambda: judged() != before, what="the ACK to be judged")
    return judged()[0] > before[0]


@pytest.mark.claim("syncookies.validated")
def test_validated(claim: ClaimRun, pair: Pair) -> None:
    claim.capture(pair.server)
    peer = RawPeer(pair.server, pair.client)
    for cookies in (2, 1):
        listener = full(pair, cookies)
        listener.stall()
        with claim.control(f"tcp_syncookies {cookies}: an ACK with the cookie it was given") as control:
            connection = peer.connection(listener)
            connection.handshake()
            until(lambda: waiting(listener) == 1, what="the connection")
            control.expect("counters", moved(control, pair.server), cookies_sent(1) | {"TcpExt.SyncookiesRecv": 1})
        with claim.effect(f"tcp_syncookies {cookies}: four ACKs with another") as effect:
            forged = forgeries(peer, listener)
            effect.compare("answers", answers(forged), document=dict.fromkeys(forged, "R"))
            refused = cookies_sent(3) | {"TcpExt.SyncookiesFailed": 4}
            effect.compare("counters", moved(effect, pair.server), document=refused)
            effect.compare("connections beside the first", waiting(listener) - 1, document=0)
        with claim.effect(
            f"tcp_syncookies {cookies}: what is not forged, the first ACK once more after a RST"
        ) as effect:
            # A cookie is no ticket for one ride: whoever has it can come again until it is one to two minutes old.
            connection.send("R")
            connection.send("A")
            until(lambda: waiting(listener) == 2, what="the second connection")
            effect.premise("counters", moved(effect, pair.server), {"TcpExt.SyncookiesRecv": 1})
    with claim.control("tcp_syncookies 0: an ACK with no SYN before, which nobody takes for a cookie") as control:
        pair.server.sysctl[COOKIES] = 0
        stray = peer.connection(listen(pair.server, 7))
        stray.send("A", ack=0x12345678)
        control.expect("answer", answers({"a stray ACK": stray}), {"a stray ACK": "R"})
        control.expect("counters", moved(control, pair.server), {})
    with claim.effect("tcp_syncookies 2: how much of the number is checked") as effect:
        # The MSS is in the number, as its place in a table of four: the other three places are as good.
        pair.server.sysctl[COOKIES] = 2
        listener = listen(pair.server, 40)
        table = MSS_TABLE[pair.server.family]
        own = max(place for place, mss in enumerate(table) if mss <= dict(SYN_OPTIONS)["MSS"])
        near = [offset for offset in range(-5, 6) if takes(listener, peer, offset)]
        effect.premise("numbers that are taken, from the cookie", near, [place - own for place in range(len(table))])


@pytest.mark.claim("syncookies.no-drop-when-on")
def test_no_drop_when_on(claim: ClaimRun, pair: Pair) -> None:
    peer = RawPeer(pair.server, pair.client)
    for backlog in BACKLOGS:
        for cookies in (1, 2):
            title = (
                f"tcp_syncookies {cookies}, backlog {backlog}: {BEYOND} SYNs at {ceiling(backlog, cookies)} half-open"
            )
            listener = full(pair, cookies, backlog)
            with claim.effect(title) as effect:
                effect.compare("SYNs dropped", knock(peer, listener, BEYOND).dropped, document=0)
                effect.compare("counters", moved(effect, pair.server), document=cookies_sent(BEYOND))
        listener = full(pair, 0, backlog)
        with claim.control(f"tcp_syncookies 0, backlog {backlog}: the same") as control:
            control.expect("SYNs dropped", knock(peer, listener, BEYOND).dropped, BEYOND)
            control.expect("counters", moved(control, pair.server), dropped(BEYOND))
    listener = full(pair, 1)
    listener.stall()
    with claim.effect("tcp_syncookies 1, SYN queue full: clients fill the accept queue as well") as effect:
        connect(pair.client, listener, listener.backlog + 1, wait=True)
        effect.compare("SYNs dropped", effect.delta(pair.server).TcpExt.ListenDrops, document=0)
        effect.premise("connections waiting", waiting(listener), listener.backlog + 1)
    with claim.effect(f"tcp_syncookies 1, both queues full: {BEYOND} SYNs") as effect:
        # Against a full accept queue there is no cookie. Before 4.10 only while more than one request is young
        # (5ea8ea2cb7f1 "tcp/dccp: drop SYN packets if accept queue is full"), which a slow machine may miss.
        lost = knock(peer, listener, BEYOND).dropped
        effect.premise("SYNs dropped", lost, BEYOND if running() >= "4.10" else between(0, BEYOND))
        effect.premise("ListenOverflows", effect.delta(pair.server).TcpExt.ListenOverflows, lost)


@pytest.mark.claim("syncookies.value-1-suffices")
def test_value_1_suffices(claim: ClaimRun, pair: Pair) -> None:
    def under_attack(cookies: int) -> tuple[Listener, Flood]:
        """A listener whose SYN queue is full, if it has one, of a flood that goes on."""
        pair.server.sysctl[COOKIES] = cookies
        listener = listen(pair.server, 40, answer=echo)
        attack = flood(pair.server, pair.client, listener, seconds=60, rate=1000, distinct=4096)
        until(lambda: half_open(pair.server, listener.port) >= ceiling(40, cookies), what="a full SYN queue")
        return listener, attack

    for cookies in (1, 2):
        listener, attack = under_attack(cookies)
        with attack, claim.effect(f"tcp_syncookies {cookies}: 10 clients during a flood") as effect:
            served = sum(connect(pair.client, listener, wait=True).ask() for _ in range(10))
            effect.compare("clients served", served, document=10)
            effect.compare("SYNs dropped", effect.delta(pair.server).TcpExt.ListenDrops, document=0)
            effect.premise("clients with a cookie", effect.delta(pair.server).TcpExt.SyncookiesRecv, 10)
            effect.note("SYNs of the flood, since it began", attack.sent)
    listener, attack = under_attack(0)
    with attack, claim.control("tcp_syncookies 0: 10 clients during a flood, until each has sent two SYNs") as control:
        clients = connect(pair.client, listener, 10)
        until(lambda: control.delta(pair.client).Tcp.RetransSegs >= 10, what="10 clients to send their SYN again")
        control.expect("clients connected", clients.connected, 0)
        control.expect("SYNs dropped", control.delta(pair.server).TcpExt.ListenDrops, at_least(20))
        control.note("SYNs of the flood, since it began", attack.sent)


@pytest.mark.claim("syncookies.default")
def test_default(claim: ClaimRun, pair: Pair) -> None:
    peer, kept = RawPeer(pair.server, pair.client), ceiling(7, 1)
    with claim.effect("a namespace in which nothing was set") as effect:
        effect.compare("tcp_syncookies", pair.server.sysctl[COOKIES], document="0", kernel="1")
        fate = knock(peer, listen(pair.server, 7), kept + BEYOND)
        effect.compare("SYNs", fate, document=Fates(ceiling(7, 0), 0, BEYOND), kernel=Fates(kept, BEYOND, 0))
    with claim.control("tcp_syncookies set to 0") as control:
        pair.server.sysctl[COOKIES] = 0
        control.expect("tcp_syncookies", pair.server.sysctl[COOKIES], "0")
        fate = knock(peer, listen(pair.server, 7), kept + BEYOND)
        control.expect("SYNs", fate, Fates(ceiling(7, 0), 0, kept + BEYOND - ceiling(7, 0)))
