"""Local ports: which ones a client gets, how many connections they are good for, and how one says so."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest

from harness.evidence import output, port
from harness.laws.ports import default_range
from harness.laws.ranges import at_least
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


@pytest.mark.claim("limits.default-range")
def test_default_range(claim: ClaimRun, pair: Pair) -> None:
    last = default_range()[-1]

    def taken() -> list[Port]:
        """The ports that clients get when only ten at either end of the range, and some beyond, are not reserved."""
        pair.client.sysctl[RESERVED] = "32778-60990"
        return ports(connect(pair.client, listen(pair.server), 30, wait=True, deadline=30))

    with claim.effect(
        "a fresh namespace; all ports but those about the ends of the range are taken out of it"
    ) as effect:
        printed = printed_range(pair.client)
        effect.compare("ip_local_port_range as 000 prints it", printed, document="32768 60999", kernel=f"32768 {last}")
        effect.note("ip_local_port_range as 002 prints it", "32768 61000")
        effect.compare(
            "ports of 30 clients",
            taken(),
            document=[*range(32768, 32778), *range(60991, 61000)],
            kernel=[*range(32768, 32778), *range(60991, last + 1)],
        )
    with claim.control("another range") as control:
        pair.client.sysctl[PORT_RANGE] = "32766 61001"
        control.expect("ports of 30 clients", taken(), [*range(32766, 32778), *range(60991, 61002)])


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
