"""A SYN flood that locks real clients out, and what each defence of documents 000 and 001 does about it.

An operator sees `netstat -natp | grep SYN_RECV | wc -l` stand at one number, and that of `netstat -s | grep "SYNs to
LISTEN"` run. A queue holds a flood off as long as it has room: n places, taken for t seconds each, are enough for n/t
SYNs a second. A longer queue and fewer retransmissions raise that, from a few a second to some tens, which is good
against a trickle. Against hping3, or anything that deserves the name of a flood, only cookies help.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from harness.instruments.syn_flood import (
    A_SIEGE,
    SIEGE_RATE,
    SYN_RECV,
    SYNS_TO_LISTEN,
    Defence,
    Services,
    answer_to_nobody,
    besieged,
    syn_recv,
    syns_dropped,
    visit,
)
from harness.laws import since
from harness.laws.queues import Knobs
from harness.laws.ranges import at_least, at_most
from harness.observe import shell

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import Lan

COOKIES = "net.ipv4.tcp_syncookies"
CLIENTS = 40
HARDLY_ANY = at_most(CLIENTS // 10)
# SYNs a second: a hundredth of what hping3 sends if it may. They take each place that becomes free: 385 places, each
# taken for 63 s, are six a second, so that of 160 SYNs that knock one gets in.
FLOOD = 1000
DROPPED = f"{SYNS_TO_LISTEN}, by how much it grew"
LOOKS = f"looks of five that show the same number, {SYN_RECV}"

# Two places, and 385: three quarters of tcp_max_syn_backlog, rounded up, and one.
SHORT = Knobs(backlog=128, somaxconn=128, tcp_max_syn_backlog=1, tcp_syncookies=0)
DEFENCES = {
    "none": Defence(SHORT),
    "a longer queue": Defence(Knobs(backlog=1024, somaxconn=1024, tcp_max_syn_backlog=512, tcp_syncookies=0)),
    "cookies": Defence(Knobs(backlog=128, somaxconn=128, tcp_max_syn_backlog=1, tcp_syncookies=1)),
    "one SYN-ACK retransmission": Defence(SHORT, synack_retries=1),
}

# A queue that is more than half full, and of more than four places, lets go of requests that are 7 s old: then it
# depends on the second who gets in. One of four is full for a minute (reqsk_timer_handler()).
FOUR = Knobs(backlog=3, somaxconn=3, tcp_max_syn_backlog=512, tcp_syncookies=0)
TRICKLE = 0.5
AGAINST_A_TRICKLE = {
    "none": Defence(FOUR),
    "a longer queue": DEFENCES["a longer queue"],
    "cookies": Defence(Knobs(backlog=128, somaxconn=128, tcp_max_syn_backlog=1, tcp_syncookies=1)),
    "one SYN-ACK retransmission": Defence(FOUR, synack_retries=1),
    "somaxconn alone": Defence(Knobs(backlog=3, somaxconn=1024, tcp_max_syn_backlog=512, tcp_syncookies=0)),
    "tcp_max_syn_backlog alone": Defence(Knobs(backlog=3, somaxconn=3, tcp_max_syn_backlog=1024, tcp_syncookies=0)),
}
HELP_IN_A_TRICKLE = ("a longer queue", "cookies", "one SYN-ACK retransmission")


@pytest.mark.slow(5)
@pytest.mark.claim("incidents.syn-flood")
def test_a_trickle(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    services = Services(lan, AGAINST_A_TRICKLE)
    with claim.effect("ten SYNs at once, and then one every two seconds, that are never acknowledged") as effect:
        services.open()
        services.check_settings()
        services.burst(10)
        with services.flooded(rate=TRICKLE, distinct=400):
            services.wait_until_let_go("one SYN-ACK retransmission", 2)
            served = services.serve(10, through=HELP_IN_A_TRICKLE)
            effect.note("half-open", services.half_open())
        for name, answered in served.items():
            what = f"clients served, of 10, defence: {name}"
            effect.compare(what, answered, document=10 if name in HELP_IN_A_TRICKLE else 0)
        effect.series("served in a trickle", list(served.items()), x="defence", unit="clients")
    with claim.control("the cause removed: no SYN flood, no defence") as control:
        services.open()
        control.expect("clients served", services.serve(10)["none"], 10)


def agreeing_looks(services: Services, name: str) -> int:
    """How many of five looks at the half-open requests of a server show the same number, as an operator sees it."""
    looks = Counter(syn_recv(services.hosts[name]) for _ in range(5))
    return max(looks.values())


@pytest.mark.slow(20)
@pytest.mark.claim("incidents.syn-flood")
def test_a_flood(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    services = Services(lan, DEFENCES)
    undefended, with_cookies = services.hosts["none"], services.hosts["cookies"]
    with claim.effect(f"{FLOOD} SYNs a second that are never acknowledged; clients knock twice") as effect:
        services.open()
        services.check_settings()
        with services.flooded(rate=FLOOD, distinct=4096):
            services.wait_until_dropped(100, [name for name in services.hosts if name != "cookies"])
            before = syns_dropped(undefended)
            effect.compare(LOOKS, agreeing_looks(services, "none"), document=at_least(4))
            served = services.visited(CLIENTS)
            effect.compare(DROPPED, syns_dropped(undefended) - before, document=at_least(1000))
            effect.compare("the same, with cookies", syns_dropped(with_cookies), document=0)
        for name, answered in served.items():
            what = f"clients served, of {CLIENTS}, defence: {name}"
            effect.compare(what, answered, document=CLIENTS if name == "cookies" else HARDLY_ANY)
        effect.series(f"served, {FLOOD} SYNs a second", list(served.items()), x="defence", unit="clients")
    with claim.control("the cause removed: no SYN flood, no defence") as control:
        services.open()
        control.expect("clients served", services.visited(CLIENTS, patience=None)["none"], CLIENTS)
        control.expect("SYNs dropped", control.delta(undefended).TcpExt.ListenDrops, 0)


@pytest.mark.slow(30)
@pytest.mark.ipv4_only("hping3 has no IPv6")
@pytest.mark.claim("incidents.syn-flood")
def test_hping3(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    server, client = lan(2).hosts
    answer_to_nobody(server, client)
    service = DEFENCES["none"].serve(server)
    with claim.control("before the attack") as control:
        control.expect("clients served", visit(client, {"": service}, CLIENTS, patience=None)[""], CLIENTS)
        control.expect("SYN_RECV, SYNs dropped", (syn_recv(server), syns_dropped(server)), (0, 0))
    with claim.effect("hping3 -S --flood --rand-source, no defence; clients knock twice") as effect:
        with besieged(client, service) as siege:
            looks, before = Counter(syn_recv(server) for _ in range(5)), syns_dropped(server)
            served = visit(client, {"": service}, CLIENTS)[""]
            grew = syns_dropped(server) - before
            effect.premise(SIEGE_RATE, siege.rate, A_SIEGE)
        effect.compare(f"clients served, of {CLIENTS}", served, document=HARDLY_ANY)
        effect.compare(LOOKS, max(looks.values()), document=at_least(4))
        effect.compare(DROPPED, grew, document=at_least(1000))
    with claim.effect("the same with cookies: echo 1 > /proc/sys/net/ipv4/tcp_syncookies, no restart") as effect:
        if COOKIES in server.sysctl.names():
            shell.printed(server, "echo 1 > /proc/sys/net/ipv4/tcp_syncookies")
        else:  # before 4.6 the initial namespace alone has it
            server.sysctl[COOKIES] = 1
        with besieged(client, service) as siege:
            before = syns_dropped(server)
            served = visit(client, {"": service}, CLIENTS, patience=None)[""]
            grew = syns_dropped(server) - before
            effect.premise(SIEGE_RATE, siege.rate, A_SIEGE)
        effect.compare(f"clients served, of {CLIENTS}", served, document=CLIENTS)
        if since("cookies-are-no-drops"):
            effect.compare(DROPPED, grew, document=0)
