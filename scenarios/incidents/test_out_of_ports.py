"""Out of ports: a service opens 1000 short connections a second to another, and half a minute later none any more.

Each connection leaves a TIME-WAIT at the side that closes first, for 60 s, and with it a port of the client towards
that server is taken. The range has 28,232 of them. The story is told on a scale of 1 to 200: 142 ports, 5 connections
a second. Everything happens side by side: the service as it is, and one for each remedy of the documents.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds
from harness.laws import since
from harness.laws.ranges import at_least, between
from harness.observe import shell
from harness.traffic import listen
from harness.traffic.ports import give_ports
from harness.traffic.short_connections import ShortConnections, keep_asking

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lan

RATE = 5
PORTS = 142
# From 1024 to 65535.
WIDE = 322
# For how long is asked, in seconds, and how many connections a second the range allows: in that time more than it has
# ports, in the 60 s of TIME-WAIT and a step of the kernel's timer wheel, up to 5.1 s, fewer.
LONG, SHORT = (75, 400), (67, 430)
# So long no port comes back.
BEFORE_ANY_COMES_BACK = 40
OUT_OF_PORTS = {"EADDRNOTAVAIL"}
SAYS = "Cannot assign requested address"
THE_SECOND = between(PORTS / RATE, PORTS / RATE * 1.1 + 1)
IN_TIME_WAIT = "ss -Htan state time-wait | wc -l"


def all_in(seconds: int) -> int:
    """How many requests are to be answered in so many seconds."""
    return seconds * RATE + 1


@pytest.mark.slow(68)
@pytest.mark.claim("incidents.out-of-ports")
def test_out_of_ports(claim: ClaimRun, lan: Callable[[int], Lan], long_form: bool) -> None:
    lasts, allowed = LONG if long_form else SHORT
    wanted = all_in(lasts)
    # Where the range is wide, its ports last for 64.5 s at this rate, so that some requests may come before the first
    # port is back. Without any that comes back, 322 would be answered.
    as_good_as_all = at_least(int((0.95 if long_form else 0.97) * wanted))
    server, second, third, *clients = lan(10).hosts
    as_it_is, calm, wide, three, pooled, reusing, recycling = clients
    for client in clients:
        give_ports(client, WIDE if client is wide else PORTS)
    refused = ""

    def service(client: Host, *others: Host, rate: float = RATE, per_connection: int = 1) -> ShortConnections:
        servers = [listen(host) for host in (server, *others)]
        return ShortConnections(client, servers, rate, per_connection=per_connection)

    def by_hand(asking: ShortConnections) -> str:
        """What an operator sees who connects by hand from the service's host."""
        said = shell.connect_by_hand(asking.client, *asking.servers[0].address)
        return SAYS if SAYS in said else said

    story, calmly = service(as_it_is), service(calm, rate=allowed / 1000 * RATE)
    remedies = {
        "ip_local_port_range from 1024 to 65535": (service(wide), as_good_as_all),
        "three servers": (service(three, second, third), wanted),
        "keep-alive: ten requests on each connection": (service(pooled, per_connection=10), wanted),
    }
    useless = {}
    if since("tw-recycle-is-gone"):
        # Before, a namespace has no tcp_tw_reuse of its own, and there is tcp_tw_recycle (group tw-recycle).
        reusing.sysctl["net.ipv4.tcp_tw_reuse"] = 1
        remedies["tcp_tw_reuse 1"] = service(reusing), wanted
        useless["tcp_tw_recycle 1"] = service(recycling)
        refused = recycling.run("sysctl", "-w", "net.ipv4.tcp_tw_recycle=1", check=False).stderr
    everybody = [story, calmly, *(asking for asking, _ in remedies.values()), *useless.values()]

    with claim.effect("1000 short connections a second, on a scale of 1 to 200") as effect:
        started = keep_asking(everybody, 40)
        effect.series("TIME-WAIT", story.waiting, unit="sockets")
        effect.compare("connections before the first failure", story.before_failure, document=PORTS)
        effect.compare("the second of it", seconds(story.first_failure), document=THE_SECOND)
        effect.compare("errors of the application", set(story.errors), document=OUT_OF_PORTS)
        # ss -s has it from /proc/net/sockstat, which before 4.11 counts those of the whole machine.
        (timewait,) = re.findall(r"timewait (\d+)", as_it_is.run("ss", "-s").stdout)
        own = since("time-wait-counted-per-namespace")
        effect.premise("ss -s: timewait", int(timewait), PORTS if own else at_least(PORTS))
        effect.premise(IN_TIME_WAIT, shell.number(as_it_is, IN_TIME_WAIT), PORTS)
        effect.compare("connecting by hand", by_hand(story), document=SAYS)
    with claim.control(f"{allowed} a second, which 28,232 ports allow") as control:
        keep_asking(everybody, lasts, since=started)
        control.series("TIME-WAIT", calmly.waiting, unit="sockets")
        control.expect(f"errors in {lasts} s", dict(calmly.errors), {})
        control.expect("connecting by hand", by_hand(calmly), "")
    for remedy, (asking, enough) in remedies.items():
        with claim.effect(f"mended: {remedy}") as effect:
            effect.series("TIME-WAIT", asking.waiting, unit="sockets")
            effect.note("connections", asking.connections)
            effect.compare(f"requests answered of {wanted} in {lasts} s", asking.answered, document=enough)
    for remedy, asking in useless.items():
        with claim.control(f"what does nothing: {remedy}") as control:
            control.expect("sysctl knows it", "No such file or directory" not in refused, False)
            control.expect("connections before the first failure", asking.before_failure, PORTS)
            control.expect("errors", set(asking.errors), OUT_OF_PORTS)


@pytest.mark.slow(41)
@pytest.mark.claim("time-wait.fin-timeout-sets-it")
def test_fin_timeout_gives_no_port_back(claim: ClaimRun, lan: Callable[[int], Lan], long_form: bool) -> None:
    lasts = LONG[0] if long_form else BEFORE_ANY_COMES_BACK
    server, mended, as_it_is = lan(3).hosts
    for client in (mended, as_it_is):
        give_ports(client, PORTS)
    mended.sysctl["net.ipv4.tcp_fin_timeout"] = 5
    hoping, untouched = (ShortConnections(client, [listen(server)], RATE) for client in (mended, as_it_is))
    with claim.effect("the service with tcp_fin_timeout 5, which is to recycle TIME-WAIT fast") as effect:
        keep_asking([hoping, untouched], lasts)
        effect.series("TIME-WAIT", hoping.waiting, unit="sockets")
        wanted = all_in(lasts)
        effect.compare("connections before the first failure", hoping.before_failure, document=wanted, kernel=PORTS)
        effect.note("seconds until a request fails", seconds(hoping.first_failure))
    with claim.control("tcp_fin_timeout left at 60") as control:
        control.expect("connections before the first failure", untouched.before_failure, PORTS)
        control.expect("seconds until a request fails", seconds(untouched.first_failure), THE_SECOND)
