"""Local ports: which ones a client gets, how many connections they are good for, and how one says so."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest

from harness.evidence import output, port
from harness.laws.ports import default_range
from harness.laws.ranges import at_least, between
from harness.observe import count
from harness.traffic import connect, listen
from harness.traffic.crowd import crowd
from harness.traffic.ports import PORT_RANGE, give_ports
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.evidence.kinds import Port
    from harness.lab import Host, Lan, Pair
    from harness.traffic import Attempts

RESERVED = "net.ipv4.ip_local_reserved_ports"
NO_PORT = errno.errorcode[errno.EADDRNOTAVAIL]


def outcome(attempts: Attempts) -> dict[str, int]:
    """How many connect() calls ended how."""
    return dict(attempts.wait(deadline=30).results())


def ports(attempts: Attempts) -> list[Port]:
    """The local ports of those that are connected."""
    return port(sorted(connected.getsockname()[1] for connected in attempts.sockets))


def printed_range(host: Host) -> str:
    """What the documents' command prints."""
    return " ".join(host.run("cat", "/proc/sys/net/ipv4/ip_local_port_range").stdout.split())


def compare_the_range(claim: ClaimRun, client: Host, server: Host, document: range) -> None:
    """What a document has for the default range beside what is printed, and the ports that clients get at its ends."""
    kernel = default_range()

    def taken() -> list[Port]:
        """The ports that clients get when only ten at either end of the range, and some beyond, are not reserved."""
        client.sysctl[RESERVED] = "32778-60990"
        return ports(connect(client, listen(server), 30, wait=True, deadline=30))

    def at_the_ends(of: range) -> list[int]:
        return [number for number in of if number < 32778 or number > 60990]

    with claim.effect(
        "a fresh namespace; all ports but those about the ends of the range are taken out of it"
    ) as effect:
        words = [f"{each[0]} {each[-1]}" for each in (document, kernel)]
        effect.compare("ip_local_port_range", printed_range(client), document=words[0], kernel=words[1])
        effect.compare("ports of 30 clients", taken(), document=at_the_ends(document), kernel=at_the_ends(kernel))
    with claim.control("another range") as control:
        client.sysctl[PORT_RANGE] = "32766 61001"
        control.expect("ports of 30 clients", taken(), [*range(32766, 32778), *range(60991, 61002)])


@pytest.mark.claim("limits.default-range")
def test_default_range(claim: ClaimRun, pair: Pair) -> None:
    compare_the_range(claim, pair.client, pair.server, range(32768, 61000))


@pytest.mark.claim("limits.range-ends-at-61000")
def test_range_ends_at_61000(claim: ClaimRun, pair: Pair) -> None:
    compare_the_range(claim, pair.client, pair.server, range(32768, 61001))


@pytest.mark.claim("limits.about-30000-ports")
def test_about_30000_ports(claim: ClaimRun, pair: Pair) -> None:
    """Out of how wide a stretch clients of many destinations get their ports."""
    client, about_30000 = pair.client, between(25_000, 35_000)  # two hundred draws lie apart by a tenth less at most

    def stretch() -> int:
        """From the lowest to the highest port of 400 clients of 200 destinations."""
        taken = [number for _ in range(200) for number in ports(connect(client, listen(pair.server), 2, wait=True))]
        return max(taken) - min(taken) + 1

    with claim.effect("a fresh namespace") as effect:
        first, last = printed_range(client).split()
        effect.compare("ports of ip_local_port_range", int(last) - int(first) + 1, document=about_30000)
        effect.compare("from the lowest to the highest port of 400 clients", stretch(), document=about_30000)
    with claim.control("a range of 5000") as control:
        give_ports(client, 5000)
        control.expect("from the lowest to the highest port of 400 clients", stretch(), between(4000, 5000))


@pytest.mark.claim("limits.ten-ports")
def test_ten_ports(claim: ClaimRun, pair: Pair) -> None:
    with claim.effect("a range of ten ports, twelve connect() calls to one destination") as effect:
        give_ports(pair.client, 10, first=60000)
        clients = connect(pair.client, listen(pair.server), 12)
        effect.compare("how they end", outcome(clients), document={"connected": 10, NO_PORT: 2})
        effect.compare("their ports", ports(clients), document=[*range(60000, 60010)])
        effect.compare("established, inet_diag", count(pair.client, "state established"), document=10)
    clients.close()
    with claim.control("a range of twelve, twelve connect() calls to one destination") as control:
        give_ports(pair.client, 12, first=60000)
        control.expect("how they end", outcome(connect(pair.client, listen(pair.server), 12)), {"connected": 12})


