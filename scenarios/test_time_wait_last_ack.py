"""The last ACK is lost: who repeats what, how TIME-WAIT answers, and what becomes of the other side without it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from harness.errors import NotReady
from harness.evidence import drawn, seconds, state
from harness.instruments.closing import LostAck, lose_last_ack
from harness.instruments.inbound import Answer, Door, reach
from harness.instruments.lifetimes import CLOSE, foretold, seconds_left, timer_read, watch_last_ack, watch_until_gone
from harness.laws.ranges import at_least, at_most, between
from harness.laws.timers import JIFFY, ORPHAN_RETRIES, TIME_WAIT, orphan_lasting
from harness.observe import states_at, states_between
from harness.observe.conversation import Conversation
from harness.traffic import drop, establish, listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.connection import endpoint
from harness.waiting import let_pass, until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

MAX_BUCKETS = "net.ipv4.tcp_max_tw_buckets"
RETRIES = "net.ipv4.tcp_orphan_retries"
A_WHILE = 3.0
FOR_GOOD = at_least(3600)
LAW = orphan_lasting()
# What a timer of 60 s has left at the moment at which it begins anew, as timer_read() foretells its end: by up to CLOSE
# too early, as it takes the time before it reads; and two moments, each in whole jiffies, lie between.
ANEW = between(TIME_WAIT - CLOSE - 2 * JIFFY, TIME_WAIT + 2 * JIFFY)
# Where the kernel has knobs for the machine only, of the two hosts it is the server that has them: so the server is
# the side that closes first, and connects.


@pytest.mark.claim("time-wait.lost-ack-leaves-last-ack")
def test_lost_ack_leaves_last_ack(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    packets = claim.capture(closer)
    with claim.effect("the last ACK is lost, and so is each FIN that is repeated") as effect:
        last = lose_last_ack(closer, listen(peer))
        effect.compare("the other side", state(last.states), document=["LAST-ACK"])
        let_pass(A_WHILE, what="LAST-ACK to go on")
        effect.compare("the other side, 3 s later", state(last.states), document=["LAST-ACK"])
        seen = Conversation(packets, last.local, last.remote, since=0)
        effect.premise("FINs that the other side has sent", len(seen.received("FA")), at_least(3))
    with claim.control("the last ACK arrives") as control:
        listener = listen(peer)
        connection = establish(closer, listener)
        seen = Conversation(packets, endpoint(connection.client), listener.address, since=0)
        connection.close()
        until(lambda: len(seen.sent("A")) >= 2 and not states_at(peer, listener.port), what="the last ACK to arrive")
        control.expect("FINs that the other side has sent", len(seen.received("FA")), at_most(2))
        control.expect("the other side", state(states_at(peer, listener.port)), [])


@pytest.mark.claim("time-wait.reacks-fin")
def test_reacks_fin(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    at_closer, at_peer = claim.capture(closer), claim.capture(peer)
    undisturbed = listen(peer)
    ((local, _),) = leave_time_wait(closer, undisturbed)
    with claim.effect(
        "the last ACK is lost, and the repeated FIN arrives when the timer has run for a second"
    ) as effect:
        last = lose_last_ack(closer, listen(peer))
        port = last.remote[1]
        effect.premise("the other side", state(last.states), ["LAST-ACK"])
        until(lambda: seconds_left(closer, port) < 59, deadline=30, what="the timer to run for a second")
        earlier = timer_read(closer, port)
        last.repeat()
        later = timer_read(closer, port)
        answer = last.answers(at_peer)[1]
        effect.compare("answer to the repeated FIN", answer.flags, document="A")
        fin = at_peer.segments(direction="out", sport=port, flags="FA")[0]
        effect.compare("what it acknowledges", drawn(answer.ack), document=fin.next_seq)
        effect.compare("timer: later after it than before", later.began_anew_after(earlier), document=True)
        answered = at_closer.segments(direction="out", dport=port, flags="A")[-1].time
        effect.compare("timer when it was answered", seconds(later.ends - answered), document=ANEW)
        effect.note("timer before and after", (seconds(earlier.left), seconds(later.left)))
        effect.compare("the other side then", state(last.states), document=[])
        effect.compare("error at the other side", last.error, document="no error")
    with claim.effect("the FIN comes again three times, one after the other: none is held back") as effect:
        old = Door(closer, peer).leave_behind(None)
        answers = [reach(old, "FA", -1) for _ in range(3)]
        effect.compare("answers", answers, document=[Answer("A", "TIME-WAIT")] * 3)
    with claim.control("a connection closed at the same time whose last ACK was not lost") as control:
        control.expect("timer", seconds(seconds_left(closer, undisturbed.port)), at_most(59))
        fins = at_closer.segments(direction="in", sport=undisturbed.port, dport=local[1], flags="FA")
        control.expect("FINs of the other side", len(fins), 1)


@pytest.mark.claim("time-wait.active-closer-repeats-fin")
def test_active_closer_repeats_fin(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    packets = claim.capture(closer)
    with claim.effect("the other side's FIN has come, and for 3 s no ACK of it arrives there") as effect:
        last = lose_last_ack(closer, listen(peer), again=True)
        let_pass(A_WHILE, what="FINs to be repeated")
        seen = Conversation(packets, last.local, last.remote, since=0)
        received = seen.received("FA")
        again = [fin for fin in seen.sent("FA") if fin.time > received[0].time]
        effect.compare("FINs of the side that closed first, since then", len(again), document=at_least(1), kernel=0)
        effect.premise("FINs of the other side", len(received), at_least(3))
        effect.premise("ACKs of the side that closed first, to those FINs", last.lost.count, at_least(2))
        left = state([*states_between(closer, last.local, last.remote), *last.states])
        effect.premise("the two sides", left, ["TIME-WAIT", "LAST-ACK"])
    with claim.control("for as long its own FIN is lost") as control:
        listener = listen(peer)
        connection = establish(closer, listener)
        seen = Conversation(packets, endpoint(connection.client), listener.address)
        lost = drop(peer, "FA", sport=connection.port)
        connection.client.close()
        let_pass(A_WHILE, what="FINs to be repeated")
        control.expect("FINs of the side that closed first", len(seen.sent("FA")), at_least(3))
        lost.lift()


def left_of(last: LostAck) -> tuple[list[str], str]:
    """The other side's states when the repeated FIN has arrived and was answered, and the error that is found there."""
    with contextlib.suppress(NotReady):
        last.repeat()
    return last.states, last.error


