"""The SYN queue: how long a request stays that is never acknowledged, and how often its SYN-ACK is sent."""

from __future__ import annotations

from itertools import pairwise, product
from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds, state
from harness.instruments.lifetimes import crowd_behind, watch_half_open, watch_until_gone
from harness.instruments.syn_queue import SYNACK_RETRIES, ceiling, listening
from harness.laws import before
from harness.laws.queues import Knobs
from harness.laws.ranges import at_most
from harness.laws.timers import about, doubling, half_open_lasting, initial_rto
from harness.observe import states_at
from harness.traffic import SYN_OPTIONS, RawPeer, listen
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lan
    from harness.laws.timers import Lasts
    from harness.traffic import RawConnection

# How often the answer to a request is repeated at most where the queue is over half full.
RETRIES_OF_OLD = 2
# Between the third timeout of a request, 7 s after its first answer, and the fourth, after 15.
THIRD_IS_OVER = 11.0


def after_retries(n: int) -> Lasts:
    """The lifetime of a request whose SYN-ACK is repeated n times: 1, 3, 7, 15, 31, 63 s."""
    return half_open_lasting(*doubling(initial_rto(), n))


def at_a_listener(client: Host, server: Host) -> RawConnection:
    """A connection to be, to a server with a queue of 20, or of 21 where limit + 1 fit."""
    return RawPeer(server, client).connection(listening(server, Knobs(20, tcp_syncookies=0)))


