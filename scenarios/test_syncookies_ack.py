"""The ACK that brings a SYN cookie back: what is checked of it, what the cookie has kept, and what it has lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import state
from harness.instruments.accept_queue import fill
from harness.instruments.inbound import CLOCK, Door
from harness.instruments.syn_queue import SYNCOOKIES
from harness.instruments.syncookies import (
    MSS_TABLE,
    answers_to,
    cookie_counters,
    cookies_counted,
    forge_acks,
    full_queue,
    is_taken,
    mss_kept,
    offsets_taken,
)
from harness.instruments.syns import Fates, fates_of, fill_up, send_syns
from harness.laws import before, since
from harness.observe import info_of, states_at
from harness.traffic import SYN_OPTIONS, RawPeer, connect, drop, establish, listen
from harness.traffic.connection import take
from harness.traffic.timestamps import stamp, stamps_of
from harness.waiting import let_pass, until, until_equal

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair
    from harness.traffic import Listener, RawConnection
    from harness.traffic.raw import Options

pytestmark = pytest.mark.usefixtures("syn_cookies")


@pytest.mark.claim("syncookies.validated")
def test_validated(claim: ClaimRun, pair: Pair) -> None:
    claim.capture(pair.server)
    peer = RawPeer(pair.server, pair.client)
    for cookies in (2, 1):
        listener = full_queue(pair.server, pair.client, cookies).listener
        listener.stall()
        with claim.control(f"tcp_syncookies {cookies}: an ACK with the cookie it was given") as control:
            peer.connection(listener).handshake()
            until_equal(lambda: listener.waiting, 1, what="connections waiting")
            counted = cookies_counted(1) | {"TcpExt.SyncookiesRecv": 1}
            control.expect("counters", cookie_counters(control.delta(pair.server)), counted)
        with claim.effect(f"tcp_syncookies {cookies}: four ACKs with another") as effect:
            forged = forge_acks(peer, listener)
            effect.compare("answers", answers_to(forged), document=dict.fromkeys(forged, "R"))
            refused = cookies_counted(3) | {"TcpExt.SyncookiesFailed": 4}
            effect.compare("counters", cookie_counters(effect.delta(pair.server)), document=refused)
            effect.compare("connections beside the first", listener.waiting - 1, document=0)
    with claim.control("tcp_syncookies 0: an ACK with no SYN before, which nobody takes for a cookie") as control:
        pair.server.sysctl[SYNCOOKIES] = 0
        stray = peer.connection(listen(pair.server, 7))
        stray.send("A", ack=0x12345678)
        control.expect("answer", answers_to({"a stray ACK": stray}), {"a stray ACK": "R"})
        control.expect("counters", cookie_counters(control.delta(pair.server)), {})


@pytest.mark.slow(59)
@pytest.mark.claim("syncookies.cookie-can-come-twice")
def test_cookie_can_come_twice(claim: ClaimRun, pair: Pair, long_form: bool) -> None:
    for cookies in (2, 0):
        pair.server.sysctl[SYNCOOKIES] = cookies
        listener = listen(pair.server, 7)
        connection = RawPeer(pair.server, pair.client).connection(listener)
        connection.handshake()
        until_equal(lambda: listener.waiting, 1, what="connections waiting")
        connection.send("R")
        if cookies:
            with claim.effect(
                "the client resets the connection that a cookie made, and sends the ACK once more"
            ) as effect:
                connection.send("A")
                until(lambda: effect.delta(pair.server).TcpExt.SyncookiesRecv, what="the cookie to be taken again")
                effect.compare("connections that wait", listener.waiting, document=2)
        else:
            with claim.control("the same without a cookie") as control:
                connection.send("A")
                control.expect("the answer", str(connection.wait("R").flags), "R")
                control.expect("connections that wait", listener.waiting, 1)
    # Good in the minute in which it was sent and in the next one. The minutes are those of the kernel's own clock
    # (tcp_cookie_time()): that none is good any more can be seen after two of them, whenever one begins to look.
    compare_a_cookie_of_an_age(claim, pair, 57, is_good=True)
    if long_form:
        compare_a_cookie_of_an_age(claim, pair, 122, is_good=False)


def compare_a_cookie_of_an_age(claim: ClaimRun, pair: Pair, age: int, *, is_good: bool) -> None:
    """The ACK comes `age` seconds after the cookie. Beside it a fresh cookie: without any, none would be looked at."""
    server, peer = pair.server, RawPeer(pair.server, pair.client)
    server.sysctl[SYNCOOKIES] = 2
    listener = listen(server, 7)
    old, fresh = peer.connection(listener), peer.connection(listener)
    old.syn()
    let_pass(age, what="the cookie to grow old")
    with claim.effect(f"the ACK comes {age} seconds after its cookie") as effect:
        fresh.syn()
        old.send("A")
        judged = ("TcpExt.SyncookiesRecv", "TcpExt.SyncookiesFailed")
        until(lambda: effect.delta(server).only(*judged).nonzero(), what="the cookie to be judged")
        counted = effect.delta(server).only(*judged).nonzero()
        effect.compare("counted", counted, document={judged[0 if is_good else 1]: 1})
        effect.compare("connections that wait", listener.waiting, document=int(is_good))
    with claim.control("the ACK of the cookie beside it, which is fresh") as control:
        fresh.send("A")
        until_equal(lambda: listener.waiting, 1 + is_good, what="connections that wait")
        control.expect("cookies taken", control.delta(server).TcpExt.SyncookiesRecv, 1)


@pytest.mark.claim("syncookies.accepts-its-four-mss")
def test_accepts_its_four_mss(claim: ClaimRun, pair: Pair) -> None:
    server, peer = pair.server, RawPeer(pair.server, pair.client)
    # A byte less than each size of the table but the least, and the size itself.
    offered = [size for each in MSS_TABLE[server.family][:3] for size in (each - 1, each)][1:]

    def mss_of(offer: int, listener: Listener) -> int:
        """The MSS that the server uses towards a client who offers one."""
        connection = peer.connection(listener)
        connection.syn(options=[("MSS", offer)])
        connection.send("A")
        return info_of(server, listener.accept()[0]).snd_mss

    server.sysctl[SYNCOOKIES] = 2
    listener = listen(server, 40)
    with claim.effect("tcp_syncookies 2: clients that offer one MSS or another") as effect:
        for offer in offered:
            kept = mss_kept(server.family, offer)
            effect.compare(f"MSS towards a client that offers {offer}", mss_of(offer, listener), document=kept)
    with claim.effect("tcp_syncookies 2: ACKs with the numbers next to the cookie") as effect:
        near = [offset for offset in range(-5, 6) if is_taken(listener, peer, offset)]
        effect.compare("numbers that are taken, from the cookie", near, document=offsets_taken(server.family))
    server.sysctl[SYNCOOKIES] = 0
    with claim.control("tcp_syncookies 0: the same") as control:
        listener = listen(server, 40)
        for offer in offered:
            control.expect(f"MSS towards a client that offers {offer}", mss_of(offer, listener), offer)
        wrong = peer.connection(listener)
        wrong.syn()
        wrong.send("A", ack=wrong.ack + 1)
        control.expect("the answer to the number next to the right one", str(wrong.wait("R").flags), "R")


def options_of(client: Host, listener: Listener) -> dict[str, object]:
    """What the server's end of a new connection knows of the options that the client has offered."""
    ends = establish(client, listener)
    near, far = info_of(listener.host, ends.server), info_of(client, ends.client)
    scale = near.snd_wscale if near.window_scaling else None
    return {"SACK": near.sack, "the client's window scale": scale == far.rcv_wscale, "ECN": near.ecn}


