"""A gateway out of ports: all clients behind it share the ports of one address, towards each destination anew.

A connection that leaves has the gateway's address, and needs a port there that no other one to the same destination
has. Masquerading draws from 1024 to 65535; the story is told on a scale of 1 to 3226, with 20 ports. The next client's
SYN is dropped on the gateway without a word (`insert_failed` of `conntrack -S`), while its table is nearly empty, and
the clients have ports in plenty. Another destination is reached as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.instruments.between import wait_for_knocks
from harness.instruments.connection_table import ConnectionTable
from harness.laws.ranges import at_least
from harness.observe.conntrack import statistics
from harness.traffic import arrivals, connect, echo, listen

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import BehindNat

PORTS, FIRST, CLIENTS, EACH = 20, 40000, 3, 8
WANTED = CLIENTS * EACH
TOO_MANY = WANTED - PORTS
OF_HOSTS = {"ip_local_port_range": "1024 65535", "tcp_tw_reuse": 1, "tcp_fin_timeout": 5}


@pytest.mark.slow(10)
@pytest.mark.claim("incidents.gateway-out-of-ports")
def test_gateway_out_of_ports(claim: ClaimRun, behind_nat: Callable[[int], BehindNat]) -> None:
    net = behind_nat(CLIENTS)
    clients, gateway, server = net.clients, net.gateway, net.server
    listener, another = (listen(server, answer=echo) for _ in range(2))
    came = arrivals(server, "S", dport=listener.port)
    gateway.nat.masquerade(ports=(FIRST, FIRST + PORTS - 1))
    with claim.effect("three clients want eight connections each, and the gateway has 20 ports: the symptom") as effect:
        wanted = [connect(client, listener, EACH) for client in clients]
        wait_for_knocks(2, *wanted)
        effect.compare("connections", sum(each.connected for each in wanted), document=PORTS)
        effect.compare("SYNs that the server gets", came.count, document=PORTS)
        failed = statistics(gateway)["insert_failed"]
        effect.compare("insert_failed, by conntrack -S", failed, document=at_least(2 * TOO_MANY))
        table = ConnectionTable(gateway)
        effect.compare("connections that the table has room for", table.limit - table.count, document=at_least(1000))
        elsewhere = connect(clients[0], another, EACH, wait=True)
        effect.compare("connections of a client to another port of the server", elsewhere.connected, document=EACH)
    with claim.effect(f"what does nothing: {', '.join(OF_HOSTS)} on the gateway") as effect:
        for name, value in OF_HOSTS.items():
            gateway.sysctl[f"net.ipv4.{name}"] = value
        wait_for_knocks(1, *wanted)
        effect.compare("connections", sum(each.connected for each in wanted), document=PORTS)
    with claim.effect("a remedy: two ports more in the rule") as effect:
        gateway.nat.masquerade(ports=(FIRST, FIRST + PORTS + 1))
        wanted.append(connect(clients[0], listener, TOO_MANY))
        wait_for_knocks(1, wanted[-1])
        effect.compare("connections", sum(each.connected for each in wanted), document=PORTS + 2)
    with claim.effect("a remedy: new connections leave by a second address, which has 20 ports as well") as effect:
        second = net.outside.address(77, gateway.family)
        gateway.add_address(second)
        server.neighbour("eth0", second, net.outside.mac(1))
        gateway.nat.snat(second, ports=(FIRST, FIRST + PORTS - 1))
        fresh = connect(clients[0], listener, EACH, wait=True)
        effect.compare("connections that are answered, of eight more", fresh.ask(), document=EACH)
    with claim.control("the cause removed: all ports, as masquerading has them") as control:
        gateway.nat.masquerade()
        more = [connect(client, listener, EACH, wait=True) for client in clients]
        control.expect("connections that are answered", sum(each.ask() for each in more), WANTED)
