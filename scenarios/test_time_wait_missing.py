"""What happens without TIME-WAIT: it is switched off by tcp_max_tw_buckets 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds, state
from harness.instruments.closing import lose_last_ack
from harness.instruments.inbound import leave_in_last_ack
from harness.instruments.old_data import OLD, delay_data
from harness.laws import since
from harness.laws.ranges import between, one_of
from harness.laws.serial import distance
from harness.observe import states_at
from harness.observe.conversation import Conversation
from harness.traffic import SYN_OPTIONS, RawPeer, connect, establish, listen
from harness.traffic.connection import endpoint
from harness.traffic.ports import give_ports
from harness.waiting import let_pass, until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair
    from harness.observe import Segment

MAX_BUCKETS = "net.ipv4.tcp_max_tw_buckets"
REPAIRED = "both ends are real sockets, put at the numbers of the old connection"
TIMESTAMPS = "net.ipv4.tcp_timestamps"
# Where the kernel has knobs for the machine only, of the two hosts it is the server that has them: so the server is
# the side that closes first, and connects.


@pytest.mark.claim("time-wait.without-it-rst")
def test_without_it_rst(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    capture = claim.capture(peer)

    def fate() -> tuple[str, str]:
        """What answers the repeated FIN, and which error the other side's application finds on its socket."""
        last = lose_last_ack(closer, listen(peer))
        last.repeat()
        return last.answers(capture)[1].flags, last.error

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


def answers(seen: Conversation) -> list[str]:
    """The flags of what has come back, but for FINs of the old connection."""
    return [segment.flags for segment in seen.received() if segment.flags != "FA"]