@pytest.mark.claim("syncookies.options-need-timestamps")
def test_options_need_timestamps(claim: ClaimRun, pair: Pair) -> None:
    offered = ("SACK", "the client's window scale", "ECN")
    for host in (pair.client, pair.server):
        host.sysctl["net.ipv4.tcp_ecn"] = 1
    for timestamps in (0, 1):
        pair.client.sysctl["net.ipv4.tcp_timestamps"] = timestamps
        pair.server.sysctl[SYNCOOKIES] = 2
        with claim.effect(f"a connection made by a cookie, tcp_timestamps {timestamps} at the client") as effect:
            for what, known in options_of(pair.client, listen(pair.server)).items():
                effect.compare(f"{what}: known to the server", known, document=bool(timestamps))
        pair.server.sysctl[SYNCOOKIES] = 0
        with claim.control(f"a connection made without a cookie, tcp_timestamps {timestamps}") as control:
            known = options_of(pair.client, listen(pair.server))
            control.expect("known to the server", known, dict.fromkeys(offered, True))


# What a SYN may offer beside the MSS and a timestamp: its flags, and its options.
OFFERS: dict[str, tuple[str, Options]] = {
    "SACK": ("S", [("SAckOK", b"")]),
    "window scaling": ("S", [("NOP", None), ("WScale", 9)]),
    "ECN": ("SEC", []),
}


