"""SYN cookies: when they are sent, what they stand in for, and what the documents say about both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.instruments.syn_queue import SYNCOOKIES
from harness.instruments.syncookies import (
    answers_to,
    cookie_counters,
    cookies_counted,
    drops_counted,
    forge_acks,
    full_queue,
    is_taken,
    offsets_taken,
    places,
)
from harness.instruments.syns import Fates, send_syns
from harness.laws import before
from harness.laws.ranges import at_least, between
from harness.traffic import RawPeer, connect, echo, flood, listen
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair
    from harness.traffic import Flood, Listener

pytestmark = pytest.mark.usefixtures("syn_cookies")

BACKLOGS = [7, 40]
BEYOND = 9


@pytest.mark.claim("syncookies.off")
def test_off(claim: ClaimRun, pair: Pair) -> None:
    peer = RawPeer(pair.server, pair.client)
    for backlog in BACKLOGS:
        fit = places(backlog, 0)
        with claim.effect(f"tcp_syncookies 0, backlog {backlog}: {BEYOND} SYNs more than fit") as effect:
            pair.server.sysctl[SYNCOOKIES] = 0
            listener = listen(pair.server, backlog)
            effect.compare("SYNs", send_syns(peer, listener, fit + BEYOND), document=Fates(fit, 0, BEYOND))
            effect.compare("counters", cookie_counters(effect.delta(pair.server)), document=drops_counted(BEYOND))
        fit = places(backlog, 1)
        with claim.control(f"tcp_syncookies 1, backlog {backlog}: {BEYOND} SYNs more than fit") as control:
            pair.server.sysctl[SYNCOOKIES] = 1
            listener = listen(pair.server, backlog)
            control.expect("SYNs", send_syns(peer, listener, fit + BEYOND), Fates(fit, BEYOND, 0))
            control.expect("counters", cookie_counters(control.delta(pair.server)), cookies_counted(BEYOND))


@pytest.mark.claim("syncookies.on-overflow")
def test_on_overflow(claim: ClaimRun, pair: Pair) -> None:
    pair.server.sysctl[SYNCOOKIES] = 1
    peer = RawPeer(pair.server, pair.client)
    for backlog in BACKLOGS:
        fit = places(backlog, 1)
        with claim.effect(f"tcp_syncookies 1, backlog {backlog}: {fit} SYNs, which fit") as effect:
            listener = listen(pair.server, backlog)
            effect.compare("SYNs", send_syns(peer, listener, fit), document=Fates(fit, 0, 0))
            effect.compare("counters", cookie_counters(effect.delta(pair.server)), document={})
        with claim.effect(f"tcp_syncookies 1, backlog {backlog}: {BEYOND} more") as effect:
            # A queue that has just been filled: one that is more than half full is thinned out after some seconds
            # (reqsk_timer_handler()), which a busy machine takes for little.
            listener = listen(pair.server, backlog)
            effect.premise("SYNs that fit", send_syns(peer, listener, fit), Fates(fit, 0, 0))
            effect.compare("SYNs", send_syns(peer, listener, BEYOND), document=Fates(0, BEYOND, 0))
            effect.compare("counters", cookie_counters(effect.delta(pair.server)), document=cookies_counted(BEYOND))
        with claim.control(f"tcp_syncookies 1, as many SYNs, room for {4 * backlog}") as control:
            roomy = listen(pair.server, 4 * backlog)
            control.expect("SYNs", send_syns(peer, roomy, fit + BEYOND), Fates(fit + BEYOND, 0, 0))
            control.expect("counters", cookie_counters(control.delta(pair.server)), {})


@pytest.mark.claim("syncookies.always")
def test_always(claim: ClaimRun, pair: Pair) -> None:
    peer = RawPeer(pair.server, pair.client)
    pair.server.sysctl[SYNCOOKIES] = 2
    with claim.effect("tcp_syncookies 2: 20 SYNs at an empty queue") as effect:
        listener = listen(pair.server, 40, answer=echo)
        effect.compare("SYNs", send_syns(peer, listener, 20), document=Fates(0, 20, 0))
        effect.compare("counters", cookie_counters(effect.delta(pair.server)), document=cookies_counted(20))
    with claim.effect("tcp_syncookies 2: 10 clients") as effect:
        served = sum(connect(pair.client, listener, wait=True).ask() for _ in range(10))
        effect.compare("clients served", served, document=10)
        received = {"TcpExt.SyncookiesRecv": 10}
        effect.compare("counters", cookie_counters(effect.delta(pair.server)), document=cookies_counted(10) | received)
    for value, fit in ((1, 20), (0, 20)):
        with claim.control(f"tcp_syncookies {value}: 20 SYNs at an empty queue") as control:
            pair.server.sysctl[SYNCOOKIES] = value
            listener = listen(pair.server, 40, answer=echo)
            control.expect("SYNs", send_syns(peer, listener, 20), Fates(fit, 0, 0))
            control.expect("a client is answered", connect(pair.client, listener, wait=True).ask(), 1)
            control.expect("counters", cookie_counters(control.delta(pair.server)), {})


@pytest.mark.claim("syncookies.bypass-the-queue")
def test_bypass_the_queue(claim: ClaimRun, pair: Pair) -> None:
    for cookies in (1, 2):
        taken = places(7, cookies)
        listener = full_queue(pair.server, pair.client, cookies)
        with claim.effect(f"tcp_syncookies {cookies}, {taken} half-open requests fill the queue: 10 clients") as effect:
            served, lengths = 0, set()
            for _ in range(10):
                served += connect(pair.client, listener, wait=True).ask()
                lengths.add(listener.half_open)
            effect.compare("clients served", served, document=10)
            effect.compare("lengths of the SYN queue meanwhile", lengths, document={taken})
            received = {"TcpExt.SyncookiesRecv": 10}
            effect.compare(
                "counters", cookie_counters(effect.delta(pair.server)), document=cookies_counted(10) | received
            )
    listener = full_queue(pair.server, pair.client, 0)
    with claim.control("tcp_syncookies 0, the queue full: a client") as control:
        client = connect(pair.client, listener)
        until(lambda: control.delta(pair.server).TcpExt.TCPReqQFullDrop >= 1, what="the SYN to be dropped")
        control.expect("clients connected", client.connected, 0)
    with claim.control("tcp_syncookies 0, a queue with room: a handshake, step by step") as control:
        roomy = listen(pair.server, 7)
        connection = RawPeer(pair.server, pair.client).connection(roomy)
        connection.syn()
        control.expect("places taken after the SYN", roomy.half_open, 1)
        connection.send("A")
        until(lambda: roomy.waiting == 1, what="the handshake to complete")
        control.expect("places taken after the ACK", roomy.half_open, 0)


@pytest.mark.claim("syncookies.validated")
def test_validated(claim: ClaimRun, pair: Pair) -> None:
    claim.capture(pair.server)
    peer = RawPeer(pair.server, pair.client)
    for cookies in (2, 1):
        listener = full_queue(pair.server, pair.client, cookies)
        listener.stall()
        with claim.control(f"tcp_syncookies {cookies}: an ACK with the cookie it was given") as control:
            connection = peer.connection(listener)
            connection.handshake()
            until(lambda: listener.waiting == 1, what="the connection")
            control.expect(
                "counters",
                cookie_counters(control.delta(pair.server)),
                cookies_counted(1) | {"TcpExt.SyncookiesRecv": 1},
            )
        with claim.effect(f"tcp_syncookies {cookies}: four ACKs with another") as effect:
            forged = forge_acks(peer, listener)
            effect.compare("answers", answers_to(forged), document=dict.fromkeys(forged, "R"))
            refused = cookies_counted(3) | {"TcpExt.SyncookiesFailed": 4}
            effect.compare("counters", cookie_counters(effect.delta(pair.server)), document=refused)
            effect.compare("connections beside the first", listener.waiting - 1, document=0)
        with claim.effect(
            f"tcp_syncookies {cookies}: what is not forged, the first ACK once more after a RST"
        ) as effect:
            # A cookie is no ticket for one ride: whoever has it can come again until it is one to two minutes old.
            connection.send("R")
            connection.send("A")
            until(lambda: listener.waiting == 2, what="the second connection")
            effect.premise("counters", cookie_counters(effect.delta(pair.server)), {"TcpExt.SyncookiesRecv": 1})
    with claim.control("tcp_syncookies 0: an ACK with no SYN before, which nobody takes for a cookie") as control:
        pair.server.sysctl[SYNCOOKIES] = 0
        stray = peer.connection(listen(pair.server, 7))
        stray.send("A", ack=0x12345678)
        control.expect("answer", answers_to({"a stray ACK": stray}), {"a stray ACK": "R"})
        control.expect("counters", cookie_counters(control.delta(pair.server)), {})
    with claim.effect("tcp_syncookies 2: how much of the number is checked") as effect:
        # The MSS is in the number, as its place in a table of four: the other three places are as good.
        pair.server.sysctl[SYNCOOKIES] = 2
        listener = listen(pair.server, 40)
        near = [offset for offset in range(-5, 6) if is_taken(listener, peer, offset)]
        effect.premise("numbers that are taken, from the cookie", near, offsets_taken(pair.server.family))


@pytest.mark.claim("syncookies.no-drop-when-on")
def test_no_drop_when_on(claim: ClaimRun, pair: Pair) -> None:
    peer = RawPeer(pair.server, pair.client)
    for backlog in BACKLOGS:
        for cookies in (1, 2):
            title = (
                f"tcp_syncookies {cookies}, backlog {backlog}: {BEYOND} SYNs at {places(backlog, cookies)} half-open"
            )
            listener = full_queue(pair.server, pair.client, cookies, backlog)
            with claim.effect(title) as effect:
                effect.compare("SYNs dropped", send_syns(peer, listener, BEYOND).dropped, document=0)
                effect.compare("counters", cookie_counters(effect.delta(pair.server)), document=cookies_counted(BEYOND))
        listener = full_queue(pair.server, pair.client, 0, backlog)
        with claim.control(f"tcp_syncookies 0, backlog {backlog}: the same") as control:
            control.expect("SYNs dropped", send_syns(peer, listener, BEYOND).dropped, BEYOND)
            control.expect("counters", cookie_counters(control.delta(pair.server)), drops_counted(BEYOND))
    listener = full_queue(pair.server, pair.client, 1)
    listener.stall()
    with claim.effect("tcp_syncookies 1, SYN queue full: clients fill the accept queue as well") as effect:
        connect(pair.client, listener, listener.backlog + 1, wait=True)
        effect.compare("SYNs dropped", effect.delta(pair.server).TcpExt.ListenDrops, document=0)
        effect.premise("connections waiting", listener.waiting, listener.backlog + 1)
    with claim.effect(f"tcp_syncookies 1, both queues full: {BEYOND} SYNs") as effect:
        # Against a full accept queue there is no cookie. Where that goes for more than one young request only, a slow
        # machine may miss it.
        lost = send_syns(peer, listener, BEYOND).dropped
        some = between(0, BEYOND) if before("accept-queue-full-drops-syns") else BEYOND
        effect.premise("SYNs dropped", lost, some)
        effect.premise("ListenOverflows", effect.delta(pair.server).TcpExt.ListenOverflows, lost)


@pytest.mark.claim("syncookies.value-1-suffices")
def test_value_1_suffices(claim: ClaimRun, pair: Pair) -> None:
    def under_attack(cookies: int) -> tuple[Listener, Flood]:
        """A listener whose SYN queue is full, if it has one, of a flood that goes on."""
        pair.server.sysctl[SYNCOOKIES] = cookies
        listener = listen(pair.server, 40, answer=echo)
        attack = flood(pair.server, pair.client, listener, seconds=60, rate=1000, distinct=4096)
        until(lambda: listener.half_open >= places(40, cookies), what="a full SYN queue")
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
    peer, fit = RawPeer(pair.server, pair.client), places(7, 1)
    with claim.effect("a namespace in which nothing was set") as effect:
        effect.compare("tcp_syncookies", pair.server.sysctl[SYNCOOKIES], document="0", kernel="1")
        fate = send_syns(peer, listen(pair.server, 7), fit + BEYOND)
        effect.compare("SYNs", fate, document=Fates(places(7, 0), 0, BEYOND), kernel=Fates(fit, BEYOND, 0))
    with claim.control("tcp_syncookies set to 0") as control:
        pair.server.sysctl[SYNCOOKIES] = 0
        control.expect("tcp_syncookies", pair.server.sysctl[SYNCOOKIES], "0")
        fate = send_syns(peer, listen(pair.server, 7), fit + BEYOND)
        control.expect("SYNs", fate, Fates(places(7, 0), 0, fit + BEYOND - places(7, 0)))
