"""A database falls silent, and with it an application whose connect() has no timeout.

The shop serves out of a database, with a pool of threads and a connection a request. One day the database's host
drops what arrives: no answer, no RST. Each request takes a thread into connect(), which blocks for a minute (with
tcp_syn_retries 5, as document 004 has it) or two (with today's default of 6). When as many have come as there are
threads, the shop answers nothing any more, not even what needs no database.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from harness.evidence import address, output, seconds
from harness.instruments.patience import SYN_LINEAR, SYN_RETRIES, linear_timeouts
from harness.instruments.shop import DATABASE, HTTP, THREADS, Shop, Visit
from harness.laws import since
from harness.laws.ranges import at_least, at_most, between
from harness.laws.timers import about
from harness.observe import accept_queue, ss
from harness.traffic import drop, echo, listen
from harness.waiting import until_equal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.claims.phases import Control
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lan

AT_ONCE = 2.5  # seconds; the shortest end of a silent connect() that any knob makes is 3
A_REMEDY = at_most(30)  # seconds; the document: a minute; half of that would be a remedy
A_MINUTE = between(60, 80)  # seconds
OF_ESTABLISHED = {"net.ipv4.tcp_retries2": 1, "net.ipv4.tcp_fin_timeout": 5, "net.ipv4.tcp_keepalive_time": 1,
                  "net.ipv4.tcp_keepalive_intvl": 1, "net.ipv4.tcp_keepalive_probes": 1}  # fmt: skip


def each_answers(control: Control, customer: Host, shops: Sequence[Shop], page: str) -> None:
    """Visit each shop: the answer is this, and comes at once."""
    for shop in shops:
        visit = Visit(customer, shop)
        control.expect(f"{shop.name}: the page", visit.served(), page)
        control.expect(f"{shop.name}: seconds", seconds(visit.seconds), at_most(AT_ONCE))


@pytest.mark.claim("incidents.silent-database")
@pytest.mark.slow(67)
def test_silent_database(claim: ClaimRun, lan: Callable[..., Lan], long_form: bool) -> None:
    customer, database, *hosts = lan(10).hosts

    def shop(name: str, *options: object, **more: Any) -> Shop:
        return Shop(name, hosts.pop(), database, options=options, **more)

    counts = since("user-timeout-ends-a-syn")
    # The document's minute knows no linear timeouts, which make it four seconds longer.
    no_linear = {} if long_form or not linear_timeouts(database) else {SYN_LINEAR: 0}
    name = ", ".join(("tcp_syn_retries 5", *("tcp_syn_linear_timeouts 0" for _ in no_linear)))
    victim, minute = shop("as it is"), shop(name, knobs={SYN_RETRIES: 5, **no_linear})
    useless = shop("tcp_retries2, tcp_fin_timeout, keepalive", "--keepalive", knobs=OF_ESTABLISHED)
    user_timeout = shop("TCP_USER_TIMEOUT 2.5 s", "--user-timeout", 2500, gives_up=2.5 if counts else None)
    remedies = [
        shop("connect timeout 1 s", "--connect-timeout", 1, gives_up=1, page="503 timeout"),
        shop("SO_SNDTIMEO 2 s", "--sndtimeo", 2, gives_up=2, page="503 EINPROGRESS"),
        *(shop(f"tcp_syn_retries {n}", knobs={SYN_RETRIES: n}) for n in (1, 3)),
        *([user_timeout] if counts else []),
    ]
    without_end = [victim, useless, *([] if counts else [user_timeout])]
    shops = [minute, *remedies, *without_end]
    for each in shops:
        each.wait_until_open()
    differ = {each.host: each.knobs[SYN_RETRIES] for each in shops if SYN_RETRIES in each.knobs}
    database.lab.set_each(SYN_RETRIES, differ)
    listener = listen(database, port=DATABASE, answer=echo)
    with claim.control("the database answers") as control:
        each_answers(control, customer, shops, "200 SELECT 1")
    with claim.control("the database is closed: its host refuses with RST") as control:
        listener.close()
        each_answers(control, customer, shops, "503 ECONNREFUSED")
    silence = drop(database, dport=DATABASE)
    with claim.effect("the database is silent: the symptom") as effect:
        for besieged in shops:
            besieged.besiege(customer)
        victim.all_threads_connect()
        rows = ss.rows(victim.host, "-tan", "state", "syn-sent")
        effect.note("ss -tan state syn-sent", [output(f"{row.local} {row.remote}") for row in rows])
        towards_it = sum(row.remote == address((database.ip, DATABASE)) for row in rows)
        effect.compare("threads in connect() to the database", towards_it, document=THREADS)
        health = [Visit(customer, victim, "/health") for _ in range(2)]
        until_equal(lambda: accept_queue(victim.host, HTTP).waiting, 2, deadline=30, what="connections waiting")
        waiting = ss.listener(victim.host, HTTP).recv_q
        effect.compare("requests without need of the database that nobody accepts (Recv-Q)", waiting, document=2)
    with claim.effect("the remedies") as effect:
        for remedy in remedies:
            for visit in remedy.visits:
                effect.premise(f"{remedy.name}: the page", visit.served(), remedy.page)
                effect.compare(f"{remedy.name}: seconds", seconds(visit.seconds), document=A_REMEDY)
                effect.premise(f"{remedy.name}: seconds by the law", seconds(visit.seconds), about(*remedy.law))
    with claim.effect("the document's minute") as effect:
        for visit in minute.visits:
            took = about(*minute.law)
            effect.compare("the page", visit.served(deadline=2 * sum(minute.law) + 60), document=minute.page)
            effect.compare(f"{minute.name}: seconds", seconds(visit.seconds), document=A_MINUTE, kernel=took)
            effect.premise(f"{minute.name}: seconds by the law", seconds(visit.seconds), took)
    with claim.effect("what does nothing, and what is left alone, after the document's minute") as effect:
        so_long = at_least(minute.visits[0].seconds)
        for left in without_end:
            waiting = sum(visit.waits for visit in left.visits)
            effect.compare(f"{left.name}: requests that still wait", waiting, document=THREADS)
            waited = seconds(round(time.monotonic() - left.visits[0].began, 2))
            effect.compare(f"{left.name}: seconds so far", waited, document=at_least(60), kernel=so_long)
            timer = ss.rows(left.host, "-tano", "state", "syn-sent")[-1].timer
            effect.premise(f"{left.name}: the timer by ss -o", timer and timer.kind, "on")
            effect.note(f"{left.name}: seconds by the law", sum(left.law))
        waiting = sum(visit.waits for visit in health)
        effect.compare("/health, which needs no database: requests that still wait", waiting, document=2)
    with claim.control("the database answers again") as control:
        silence.lift()
        listen(database, port=DATABASE, answer=echo)
        each_answers(control, customer, [*remedies, minute], "200 SELECT 1")


@pytest.mark.claim("incidents.silent-database")
@pytest.mark.full_size("with the default of 6 retries a thread is back after 127 or 131 s, and some by the timer wheel")
@pytest.mark.slow(150)
def test_silent_database_to_the_end(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    customer, database, host = lan(3).hosts
    shop = Shop("as it is", host, database)
    shop.wait_until_open()
    silence = drop(database, dport=DATABASE)
    with claim.effect("the database is silent, every knob at its default") as effect:
        shop.besiege(customer)
        shop.all_threads_connect()
        health = Visit(customer, shop, "/health")
        for visit in shop.visits:
            effect.compare("the page", visit.served(deadline=600), document=shop.page)
            effect.compare("seconds", seconds(visit.seconds), document=at_least(60))
            effect.premise("seconds by the law", seconds(visit.seconds), about(*shop.law))
        effect.compare("/health, in the end", health.served(), document="200 well")
        effect.compare("/health, which needs no database: seconds", seconds(health.seconds), document=at_least(60))
    with claim.control("the database answers") as control:
        silence.lift()
        database_again = listen(database, port=DATABASE, answer=echo)
        control.expect("the page", Visit(customer, shop).served(), "200 SELECT 1")
        control.expect("connections that the database has had", len(database_again.accepted), 1)