@pytest.mark.claim("syncookies.options-need-timestamps")
def test_options_are_not_invented(claim: ClaimRun, pair: Pair) -> None:
    server, peer = pair.server, RawPeer(pair.server, pair.client)
    server.sysctl["net.ipv4.tcp_ecn"] = 1

    def known(listener: Listener, offered: str | None) -> dict[str, bool]:
        """What the server's end of a connection knows, whose client uses timestamps and offers one thing or none."""
        flags, options = OFFERS[offered] if offered else ("S", [])
        connection = peer.connection(listener)
        connection.send(flags, options=[("MSS", 1460), *stamp(CLOCK), *options])
        reply = connection.wait(lambda reply: {"S", "A"} <= set(str(reply.flags)))
        connection.ack = (reply.seq + 1) % 2**32
        theirs, _ = stamps_of(reply) or (0, 0)
        connection.send("A", options=stamp(CLOCK, theirs))
        info = info_of(server, listener.accept()[0])
        scale = info.window_scaling and info.snd_wscale == 9
        return {"SACK": info.sack, "window scaling": scale, "ECN": info.ecn}

    for offered in (None, *OFFERS):
        what, wanted = offered or "nothing else", {each: each == offered for each in OFFERS}
        server.sysctl[SYNCOOKIES] = 2
        with claim.effect(f"a connection made by a cookie, whose client offers timestamps and {what}") as effect:
            effect.compare("known to the server", known(listen(server), offered), document=wanted)
        server.sysctl[SYNCOOKIES] = 0
        with claim.control(f"the same without a cookie: timestamps and {what}") as control:
            control.expect("known to the server", known(listen(server), offered), wanted)


@pytest.mark.slow(7)
@pytest.mark.claim("syncookies.lost-ack-is-not-repaired")
def test_lost_ack_is_not_repaired(claim: ClaimRun, pair: Pair) -> None:
    packets = claim.capture(pair.server)

    def syn_acks(listener: Listener) -> int:
        return len(packets.segments(flags="SA", sport=listener.port))

    pair.server.sysctl[SYNCOOKIES] = 0
    listener = listen(pair.server)
    with claim.control("no cookie, and the client's ACK is lost") as control:
        with drop(pair.server, "A", dport=listener.port, count=1):
            client = connect(pair.client, listener, wait=True)
            until_equal(lambda: listener.waiting, 1, what="connections waiting")
        control.expect("SYN-ACKs", syn_acks(listener), 2)
        listener.accept()[0].send(b"welcome")
        control.expect("what the client reads", take(client[0].socket, 7), b"welcome")
    pair.server.sysctl[SYNCOOKIES] = 2
    listener = listen(pair.server)
    with claim.effect("a cookie, and the client's ACK is lost: five seconds pass") as effect:
        with drop(pair.server, "A", dport=listener.port, count=1) as lost:
            client = connect(pair.client, listener, wait=True)
            until(lambda: lost.count, what="the ACK to be lost")
            let_pass(5, what="the server to do something")
        effect.compare("SYN-ACKs", syn_acks(listener), document=1)
        effect.compare("(half-open, waiting)", (listener.half_open, listener.waiting), document=(0, 0))
        effect.compare("the client's state", state(states_at(pair.client, listener.port)), document=["ESTAB"])
    with claim.effect("the client speaks first: what it sends carries the cookie as well") as effect:
        if before("cookie-outlives-the-flood"):
            RawPeer(pair.server, pair.client).connection(listener).syn()  # whose cookie is fresh: cookies are looked at
        client[0].socket.send(b"question")
        (accepted,) = listener.accept()
        effect.compare("what the server reads", take(accepted, 8), document=b"question")