@pytest.mark.slow(67)
@pytest.mark.claim("syn-queue.fewer-retries-evict-sooner")
def test_fewer_retries_evict_sooner(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    client, *servers = lan(10).hosts
    captures = [claim.capture(server) for server in servers[6:]]
    with claim.effect("a half-open request at each of six servers, tcp_synack_retries 0, 1, 2, 3, 4 and 5") as effect:
        effect.premise("retries by default", servers[0].sysctl[SYNACK_RETRIES], "5")
        client.lab.set_each(SYNACK_RETRIES, dict(zip(servers, (0, 1, 2, 3, 4, 5, 1, 2, 5), strict=True)))
        to_be = [at_a_listener(client, server) for server in servers[:6]]
        # The most patient first, to be looked at last: however late a look is, what lives longer is seen to.
        longest = watch_half_open(to_be.pop())
        # Those in full queues, which come below, begin now: so they are over when these are.
        crowded = [at_a_listener(client, server) for server in servers[6:]]
        watched = [watch_half_open(each) for each in crowded]
        for each in crowded:
            crowd_behind(each, 20)
        alone = [*[watch_half_open(each) for each in reversed(to_be)][::-1], longest]
        watch_until_gone([*alone, *watched], deadline=100)
        # With two more, so that six seconds and more lie between them: a busy machine looks late.
        for retries, (request, patient) in enumerate(zip(alone, [*alone[2:], alone[-1]], strict=False)):
            what = f"seconds that it lasted at most, {retries} retries"
            effect.compare(what, seconds(request.lifetime[1]), document=at_most(patient.lifetime[0]))
        at_most_each = [(retries, seconds(request.lifetime[1])) for retries, request in enumerate(alone)]
        effect.series("lifetime", at_most_each, x="retries", unit="s")
    with claim.control("those of five retries, the default, and of fewer, by the kernel's timers") as control:
        for retries, request in enumerate(alone):
            control.expect(f"lifetime, {retries} retries", seconds(request.lifetime), after_retries(retries))
    with claim.effect("in full queues, tcp_synack_retries 1, 2 and 5: the first request") as effect:
        # Counted: a machine with more to do is late to see that a request is gone.
        each_port = zip(captures, (each.port for each in crowded), strict=True)
        sent = [len(packets.segments(flags="SA", dport=port)) for packets, port in each_port]
        effect.compare("SYN-ACKs until it was gone, 1 retry", sent[0], document=at_most(sent[2] - 1))
    with claim.control("in full queues: more than two retries count as two") as control:
        control.expect("SYN-ACKs, 1, 2 and 5 retries", sent, [2, 3, 3])


def half_of(limit: int) -> int:
    """How many requests are the most that are not too many for reqsk_timer_handler(), with such a limit of listen()."""
    if before("syn-queue-follows-the-backlog"):  # half of the table that the queue had of its own
        return ceiling(Knobs(limit, tcp_syncookies=0)) // 2 - 1
    return max(8, limit) // 2


@pytest.mark.slow(9)
@pytest.mark.claim("syn-queue.fewer-retries-evict-sooner")
def test_more_than_half_full(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    client, *servers = lan(5).hosts
    captures = [claim.capture(server) for server in servers]
    # The limit, and whether a request more than half of it comes.
    queues = list(product((5, 20), (True, False)))
    first: list[RawConnection] = []
    for server, (limit, beyond) in zip(servers, queues, strict=True):
        first.append(RawPeer(server, client).connection(listening(server, Knobs(limit, tcp_syncookies=0))))
        first[-1].syn()
        crowd_behind(first[-1], half_of(limit) - 1 + beyond)
    # Gone after the third timeout, 7 s, or answered a fourth time then.
    answers = [RETRIES_OF_OLD + 1 if beyond else RETRIES_OF_OLD + 2 for _, beyond in queues]

    def sent(n: int) -> list[float]:
        """When the first request at a server was answered, in seconds after its first answer."""
        times = [segment.time for segment in captures[n].segments(flags="SA", dport=first[n].port)]
        return [time - times[0] for time in times]

    def gone() -> list[bool]:
        return [each.at_host is None for each in first]

    def enough() -> bool:
        return all(len(sent(n)) >= wanted for n, wanted in enumerate(answers))

    wanted = [beyond for _, beyond in queues]
    until(lambda: gone() == wanted and enough(), deadline=60, what="the third timeouts")
    for n, (limit, beyond) in enumerate(queues):
        if beyond:
            with claim.effect(f"tcp_synack_retries 5, backlog {limit}, {half_of(limit) + 1} half-open") as effect:
                effect.compare("SYN-ACKs to the first, until it is gone", len(sent(n)), document=RETRIES_OF_OLD + 1)
        else:
            with claim.control(f"tcp_synack_retries 5, backlog {limit}, {half_of(limit)} half-open") as control:
                # By their times: a busy machine may look after the fourth timeout only.
                by_then = [after for after in sent(n) if after < THIRD_IS_OVER]
                control.expect("SYN-ACKs to the first, which stays", len(by_then), RETRIES_OF_OLD + 2)


@pytest.mark.slow(24)
@pytest.mark.claim("syn-queue.retries-then-closed")
def test_retries_then_closed(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    client, *servers = lan(4).hosts
    captures = [claim.capture(server) for server in servers]
    acknowledged, unanswered, watched = [], [], []
    sent: list[list[float]] = []
    with claim.effect("a request at each of three servers that is never acknowledged, 1, 2 and 3 retries") as effect:
        client.lab.set_each(SYNACK_RETRIES, dict(zip(servers, (1, 2, 3), strict=True)))
        for server in servers:
            listener, other, peer = listen(server), listen(server), RawPeer(server, client)
            unanswered.append(peer.connection(listener))
            watched.append(watch_half_open(unanswered[-1]))
            acknowledged.append(peer.connection(other))
            acknowledged[-1].handshake()
        watch_until_gone(watched, deadline=30)
        for retries, (server, connection, capture) in enumerate(zip(servers, unanswered, captures, strict=True), 1):
            sent.append([segment.time for segment in capture.segments(flags="SA", dport=connection.port)])
            effect.compare(f"SYN-ACKs, {retries} retries", len(sent[-1]), document=1 + retries)
            # On a busy machine that of the other request is repeated before its ACK comes.
            others = len(capture.segments(flags="SA", dport=acknowledged[retries - 1].port)) - 1
            effect.compare("TCPSynRetrans", effect.delta(server).TcpExt.TCPSynRetrans - others, document=retries)
            connection.send("A")
            effect.compare("answer to an ACK after that", str(connection.wait("R").flags), document="R")
    with claim.effect("2 retries, and the client sends its SYN again, which is answered but is no retry") as effect:
        listener = listen(servers[1])
        again = RawPeer(servers[1], client).connection(listener)
        request = watch_half_open(again)
        again.send("S", seq=(again.seq - 1) % 2**32, options=SYN_OPTIONS)
        watch_until_gone([request], deadline=30)
        answers = captures[1].segments(flags="SA", sport=listener.port)
        effect.compare("SYN-ACKs: one for each SYN, and the retries", len(answers), document=2 + 2)
    with claim.control("when that was, by the kernel's timers") as control:
        for retries, (times, request) in enumerate(zip(sent, watched, strict=True), start=1):
            for wait, (earlier, later) in zip(doubling(initial_rto(), retries), pairwise(times), strict=False):
                control.expect("seconds between two SYN-ACKs", seconds(later - earlier), about(wait, late=0.5))
            control.expect(f"lifetime, {retries} retries", seconds(request.lifetime), after_retries(retries))
    with claim.control("requests at the same servers that were acknowledged at once") as control:
        for retries, (server, connection) in enumerate(zip(servers, acknowledged, strict=True), start=1):
            segments = captures[retries - 1].segments(flags="SA", dport=connection.port)
            (ack,) = captures[retries - 1].segments(flags="A", sport=connection.port)
            after = [segment for segment in segments[1:] if segment.time > ack.time]
            control.expect(f"SYN-ACKs, {retries} retries", len(segments[:1] + after), 1)
            control.expect("state", state(states_at(server, connection.port)), ["ESTAB"])