@pytest.mark.claim("limits.four-tuple")
def test_four_tuple(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    client, server, other = lan(3).hosts
    give_ports(client, 10, first=60000)
    first = listen(server)
    with claim.control("a range of ten ports, one destination: ten connections, and no more") as control:
        clients = connect(client, first, 12)
        control.expect("how twelve end", outcome(clients), {"connected": 10, NO_PORT: 2})
        control.expect("how one more ends", outcome(connect(client, first)), {NO_PORT: 1})
    for name, another in (("port", listen(server)), ("address", listen(other, port=first.port))):
        with claim.effect(f"while those ten are open, another destination: another {name}") as effect:
            more = connect(client, another, 12)
            effect.compare("how twelve end", outcome(more), document={"connected": 10, NO_PORT: 2})
            effect.compare("their ports", ports(more), document=ports(clients))
            effect.compare("established to the first", len(clients.sockets), document=10)
    with claim.effect("all three together") as effect:
        effect.compare("established, inet_diag", count(client, "state established"), document=30)


@pytest.mark.slow(100)  # needs the processors, so it begins while others only wait
@pytest.mark.claim("limits.four-tuple")
def test_more_than_65535(claim: ClaimRun, pair: Pair) -> None:
    """70,002 connections between two hosts: six ports of the server, 11,667 of the client's own 28,232."""
    with claim.effect("70,002 connections are open at once between two hosts") as effect:
        everyone = crowd(pair.client, pair.server, 70_002, ports=6, sample=700)
        for host in (pair.client, pair.server):
            for source, n in open_connections(host).items():
                effect.compare(f"established at the {host.name}, {source}", n, document=70_002)
        effect.compare("of a sample, how many are answered", everyone.answered, document=at_least(700))
        effect.premise("listen queue overflows", effect.delta(pair.server).TcpExt.ListenOverflows, 0)
        effect.note("processes at either end", everyone.processes)
    everyone.close()
    with claim.control("they are closed; a range of 1000 ports, six destinations that have them all") as control:
        until(lambda: gone(pair), deadline=120, what="the connections to end")
        give_ports(pair.client, 1000, first=40000)
        everyone = crowd(pair.client, pair.server, 6_000, ports=6)
        control.expect("established", open_connections(pair.client)["inet_diag"], 6_000)
        refused = [outcome(connect(pair.client, (pair.server.ip, port))) for port in everyone.ports]
        control.expect("one more to each", refused, [{NO_PORT: 1}] * 6)


def open_connections(host: Host) -> dict[str, int]:
    """The established connections of a host, from three sources."""
    (summary,) = [line for line in host.run("ss", "-s").stdout.splitlines() if line.startswith("TCP:")]
    stat = "sockstat" if host.family == socket.AF_INET else "sockstat6"
    with host.open(f"/proc/thread-self/net/{stat}") as table:
        (in_use,) = [line.split()[2] for line in table if line.startswith("TCP")]
    return {
        "inet_diag": count(host, "state established"),
        "ss -s": int(summary.partition("(estab ")[2].partition(",")[0]),
        f"{stat}, listeners not counted": int(in_use) - count(host, "state listening"),
    }


def gone(pair: Pair) -> bool:
    """Whether neither end has a socket left."""
    return count(pair.client) == count(pair.server) == 0


@pytest.mark.claim("limits.sysctl-p")
def test_sysctl_p(claim: ClaimRun, pair: Pair) -> None:
    # Set once by us, so that a kernel in which the range is the whole machine's is noticed before a program sets it.
    give_ports(pair.client, 1000, first=40000)
    line = f"{PORT_RANGE} = 60000 60009\n"
    written = pair.client.lab.directory / "sysctl.conf"
    written.write_text(f"# 增加(限制端口只能使用10个啦)\n{line}")

    def eleven() -> tuple[list[str], list[Port]]:
        """How eleven connect() calls end, one by one, and the ports of those that are connected."""
        clients = connect(pair.client, listen(pair.server), 11, wait=True, deadline=30)
        return [client.result for client in clients], ports(clients)

    with claim.control("000's lines are written to a file, and nothing has read it") as control:
        control.expect("the range", printed_range(pair.client), "40000 40999")
        results, taken = eleven()
        control.expect("how eleven connect() calls end", results, ["connected"] * 11)
        control.expect("how many have one of the ten ports", len([port for port in taken if port >= 60000]), 0)
    with claim.effect("sysctl -p FILE has been run") as effect:
        printed = output(pair.client.run("sysctl", "-p", written).stdout)
        effect.compare("what it prints", printed, document=line)
        effect.compare("the range", printed_range(pair.client), document="60000 60009")
        results, taken = eleven()
        effect.compare("how eleven connect() calls end", results, document=["connected"] * 10 + [NO_PORT])
        effect.compare("their ports", taken, document=[*range(60000, 60010)])
    with claim.control("the other host of the cable, where it was not run") as control:
        control.expect("the range", printed_range(pair.server), f"32768 {default_range()[-1]}")