def compare_a_returning_client(claim: ClaimRun, pair: Pair, *, is_lost: bool) -> None:
    """A SYN at a TIME-WAIT beside another SYN; `is_lost`: the number of the TIME-WAIT gets lost."""
    server = pair.server
    door, crowded = Door(server, pair.client), Door(server, pair.client)

    def syn_at(door: Door, old: RawConnection) -> Fates:
        """What becomes of a SYN where the TIME-WAIT of a connection is: its number is higher, its timestamp newer."""
        options = [*SYN_OPTIONS, *stamp(CLOCK + 1000)]

        def knock() -> list[RawConnection]:
            old.send("S", seq=(old.seq + 1) % 2**32, options=options)
            return [old]

        return fates_of(door.peer, door.listener, knock)

    first, second, third = door.leave_behind(), door.leave_behind(), crowded.leave_behind()
    for each in (door, crowded):
        each.listener.listen(3)
    let_in, cookie, dropped = Fates(1, 0, 0), Fates(0, 1, 0), Fates(0, 0, 1)
    what = "(kept, cookies, dropped)"
    server.sysctl[SYNCOOKIES] = 2
    with claim.effect("tcp_syncookies 2: a SYN at a TIME-WAIT") as effect:
        effect.compare(what, syn_at(door, first), document=let_in, kernel=cookie if is_lost else let_in)
    with claim.control("tcp_syncookies 2: another SYN") as control:
        control.expect(what, send_syns(door.peer, door.listener, 1), cookie)
    server.sysctl[SYNCOOKIES] = 0
    fill_up(door.peer, door.listener)
    with claim.effect("tcp_syncookies 0, a full SYN queue: a SYN at a TIME-WAIT") as effect:
        effect.compare(what, syn_at(door, second), document=let_in, kernel=dropped if is_lost else let_in)
    with claim.control("tcp_syncookies 0, a full SYN queue: another SYN") as control:
        control.expect(what, send_syns(door.peer, door.listener, 1), dropped)
    server.sysctl[SYNCOOKIES] = 2
    fill(pair.client, crowded.listener)
    with claim.effect("tcp_syncookies 2, a full accept queue: a SYN at a TIME-WAIT") as effect:
        answered = cookie if is_lost else let_in
        fate = dropped if since("accept-queue-full-drops-syns") else answered
        effect.compare(what, syn_at(crowded, third), document=dropped, kernel=fate)


@pytest.mark.ipv4_only("the number got lost in IPv6 as well, but earlier: a claim of its own")
@pytest.mark.claim("syncookies.time-wait-goes-round")
def test_time_wait_goes_round(claim: ClaimRun, pair: Pair) -> None:
    is_lost = since("time-wait-number-is-lost-ipv4") and not since("time-wait-number-is-kept")
    compare_a_returning_client(claim, pair, is_lost=is_lost)


@pytest.mark.ipv6_only("the number got lost in IPv4 as well, but later: a claim of its own")
@pytest.mark.claim("syncookies.time-wait-goes-round-ipv6")
def test_time_wait_goes_round_ipv6(claim: ClaimRun, pair: Pair) -> None:
    is_lost = since("time-wait-number-is-lost-ipv6") and not since("time-wait-number-is-kept")
    compare_a_returning_client(claim, pair, is_lost=is_lost)
