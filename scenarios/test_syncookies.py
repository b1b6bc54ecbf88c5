"""SYN cookies: when they are sent, what they stand in for, and what is dropped all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.instruments.accept_queue import fill
from harness.instruments.syn_queue import SYNCOOKIES, drops
from harness.instruments.syncookies import (
    cookie_counters,
    cookies_counted,
    drops_counted,
    full_queue,
    past_the_start,
    take_cookie_elsewhere,
)
from harness.instruments.syns import Fates, fill_up, send_syns
from harness.laws import since
from harness.traffic import RawPeer, connect, echo, listen
from harness.waiting import until, until_at_least, until_equal

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

pytestmark = pytest.mark.usefixtures("syn_cookies")

# A longer queue that is more than half full is thinned out after some seconds (reqsk_timer_handler()).
BACKLOGS = [1, 3]
BEYOND = 9


@pytest.mark.claim("syncookies.off")
def test_off(claim: ClaimRun, pair: Pair) -> None:
    peer = RawPeer(pair.server, pair.client)
    listener = full_queue(pair.server, pair.client, 2).listener
    listener.stall()
    late, in_time = peer.connection(listener), peer.connection(listener)
    for each in (late, in_time):
        each.syn()
    with claim.control("tcp_syncookies 2, and the ACK with a cookie that was sent") as control:
        in_time.send("A")
        until_equal(lambda: listener.waiting, 1, what="connections waiting")
        control.expect("counters", cookie_counters(control.delta(pair.server)), {"TcpExt.SyncookiesRecv": 1})
    with claim.effect("tcp_syncookies 0, and the ACK with another cookie that was sent before") as effect:
        pair.server.sysctl[SYNCOOKIES] = 0
        late.send("A")
        effect.compare("the answer", str(late.wait(bool).flags), document="R")
        effect.compare("connections that wait", listener.waiting, document=1)
        effect.compare("counters", cookie_counters(effect.delta(pair.server)), document={})
    listener.close()
    for backlog in BACKLOGS:
        listener = full_queue(pair.server, pair.client, 0, backlog).listener
        with claim.effect(f"tcp_syncookies 0, backlog {backlog}: {BEYOND} SYNs more than fit") as effect:
            effect.compare("SYNs", send_syns(peer, listener, BEYOND), document=Fates(0, 0, BEYOND))
            effect.compare("counters", cookie_counters(effect.delta(pair.server)), document=drops_counted(BEYOND))
        listener = full_queue(pair.server, pair.client, 1, backlog).listener
        with claim.control(f"tcp_syncookies 1, backlog {backlog}: {BEYOND} SYNs more than fit") as control:
            control.expect("SYNs", send_syns(peer, listener, BEYOND), Fates(0, BEYOND, 0))
            control.expect("counters", cookie_counters(control.delta(pair.server)), cookies_counted(BEYOND))


@pytest.mark.claim("syncookies.on-overflow")
def test_on_overflow(claim: ClaimRun, pair: Pair) -> None:
    peer = RawPeer(pair.server, pair.client)
    for backlog in BACKLOGS:
        full = full_queue(pair.server, pair.client, 0, backlog).length
        pair.server.sysctl[SYNCOOKIES] = 1
        with claim.effect(f"tcp_syncookies 1, backlog {backlog}: SYNs one after another") as effect:
            listener = listen(pair.server, backlog)
            kept, first = fill_up(peer, listener)
            effect.compare("SYNs kept before the first is not", kept, document=full)
            effect.compare("what became of that one", first, document=Fates(0, 1, 0))
            effect.compare("counters", cookie_counters(effect.delta(pair.server)), document=cookies_counted(1))
        with claim.effect(f"tcp_syncookies 1, backlog {backlog}: {BEYOND} more") as effect:
            listener = full_queue(pair.server, pair.client, 1, backlog).listener
            effect.compare("SYNs", send_syns(peer, listener, BEYOND), document=Fates(0, BEYOND, 0))
            effect.compare("counters", cookie_counters(effect.delta(pair.server)), document=cookies_counted(BEYOND + 1))
        with claim.control("tcp_syncookies 1, as many SYNs, room for 40") as control:
            roomy = listen(pair.server, 40)
            control.expect("SYNs", send_syns(peer, roomy, full + BEYOND), Fates(full + BEYOND, 0, 0))
            control.expect("counters", cookie_counters(control.delta(pair.server)), {})
    past_the_start()
    pair.server.sysctl[SYNCOOKIES] = 2
    with claim.control("a right cookie, brought to a listener that has sent none lately") as control:
        brought = take_cookie_elsewhere(pair.server, RawPeer(pair.server, pair.client))
        control.expect("the answer", str(brought.wait("R").flags), "R")
        looked_at = control.delta(pair.server).only("TcpExt.SyncookiesRecv", "TcpExt.SyncookiesFailed")
        control.expect("cookies that were looked at", looked_at.nonzero(), {})


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
        listener, taken = full_queue(pair.server, pair.client, cookies)
        with claim.effect(f"tcp_syncookies {cookies}, {taken} half-open requests fill the queue: 10 clients") as effect:
            served, lengths = 0, set()
            for _ in range(10):
                served += connect(pair.client, listener, wait=True).ask()
                lengths.add(listener.half_open)
            effect.compare("clients served", served, document=10)
            effect.compare("lengths of the SYN queue meanwhile", lengths, document={taken})
            counted = cookies_counted(10) | {"TcpExt.SyncookiesRecv": 10}
            effect.compare("counters", cookie_counters(effect.delta(pair.server)), document=counted)
    listener = full_queue(pair.server, pair.client, 0).listener
    with claim.control("tcp_syncookies 0, the queue full: a client") as control:
        client = connect(pair.client, listener)
        until_at_least(lambda: control.delta(pair.server).TcpExt.TCPReqQFullDrop, 1, what="the SYN to be dropped")
        control.expect("clients connected", client.connected, 0)
    with claim.control("tcp_syncookies 0, a queue with room: a handshake, step by step") as control:
        roomy = listen(pair.server, 7)
        connection = RawPeer(pair.server, pair.client).connection(roomy)
        connection.syn()
        control.expect("places taken after the SYN", roomy.half_open, 1)
        connection.send("A")
        until_equal(lambda: roomy.waiting, 1, what="connections waiting")
        control.expect("places taken after the ACK", roomy.half_open, 0)


@pytest.mark.claim("syncookies.no-drop-when-on")
def test_no_drop_when_on(claim: ClaimRun, pair: Pair) -> None:
    peer = RawPeer(pair.server, pair.client)
    for backlog in BACKLOGS:
        for cookies in (1, 2):
            listener, taken = full_queue(pair.server, pair.client, cookies, backlog)
            title = f"tcp_syncookies {cookies}, backlog {backlog}: {BEYOND} SYNs at {taken} half-open"
            with claim.effect(title) as effect:
                effect.compare("SYNs dropped", send_syns(peer, listener, BEYOND).dropped, document=0)
                effect.compare("counters", cookie_counters(effect.delta(pair.server)), document=cookies_counted(BEYOND))
        listener = full_queue(pair.server, pair.client, 0, backlog).listener
        with claim.control(f"tcp_syncookies 0, backlog {backlog}: the same") as control:
            control.expect("SYNs dropped", send_syns(peer, listener, BEYOND).dropped, BEYOND)
            control.expect("counters", cookie_counters(control.delta(pair.server)), drops_counted(BEYOND))
    listener = full_queue(pair.server, pair.client, 1).listener
    listener.stall()
    with claim.effect("tcp_syncookies 1, SYN queue full: clients fill the accept queue") as effect:
        fill(pair.client, listener)
        effect.compare("SYNs dropped", drops(effect.delta(pair.server).TcpExt), document=0)


@pytest.mark.claim("syncookies.nothing-is-dropped")
def test_nothing_is_dropped(claim: ClaimRun, pair: Pair) -> None:
    server, peer = pair.server, RawPeer(pair.server, pair.client)
    for cookies in (1, 2):
        listener = full_queue(server, pair.client, cookies).listener
        listener.stall()
        late = peer.connection(listener)
        late.syn()
        with claim.effect(
            f"tcp_syncookies {cookies}: a handshake that a cookie began ends at a full accept queue"
        ) as effect:
            fill(pair.client, listener)
            waiting = listener.waiting
            late.send("A")

            def judged() -> bool:
                return listener.waiting > waiting or drops(effect.delta(server).TcpExt) >= 1

            until(judged, what="the ACK to make a connection, or to be dropped")
            effect.compare("connections made", listener.waiting - waiting, document=1, kernel=0)
        with claim.effect(f"tcp_syncookies {cookies}: {BEYOND} SYNs at a full accept queue") as effect:
            # Where it takes two requests whose SYN-ACK was never repeated, there are as many with 1, and none with 2.
            dropped = BEYOND if cookies == 1 or since("accept-queue-full-drops-syns") else 0
            effect.compare("SYNs dropped", send_syns(peer, listener, BEYOND).dropped, document=0, kernel=dropped)
        with claim.control(f"tcp_syncookies {cookies}: one connection is accepted, and the ACK comes again") as control:
            listener.accept()
            late.send("A")
            until_equal(lambda: listener.waiting, waiting, what="connections waiting")
            control.expect("SYNs dropped", control.delta(server).TcpExt.ListenDrops, 0)


@pytest.mark.claim("syncookies.default")
def test_default(claim: ClaimRun, pair: Pair) -> None:
    peer = RawPeer(pair.server, pair.client)
    with claim.effect("a namespace in which nothing was set: SYNs one after another until one is not kept") as effect:
        effect.compare("tcp_syncookies", pair.server.sysctl[SYNCOOKIES], document="0", kernel="1")
        fate = fill_up(peer, listen(pair.server, 3)).next
        effect.compare("what became of that one", fate, document=Fates(0, 0, 1), kernel=Fates(0, 1, 0))
    with claim.control("tcp_syncookies set to 0: the same") as control:
        pair.server.sysctl[SYNCOOKIES] = 0
        control.expect("what became of that one", fill_up(peer, listen(pair.server, 3)).next, Fates(0, 0, 1))