@pytest.mark.claim("time-wait.without-it-last-ack-refuses")
def test_without_it_last_ack_refuses(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    capture = claim.capture(closer)
    usual = closer.sysctl[MAX_BUCKETS]
    with claim.effect("no TIME-WAIT: a new connect() of the same four-tuple meets LAST-ACK") as effect:
        closer.sysctl[MAX_BUCKETS] = 0
        last = lose_last_ack(closer, listen(peer))
        left = states_at(closer, last.remote[1]), last.states
        effect.premise("before", left, ([], ["LAST-ACK"]))
        seen = Conversation(capture, last.local, last.remote)
        new = connect(closer, last.remote, source=last.local, wait=True)[0]
        effect.compare("connect()", new.result, document="ECONNREFUSED", kernel="connected")
        # A challenge ACK, which connect() resets.
        effect.compare("answers to its SYNs", answers(seen)[:2], document=["RA"], kernel=["A", "SA"])
        first, second, *_ = (segment.time for segment in seen.sent("S"))
        resent = between(0, 0.5) if since("stray-ack-has-the-syn-resent") else between(0.98, 1.7)
        effect.premise("seconds until the SYN is sent again", seconds(second - first), resent)
        effect.note("seconds until connected", seconds(new.seconds))
        effect.note("error at the other side", last.error)
        if "TcpExt.TCPSYNChallenge" in effect.delta(peer):
            effect.premise("TCPSYNChallenge", effect.delta(peer).TcpExt.TCPSYNChallenge, 1)
    with claim.effect("crafted SYNs at LAST-ACK, whose numbers are in its window and beyond it") as effect:
        raw, listener = RawPeer(peer, closer), listen(peer)
        for where, distance in (("in the window", 10), ("beyond the window", 2**30), ("below the window", -(2**30))):
            old = leave_in_last_ack(raw, listener)
            old.send("S", seq=old.seq + distance, options=SYN_OPTIONS)
            answer = old.wait(lambda reply: str(reply.flags) in ("A", "R", "RA"))
            kernel = "A" if since("challenge-ack-answers-syn") else one_of("A", "RA")
            effect.compare(f"answer, {where}", str(answer.flags), document="RA", kernel=kernel)
            old.send("R")
    with claim.control("the last ACK arrives: the same connect() meets no LAST-ACK") as control:
        listener = listen(peer)
        connection = establish(closer, listener)
        local = endpoint(connection.client)
        connection.close()
        until(lambda: not states_at(peer, listener.port), what="the last ACK")
        seen = Conversation(capture, local, listener.address)
        control.expect("connect()", connect(closer, listener, source=local, wait=True)[0].result, "connected")
        control.expect("answers to its SYN", answers(seen)[:1], ["SA"])
    with claim.control("with a TIME-WAIT: connect() does not even send a SYN") as control:
        closer.sysctl[MAX_BUCKETS] = usual
        last = lose_last_ack(closer, listen(peer))
        give_ports(closer, first=last.local[1])
        seen = Conversation(capture, last.local, last.remote)
        control.expect("connect()", connect(closer, last.remote, wait=True)[0].result, "EADDRNOTAVAIL")
        control.expect("SYNs sent", len(seen.sent("S")), 0)


@pytest.mark.claim("time-wait.without-it-old-data")
def test_without_it_old_data(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    usual = closer.sysctl[MAX_BUCKETS]
    closer.sysctl[MAX_BUCKETS] = 0
    closer.sysctl[TIMESTAMPS] = 0
    with claim.effect("no TIME-WAIT, no timestamps: a new connection where the old segment fits") as effect:
        old = delay_data(closer, listen(peer))
        effect.note("placed by TCP_REPAIR", REPAIRED)
        effect.compare("read", old.arrive_behind_new(old.connect_again()), document=OLD)
    with claim.control("the same, but what the segment acknowledges lies far below") as control:
        old = delay_data(closer, listen(peer))
        control.note("placed by TCP_REPAIR", REPAIRED)
        read = old.arrive_behind_new(old.connect_again(ack_fits=False))
        control.expect("read", read, b"" if since("data-with-old-ack-is-dropped") else one_of(b"", OLD))
    with claim.control("the same at once: the initial numbers of a new connect() are higher") as control:
        listener = listen(peer)
        old = delay_data(closer, listener)
        control.expect("read", old.arrive_behind_new(establish(closer, listener, source=old.local)), b"")
    with claim.control("with timestamps: PAWS drops it") as control:
        closer.sysctl[TIMESTAMPS] = 1
        old = delay_data(closer, listen(peer))
        control.note("placed by TCP_REPAIR", REPAIRED)
        control.expect("read", old.arrive_behind_new(old.connect_again()), b"")
        control.expect("PAWSEstab", control.delta(peer).TcpExt.PAWSEstab, 1)
    with claim.control("with a TIME-WAIT: there is no new connection") as control:
        closer.sysctl[TIMESTAMPS] = 0
        closer.sysctl[MAX_BUCKETS] = usual
        listener = listen(peer)
        old = delay_data(closer, listener)
        control.expect("connect()", connect(closer, listener, source=old.local)[0].result, "EADDRNOTAVAIL")
        old.arrive()
        until(lambda: control.delta(peer).Tcp.OutRsts, what="the old segment to be refused")
        control.expect("connections of the other side", state(states_at(peer, listener.port)), [])


@pytest.mark.claim("time-wait.cannot-tell-apart")
def test_cannot_tell_apart(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    closer.sysctl[MAX_BUCKETS] = 0
    with claim.effect("no TIME-WAIT, no timestamps: an old segment, and a new connection at once") as effect:
        closer.sysctl[TIMESTAMPS] = 0
        listener = listen(peer)
        old = delay_data(closer, listener)
        read = old.arrive_behind_new(establish(closer, listener, source=old.local))
        effect.compare("read", read, document=OLD, kernel=b"")
    with claim.effect("the first numbers of two connections of one four-tuple, of either side") as effect:
        listener, seen = listen(peer), claim.capture(closer)
        first = establish(closer, listener)
        local = endpoint(first.client)
        first.close()
        until(lambda: not states_at(peer, listener.port), what="the last ACK")
        let_pass(0.5, what="the clock of the first numbers to go on")
        establish(closer, listener, source=local)
        for flags, side in (("S", "the side that connects"), ("SA", "the other side")):
            # By their numbers: one that was sent again has none of its own, and was drawn when it was sent first.
            drawn_when: dict[int, Segment] = {}
            for segment in seen.segments(flags=flags, port=listener.port):
                drawn_when.setdefault(segment.seq, segment)
            earlier, later = drawn_when.values()
            beyond = distance(earlier.seq, later.seq)
            effect.compare(f"{side}: the later is higher", beyond > 0, document=False, kernel=True)
            # net/core/secure_seq.c, seq_scale(): a clock of 64 ns, which comes round after 275 s.
            by_clock = round((later.time - earlier.time) / 64e-9)
            what = f"{side}: seconds of that clock, more than have passed"
            effect.premise(what, seconds(round((beyond - by_clock) * 64e-9, 3)), between(-0.1, 0.1))
    with claim.effect("no TIME-WAIT, timestamps: a new connection where the numbers of the old segment fit") as effect:
        closer.sysctl[TIMESTAMPS] = 1
        old = delay_data(closer, listen(peer))
        effect.note("placed by TCP_REPAIR", REPAIRED)
        effect.compare("read", old.arrive_behind_new(old.connect_again()), document=OLD, kernel=b"")
        effect.premise("PAWSEstab", effect.delta(peer).TcpExt.PAWSEstab, 1)
    with claim.control("no timestamps, and its numbers fit: nothing tells the two apart") as control:
        closer.sysctl[TIMESTAMPS] = 0
        old = delay_data(closer, listen(peer))
        control.note("placed by TCP_REPAIR", REPAIRED)
        control.expect("read", old.arrive_behind_new(old.connect_again()), OLD)
