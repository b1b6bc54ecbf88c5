"""Out of ports: a service opens 1000 short connections a second to another, and half a minute later none any more.

Each connection leaves a TIME-WAIT at the side that closes first, for 60 s, and with it a port of the client towards
that server is taken. The range has 28,232 of them. The story is told on a scale of 1 to 200: 142 ports, 5 connections
a second. Everything happens side by side: the service as it is, and one for each remedy of the documents.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness.laws.kernel import running
from harness.laws.ranges import at_least, between
from harness.traffic import listen
from harness.traffic.short_connections import ShortConnections, keep_asking

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lan
    from harness.traffic import Listener

RATE = 5
PORTS = 142
# From 1024 to 65535.
WIDE = 322
OUT_OF_PORTS = {"EADDRNOTAVAIL"}
SAYS = "Cannot assign requested address"


def give_ports(client: Host, n: int) -> None:
    """Leave a client so many ports for its connections."""
    client.sysctl["net.ipv4.ip_local_port_range"] = f"{40000} {40000 + n - 1}"


class Symptom(NamedTuple):
    """What the operator types on the client, and sees: ss -s, ss … | wc -l, and the error of one more connection."""

    timewait: int
    lines: int
    error: str


def symptom(client: Host, server: Listener) -> Symptom:
    """Type it."""
    address, port = server.address
    summary = re.search(r"timewait (\d+)", client.run("ss", "-s").stdout)
    assert summary is not None
    lines = client.run("sh", "-c", "ss -tan state time-wait | wc -l").stdout
    refused = client.run("bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}", check=False).stderr
    return Symptom(int(summary[1]), int(lines), SAYS if SAYS in refused else refused)


def enough(asking: ShortConnections, wide: Host) -> object:
    """How many answers mend the service: all; where the range is wide, as good as all.

    64,512 ports last for 64.5 s at this rate, and TIME-WAIT for 60 s and a step of the kernel's timer wheel, up to 5 s.
    """
    wanted = 75 * RATE + 1
    return at_least(int(0.95 * wanted)) if asking.client is wide else wanted


@pytest.mark.slow(75)
@pytest.mark.claim("incidents.out-of-ports")
def test_out_of_ports(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    server, second, third, *clients = lan(11).hosts
    as_it_is, calm, wide, three, pooled, reusing, fin_timeout, recycling = clients
    for client in clients:
        give_ports(client, WIDE if client is wide else PORTS)
    fin_timeout.sysctl["net.ipv4.tcp_fin_timeout"] = 5
    refused = ""

    def service(client: Host, *others: Host, rate: float = RATE, per_connection: int = 1) -> ShortConnections:
        servers = [listen(one) for one in (server, *others)]
        return ShortConnections(client, servers, rate, per_connection=per_connection)

    story = service(as_it_is)
    calmly = service(calm, rate=0.4 * RATE)
    remedies = {
        "ip_local_port_range from 1024 to 65535": service(wide),
        "three servers": service(three, second, third),
        "keep-alive: ten requests on each connection": service(pooled, per_connection=10),
    }
    useless = {"tcp_fin_timeout 5": service(fin_timeout)}
    if running() >= "4.12":
        # Before, a namespace has no tcp_tw_reuse of its own, and there is tcp_tw_recycle (group tw-recycle).
        reusing.sysctl["net.ipv4.tcp_tw_reuse"] = 1
        remedies["tcp_tw_reuse 1"] = service(reusing)
        useless["tcp_tw_recycle 1"] = service(recycling)
        refused = recycling.run("sysctl", "-w", "net.ipv4.tcp_tw_recycle=1", check=False).stderr
    everybody = [story, calmly, *remedies.values(), *useless.values()]

    with claim.effect("1000 short connections a second, on a scale of 1 to 200") as effect:
        started = keep_asking(everybody, 40)
        effect.series("TIME-WAIT", story.waiting, unit="sockets")
        effect.compare("connections before the first failure", story.before_failure, document=PORTS)
        effect.compare("the second of it", story.first_failure, document=between(PORTS / RATE, 58))
        effect.premise("errors of the application", set(story.errors), OUT_OF_PORTS)
        seen = symptom(as_it_is, story.servers[0])
        # ss -s has it from /proc/net/sockstat, which before 4.11 counts those of the whole machine.
        effect.premise("ss -s: timewait", seen.timewait, PORTS if running() >= "4.11" else at_least(PORTS))
        effect.premise("ss -tan state time-wait | wc -l, with its header", seen.lines, PORTS + 1)
        effect.premise("connecting by hand", seen.error, SAYS)
    with claim.control("400 a second, which 28,232 ports allow") as control:
        keep_asking(everybody, 75, since=started)
        control.series("TIME-WAIT", calmly.waiting, unit="sockets")
        control.expect("errors in 75 s", dict(calmly.errors), {})
        control.expect("connecting by hand", symptom(calm, calmly.servers[0]).error, "")
    for remedy, asking in remedies.items():
        with claim.effect(f"mended: {remedy}") as effect:
            effect.series("TIME-WAIT", asking.waiting, unit="sockets")
            effect.note("connections", asking.connections)
            effect.compare("requests answered of 376 in 75 s", asking.answered, document=enough(asking, wide))
    for remedy, asking in useless.items():
        with claim.control(f"what does nothing: {remedy}") as control:
            if "recycle" in remedy:
                control.expect("sysctl knows it", "No such file or directory" not in refused, False)
            control.expect("connections before the first failure", asking.before_failure, PORTS)
            control.expect("errors", set(asking.errors), OUT_OF_PORTS)
