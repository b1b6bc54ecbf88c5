"""How long connect() tries when nobody answers its SYNs: the documents' table, and what applications make of it."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from harness.errors import Unsupported
from harness.evidence import output, seconds
from harness.instruments.patience import (
    SYN_RETRIES,
    BlockingConnect,
    Ends,
    Knock,
    knock_all,
    last_timer,
    linear_timeouts,
    side_by_side,
    syn_waits_of,
)
from harness.instruments.retransmissions import gaps
from harness.laws import before, since
from harness.laws.ranges import at_least, at_most, between
from harness.laws.timers import LATE, about
from harness.observe import ss
from harness.traffic import connect, drop, listen
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import Lan, Pair
    from harness.laws.ranges import Range

# Document 004: tcp_syn_retries, and after how many seconds connect() fails; and its minute.
TABLE = {1: 3, 2: 7, 3: 15, 4: 31, 5: 63}
A_MINUTE = between(60, 80)


def documented(retries: int, law: list[float]) -> Range:
    """What counts as the document's time: the steps of its table, each as late as a timer may be.

    Nothing that the kernel's own law accounts for, where that is another time.
    """
    steps = [TABLE[1] - 2, 2, *(TABLE[n] - TABLE[n - 1] for n in range(2, retries + 1))]
    late = LATE if sum(law) == TABLE[retries] else min(LATE, abs(sum(law) - TABLE[retries]) / 5)
    return about(*steps, late=late)


@pytest.mark.claim("connect-timeout.syn-retries-table")
@pytest.mark.slow(70)
def test_syn_retries_table(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    server, *clients = lan(11).hosts
    listener = listen(server)
    lost = drop(server, "S", dport=listener.port)
    seen = claim.capture(server, port=listener.port)
    linear = linear_timeouts(server)
    knocks = [Knock(host, listener, n, linear) for n, host in zip(TABLE, clients[:5], strict=True)]
    doubled = [Knock(host, listener, n, 0) for n, host in zip(TABLE, clients[5:], strict=True)] if linear else []
    with claim.effect("SYNs vanish: tcp_syn_retries 1 to 5, each on a client of its own") as effect:
        knock_all([*knocks, *doubled])
        failed_after = []
        for knock in knocks:
            n, law, syns = knock.retries, knock.law, knock.syns(seen)
            took = seconds(round(knock.seconds(seen), 2))
            effect.compare(f"{n} retries: the error", knock.end.error, document="ETIMEDOUT")
            effect.compare(f"{n} retries: seconds", took, document=documented(n, law), kernel=about(*law))
            effect.compare(f"{n} retries: SYNs sent again", len(syns) - 1, document=n, kernel=len(law) - 1)
            for gap, wait in zip(gaps(syns), law, strict=False):
                effect.premise(f"{n} retries: seconds between two SYNs", seconds(gap), about(wait))
            effect.series(f"SYNs, {n} retries", [(round(at - syns[0], 3), float(i)) for i, at in enumerate(syns)])
            failed_after.append((n, took))
        effect.series("connect() fails after", failed_after, x="tcp_syn_retries", unit="s")
        effect.series("the document", [(n, TABLE[n]) for n in TABLE], x="tcp_syn_retries", unit="s")
    if doubled:
        with claim.control("tried at the same time: tcp_syn_linear_timeouts 0") as control:
            for knock in doubled:
                n, took = knock.retries, seconds(round(knock.seconds(seen), 2))
                control.expect(f"{n} retries: the error", knock.end.error, "ETIMEDOUT")
                control.expect(f"{n} retries: seconds", took, about(*knock.law))
                control.expect(f"{n} retries: SYNs sent again", len(knock.syns(seen)) - 1, n)
    with claim.control("SYNs arrive") as control:
        lost.lift()
        for host in clients[:5]:
            control.expect("connect()", connect(host, listener, wait=True)[0].result, "connected")


@pytest.mark.claim("connect-timeout.sndtimeo-caps")
@pytest.mark.slow(8)
def test_sndtimeo_caps(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    server, *clients = lan(3).hosts
    listener = listen(server)
    patiences = {1: (1, 2, 5), 2: (1, 2, 10)}  # SO_SNDTIMEO in seconds, by tcp_syn_retries
    for together in side_by_side(list(patiences)):
        lost = drop(server, "S", dport=listener.port)
        retried = dict(zip(together, clients, strict=False))
        with claim.effect(f"SYNs vanish: tcp_syn_retries {' and '.join(map(str, together))}, SO_SNDTIMEO") as effect:
            blocked = []
            for n, host in retried.items():
                host.sysctl[SYN_RETRIES] = n
                blocked += [(n, patience, BlockingConnect(host, listener, patience)) for patience in patiences[n]]
            alone = {n: BlockingConnect(host, listener) for n, host in retried.items()}
            for n, patience, attempt in blocked:
                law = syn_waits_of(attempt.host)
                limits = f"{n} retries ({TABLE[n]} s), SO_SNDTIMEO {patience} s"
                result = attempt.result(deadline=120)
                document = documented(n, law) if TABLE[n] < patience else about(patience)
                kernel = about(*law) if sum(law) < patience else about(patience)
                effect.compare(f"{limits}: seconds", seconds(attempt.seconds), document=document, kernel=kernel)
                # 004 names no error. __inet_stream_connect() leaves the -EINPROGRESS that it began with.
                effect.premise(f"{limits}: errno", result, "EINPROGRESS" if patience < sum(law) else "ETIMEDOUT")
                if patience == 1:
                    effect.premise("the kernel goes on trying", attempt.state, "SYN-SENT")
            for n in retried:
                points = [(patience, seconds(attempt.seconds)) for m, patience, attempt in blocked if m == n]
                effect.series(f"connect() fails after, {n} retries", points, x="SO_SNDTIMEO in seconds", unit="s")
        with claim.control("tried at the same time: no SO_SNDTIMEO") as control:
            for n, attempt in alone.items():
                control.expect(f"{n} retries: errno", attempt.result(deadline=120), "ETIMEDOUT")
                took = about(*syn_waits_of(attempt.host))
                control.expect(f"{n} retries: seconds", seconds(attempt.seconds), took)
        with claim.control("SYNs arrive, SO_SNDTIMEO 1 s") as control:
            lost.lift()
            control.expect("connect()", BlockingConnect(clients[0], listener, 1).result(deadline=30), "connected")


@pytest.mark.claim("connect-timeout.default-five")
@pytest.mark.slow(4)
def test_default_five(claim: ClaimRun, pair: Pair) -> None:
    def of_a_socket() -> int:
        with pair.client.socket() as fresh:
            return fresh.getsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT)

    default = 6 if since("syn-retries-default-is-six") else 5
    with claim.effect("a fresh network namespace") as effect:
        effect.compare("tcp_syn_retries", int(pair.client.sysctl[SYN_RETRIES]), document=5, kernel=default)
        effect.compare("TCP_SYNCNT of a new socket", of_a_socket(), document=5, kernel=default)
    with claim.control("tcp_syn_retries 1, and SYNs vanish") as control:
        listener = listen(pair.server)
        seen, knock = claim.capture(pair.server, port=listener.port), Knock(pair.client, listener, 1, 0)
        with drop(pair.server, "S", dport=listener.port):
            knock_all([knock])
        control.expect("TCP_SYNCNT of a new socket", of_a_socket(), 1)
        control.expect("SYNs sent again", len(knock.syns(seen)) - 1, 1)


@pytest.mark.claim("connect-timeout.default-over-a-minute")
@pytest.mark.slow(70)
def test_default_over_a_minute(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    server, five, default, patient = lan(4).hosts
    if before("syn-retries-per-namespace"):
        raise Unsupported("tcp_syn_retries is one for the whole machine: only the form in full size can be run")
    listener = listen(server)
    lost = drop(server, "S", dport=listener.port)
    five.sysctl[SYN_RETRIES] = 5
    retries = int(default.sysctl[SYN_RETRIES])
    with claim.effect("SYNs vanish, the application has no timeout") as effect:
        began, moment = time.time(), time.monotonic()
        to_five, to_default = connect(five, listener)[0].socket, connect(default, listener)[0].socket
        with_timeout = connect(patient, listener, timeout=2)
        ends, law = Ends(), syn_waits_of(five)
        ends.watch(to_five, to_default)
        until(lambda: with_timeout.pending == 0, deadline=30, what="the application's own timeout")
        ends.wait(to_five, deadline=2 * sum(law) + 60)
        waited = seconds(round(ends[to_five].at - began, 2))
        effect.compare("tcp_syn_retries 5: seconds", waited, document=A_MINUTE, kernel=about(*law))
        effect.premise("tcp_syn_retries 5: seconds by the law", waited, about(*law))
        effect.compare("tcp_syn_retries 5: errno", ends[to_five].error, document="ETIMEDOUT")
        # The default goes on when 5 has ended: its end is read from the timer after its last SYN.
        law = syn_waits_of(default)
        timer = until(lambda: last_timer(default, to_default, len(law) - 1), deadline=60, what="the last SYN")
        assert timer is not None
        end = seconds(round(time.monotonic() - moment + timer.expires, 2))
        until_it_fires = f"tcp_syn_retries {retries}, the default: seconds until its last timer fires"
        effect.compare(until_it_fires, end, document=at_least(60), kernel=about(*law))
        effect.premise("and that is the end by the law", end, about(*law))
        rows = ss.rows(default, "-tano", "state", "syn-sent")
        effect.note(
            "ss -tano state syn-sent", [output(" ".join((row.local, row.remote, *row.details))) for row in rows]
        )
    with claim.control("tried at the same time: the application gives up after 2 s") as control:
        control.expect("results", dict(with_timeout.results()), {"timeout": 1})
        control.expect("seconds", seconds(with_timeout[0].seconds), between(2, 2 + LATE))
    with claim.control("SYNs arrive") as control:
        lost.lift()
        answered = connect(patient, listener, wait=True)[0]
        control.expect("connect()", answered.result, "connected")
        control.expect("seconds", seconds(answered.seconds), at_most(LATE))


@pytest.mark.claim("connect-timeout.default-over-a-minute")
@pytest.mark.full_size("the default waits 127 or 131 s, and the timer wheel adds some: up to 150 s")
@pytest.mark.slow(150)
def test_default_to_the_end(claim: ClaimRun, pair: Pair) -> None:
    listener = listen(pair.server)
    lost = drop(pair.server, "S", dport=listener.port)
    law = syn_waits_of(pair.client)
    with claim.effect("SYNs vanish, the application has no timeout, all knobs at their defaults") as effect:
        blocked = BlockingConnect(pair.client, listener)
        effect.compare("errno", blocked.result(deadline=600), document="ETIMEDOUT")
        effect.compare("seconds", seconds(blocked.seconds), document=at_least(60), kernel=about(*law))
        effect.premise("seconds by the law", seconds(blocked.seconds), about(*law))
        effect.note("SYNs lost", lost.count)
    with claim.control("SYNs arrive") as control:
        lost.lift()
        control.expect("connect()", BlockingConnect(pair.client, listener).result(deadline=30), "connected")
