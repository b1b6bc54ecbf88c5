"""What a gateway tracks: the entry of a connection, its state and its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.observe.conntrack import Tracked, drop_expired, parse, tracked
from harness.traffic import establish, listen
from harness.traffic.connection import endpoint
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.lab import BehindNat

TABLE = """\
ipv4     2 tcp      6 119 TIME_WAIT src=10.1.0.1 dst=10.2.0.2 sport=42514 dport=14001 src=10.2.0.2 dst=10.2.0.1 mark=0
ipv6     10 udp      17 29 src=fd00::1 dst=fd00::2 sport=45132 dport=52048 src=fd00::2 dst=fd00::1 mark=0 use=2
ipv6     10 tcp      6 431999 ESTABLISHED src=fd00::1 dst=fd00::2 sport=1 dport=2 [UNREPLIED] src=fd00::2 mark=0
"""


def test_the_table_is_read() -> None:
    assert parse(TABLE) == [Tracked(119, "TIME_WAIT", (42514, 14001)), Tracked(431999, "ESTABLISHED", (1, 2))]
    assert parse("") == []


def test_a_connection_through_a_gateway(behind_nat: Callable[[int], BehindNat]) -> None:
    net = behind_nat(1)
    connection = establish(net.clients[0], listen(net.server))
    ports = connection.port, endpoint(connection.server)[1]
    entry = tracked(net.gateway, ports)
    assert entry is not None
    assert entry.state == "ESTABLISHED"
    assert 430_000 < entry.seconds_left <= 432_000
    assert tracked(net.gateway, (1, 2)) is None


def test_what_has_expired_goes_when_the_table_is_read(behind_nat: Callable[[int], BehindNat]) -> None:
    net = behind_nat(1)
    tracking = net.gateway.conntrack
    tracking.timeouts["established"] = 1
    before = tracking.count
    establish(net.clients[0], listen(net.server))
    assert tracking.count == before + 1

    def are_there() -> int:
        drop_expired(net.gateway)
        return tracking.count

    until(lambda: are_there() == before, what="the entry to expire")