@pytest.mark.claim("time-wait.without-it-last-ack-stays")
def test_without_it_last_ack_stays(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    packets = claim.capture(peer)
    usual = closer.sysctl[MAX_BUCKETS]
    with claim.effect("no TIME-WAIT: the last ACK is lost, the FIN repeated") as effect:
        closer.sysctl[MAX_BUCKETS] = 0
        last = lose_last_ack(closer, listen(peer))
        effect.premise("before", (states_at(closer, last.remote[1]), last.states), ([], ["LAST-ACK"]))
        left, error = left_of(last)
        effect.compare("the other side, when that was answered", state(left), document=["LAST-ACK"], kernel=[])
        effect.note("what answered it", last.answers(packets)[1].flags)
        effect.note("the error that its application finds", error)
    with claim.control("with TIME-WAIT") as control:
        closer.sysctl[MAX_BUCKETS] = usual
        last = lose_last_ack(closer, listen(peer))
        left, error = left_of(last)
        control.expect("the other side, when that was answered", state(left), [])
        control.expect("what ends it", last.answers(packets)[1].flags, "A")
        control.expect("the error that its application finds", error, "no error")


@pytest.mark.claim("time-wait.without-it-last-ack-stays")
@pytest.mark.slow(57)
def test_without_it_last_ack_stays_though_nobody_answers(claim: ClaimRun, pair: Pair, long_form: bool) -> None:
    packets = claim.capture(pair.server)
    with claim.effect("nothing answers the FIN, neither ACK nor RST, and no application holds the socket") as effect:
        silent = watch_last_ack(pair.client, listen(pair.server))
        if long_form or RETRIES not in pair.client.sysctl:
            watch_until_gone([silent], deadline=300)
            effect.compare("seconds in LAST-ACK", seconds(silent.lifetime[1]), document=FOR_GOOD, kernel=at_most(300))
            effect.premise("as long as 8 doublings of 200 ms take, and the next one", seconds(silent.lifetime), LAW)
        else:
            # Half as long, at the other host. The default goes on when that has ended: its end is read from its timer.
            fewer = pair.client.sysctl[RETRIES] = ORPHAN_RETRIES - 1
            shorter = watch_last_ack(pair.server, listen(pair.client))
            watch_until_gone([shorter], deadline=200)
            what = f"seconds in LAST-ACK, tcp_orphan_retries {fewer}"
            effect.compare(what, seconds(shorter.lifetime[1]), document=FOR_GOOD, kernel=at_most(300))
            law = orphan_lasting(fewer)
            effect.premise(
                f"as long as {fewer} doublings of 200 ms take, and the next one", seconds(shorter.lifetime), law
            )
            end = seconds(foretold(silent, ORPHAN_RETRIES, deadline=60))
            effect.premise("tcp_orphan_retries 0, the default: seconds until its last timer fires", end, LAW)
        fins = packets.segments(direction="out", sport=silent.port, flags="FA")
        effect.note("seconds of the FINs", seconds([round(fin.time - fins[0].time, 3) for fin in fins]))
    with claim.control("tcp_orphan_retries 1") as control:
        pair.server.sysctl[RETRIES] = 1
        silent = watch_last_ack(pair.client, listen(pair.server))
        watch_until_gone([silent], deadline=60)
        control.expect("seconds in LAST-ACK", seconds(silent.lifetime), orphan_lasting(1))
