"""A flood at the SYN queue: up to which rate a longer queue, fewer retransmissions and old acquaintance help."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from harness.instruments.syn_flood import (
    A_SIEGE,
    LONGEST,
    SIEGE_RATE,
    Defence,
    Services,
    answer_to_nobody,
    besieged,
    visit,
)
from harness.instruments.syns import become_known
from harness.laws import since
from harness.laws.queues import Knobs
from harness.laws.ranges import at_most
from harness.traffic import connect, flood
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import Lan

# SYNs a second: a hundredth of what hping3 sends if it may. It takes each place that becomes free: 385 places, each
# taken for 63 s, are six a second, so that of 160 SYNs that knock one gets in. A busy machine can send so few.
FLOOD = 1000
CLIENTS = 40
HARDLY_ANY = at_most(CLIENTS // 10)

# Two places, and 385: three quarters of tcp_max_syn_backlog, rounded up, and one.
SHORT = Defence(Knobs(backlog=128, somaxconn=128, tcp_max_syn_backlog=1, tcp_syncookies=0))
LONGER = Defence(Knobs(backlog=1024, somaxconn=1024, tcp_max_syn_backlog=512, tcp_syncookies=0))
FEWER = Defence(SHORT.knobs, synack_retries=1)


def defend(claim: ClaimRun, lan: Callable[[int], Lan], name: str, defence: Defence) -> None:
    """Compare how many clients a defence serves under floods with how many it should, which is all."""
    services = Services(lan, {"no defence": SHORT, name: defence})
    services.open()
    services.check_settings()
    with claim.effect(f"{FLOOD} SYNs a second, {CLIENTS} clients that knock twice each: {name}") as effect:
        with services.flooded(rate=FLOOD, distinct=4096):
            services.wait_until_dropped(1000, services.hosts)
            served = services.visited(CLIENTS)
        effect.compare(f"clients served, of {CLIENTS}", served[name], document=CLIENTS, kernel=HARDLY_ANY)
        effect.note("half-open", services.half_open())
    with claim.control("the same flood, no defence") as control:
        control.expect(f"clients served, of {CLIENTS}", served["no defence"], HARDLY_ANY)
    services.open()
    if services.client.family == socket.AF_INET:  # hping3 has no IPv6
        answer_to_nobody(services.hosts[name], services.client)
        with claim.effect(f"hping3 -S --flood --rand-source, {CLIENTS} clients: {name}") as effect:
            with besieged(services.client, services.listeners[name]) as siege:
                served = visit(services.client, {name: services.listeners[name]}, CLIENTS)
                effect.premise(SIEGE_RATE, siege.rate, A_SIEGE)
            effect.compare(f"clients served, of {CLIENTS}", served[name], document=CLIENTS, kernel=HARDLY_ANY)
    services.open()
    with claim.control("no flood") as control:
        served = services.visited(CLIENTS, patience=None)
        control.expect("clients served", served, {"no defence": CLIENTS, name: CLIENTS})


@pytest.mark.slow(30)
@pytest.mark.claim("syn-queue.longer-queue-defends")
def test_longer_queue_defends(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    defend(claim, lan, "385 places instead of two", LONGER)


@pytest.mark.slow(30)
@pytest.mark.claim("syn-queue.fewer-retries-defend")
def test_fewer_retries_defend(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    defend(claim, lan, "tcp_synack_retries 1 instead of 5", FEWER)


@pytest.mark.full_size("clients with the kernel's own patience, two minutes")
@pytest.mark.parametrize(
    ("name", "defence"),
    [
        pytest.param("a longer queue", LONGER, marks=pytest.mark.claim("syn-queue.longer-queue-defends")),
        pytest.param("fewer retries", FEWER, marks=pytest.mark.claim("syn-queue.fewer-retries-defend")),
    ],
)
def test_patient_clients(claim: ClaimRun, lan: Callable[[int], Lan], name: str, defence: Defence) -> None:
    services = Services(lan, {name: defence})
    services.open()
    with claim.effect(f"{5 * FLOOD} SYNs a second, {CLIENTS} clients that knock until the kernel gives up") as effect:
        with services.flooded(rate=5 * FLOOD, distinct=16384):
            services.wait_until_dropped(1000, services.hosts)
            served = services.visited(CLIENTS, patience=None)[name]
        effect.compare(f"clients served, of {CLIENTS}", served, document=CLIENTS, kernel=at_most(CLIENTS // 4))
    services.open()
    with claim.control("no flood") as control:
        control.expect("clients served", services.visited(CLIENTS, patience=None)[name], CLIENTS)


# A queue that is more than half full, and of more than four places, lets go of requests that are 7 s old: then it
# depends on the second who gets in. One of four does not, so that it is full for a minute (reqsk_timer_handler()).
FOUR = Knobs(backlog=3, tcp_syncookies=0)
TRICKLE = 0.5


def trickle(services: Services, name: str) -> dict[str, int]:
    """Of ten clients of each service, how many are served while a SYN comes every two seconds and never an ACK.

    At first ten come at once. The clients come when those have left the service of that name.
    """
    services.open()
    services.check_settings()
    services.burst(10)
    with services.flooded(rate=TRICKLE, distinct=400):
        services.wait_until_let_go(name, 10 if services.defences[name].synack_retries > 1 else 2)
        return services.serve(10, through=[name])


@pytest.mark.claim("syn-queue.longer-queue-holds-off-a-trickle")
def test_longer_queue_holds_off_a_trickle(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    narrow = Knobs(1024, 1024, tcp_max_syn_backlog=4, tcp_syncookies=0)
    services = Services(
        lan,
        {
            "four places": Defence(FOUR),
            "385 places": LONGER,
            "four by tcp_max_syn_backlog": Defence(narrow),
            "tcp_max_syn_backlog raised from four": LONGER,
        },
    )
    with claim.effect("a SYN every two seconds that is never acknowledged") as effect:
        served = trickle(services, "385 places")
        effect.compare("clients served, of 10", served["385 places"], document=10)
        raised = served["tcp_max_syn_backlog raised from four"]
        effect.compare("clients served, of 10, where tcp_max_syn_backlog alone was raised", raised, document=10)
    with claim.control("the same, and places for four") as control:
        control.expect("clients served, of 10", served["four places"], 0)
        control.expect("where tcp_max_syn_backlog says so", served["four by tcp_max_syn_backlog"], 0)


@pytest.mark.slow(5)
@pytest.mark.claim("syn-queue.fewer-retries-hold-off-a-trickle")
def test_fewer_retries_hold_off_a_trickle(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    services = Services(lan, {"five": Defence(FOUR), "one": Defence(FOUR, synack_retries=1)})
    with claim.effect("a SYN every two seconds that is never acknowledged, tcp_synack_retries 1") as effect:
        served = trickle(services, "one")
        effect.compare("clients served, of 10", served["one"], document=10)
    with claim.control("the same, tcp_synack_retries 5") as control:
        control.expect("clients served, of 10", served["five"], 0)


@pytest.mark.slow(20)
@pytest.mark.claim("syn-queue.regulars-get-in")
def test_regulars_get_in(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    server, regular, stranger = lan(3).hosts
    reserved = Defence(Knobs(backlog=128, somaxconn=128, tcp_max_syn_backlog=32, tcp_syncookies=0))
    service = reserved.serve(server)
    become_known(regular, server)
    let_in = CLIENTS if since("peers-are-known-by-round-trip") else HARDLY_ANY
    attack = flood(server, regular, service, rate=FLOOD, seconds=LONGEST, distinct=4096)
    with attack, claim.effect(f"{FLOOD} SYNs a second, clients of a host with which a connection has ended") as effect:
        until(lambda: effect.delta(server).TcpExt.ListenDrops > 1000, what="a full SYN queue")
        served = visit(regular, {"regulars": service}, CLIENTS)["regulars"]
        effect.compare(f"clients served, of {CLIENTS}", served, document=CLIENTS, kernel=let_in)
        served = visit(stranger, {"strangers": service}, CLIENTS)["strangers"]
        effect.compare(f"clients of a stranger served, of {CLIENTS}", served, document=HARDLY_ANY)
    with claim.control("no flood: clients of the stranger") as control:
        service = reserved.serve(server)
        control.expect("clients served", connect(stranger, service, 10, wait=True).ask(), 10)
