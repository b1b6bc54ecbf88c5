"""Networks are handed over when traffic passes, and are what was asked for: neighbours, NAT, MTU, offloads."""

from __future__ import annotations

import itertools
import socket
from typing import TYPE_CHECKING, Any

import pytest

from harness.lab import IPV6, Host, behind_router, pair
from harness.observe import capture, counters
from harness.traffic import connect, drop, echo, listen
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.lab import BehindNat, Lab, Lan, Pair

ARP, IPV6_ETHERTYPE = 0x0806, 0x86DD
NEIGHBOUR_DISCOVERY = range(133, 138)


def discovery(frame: bytes) -> bool:
    """Whether a frame is ARP, or an ICMPv6 message of neighbour discovery (RFC 4861)."""
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype != IPV6_ETHERTYPE:
        return ethertype == ARP
    return frame[20] == socket.IPPROTO_ICMPV6 and frame[54] in NEIGHBOUR_DISCOVERY


def test_the_first_segment_of_a_pair_is_a_syn(lab: Lab) -> None:
    made = pair(lab)
    with capture(made.server) as seen:
        connect(made.client, listen(made.server, accept=True), wait=True)
        until(lambda: len(seen.segments()) >= 3, what="a handshake")
        assert [segment.flags for segment in seen.segments()][:3] == ["S", "SA", "A"]
        assert not any(discovery(packet.frame) for packet in seen.packets())


@pytest.mark.parametrize("n", [2, 5])
def test_all_hosts_of_a_lan_exchange_data_with_each_other(lan: Callable[..., Lan], n: int) -> None:
    hosts = lan(n).hosts
    assert [host.name for host in hosts] == [f"host{i}" for i in range(1, n + 1)]
    listeners = {host: listen(host, answer=echo) for host in hosts}
    with capture(hosts[0]) as first, capture(hosts[-1]) as last:
        for here, there in itertools.permutations(hosts, 2):
            clients = connect(here, listeners[there], wait=True)
            assert clients.ask(b"hello") == 1
            assert clients.sockets[0].getpeername()[0] == there.ip
        assert not any(discovery(packet.frame) for seen in (first, last) for packet in seen.packets())


def test_a_large_lan_is_ready_between_its_first_host_and_the_others(lan: Callable[..., Lan]) -> None:
    hosts = lan(40).hosts
    listener = listen(hosts[0], answer=echo)
    assert sum(connect(host, listener, wait=True).ask() for host in hosts[1:]) == 39


def test_a_switch_that_gets_ready_sends_to_all_once(lab: Lab) -> None:
    hosts = lab.hosts(*(f"host{i}" for i in range(1, 21)))
    switch = lab.switch(*hosts)
    assert switch.hub is not None
    # It knows a host by its first frame, which may be a report of a multicast group.
    switch.hub._host.run("ip", "link", "set", "bridge", "type", "bridge", "fdb_flush")
    own = bytes.fromhex(hosts[10].interfaces["eth0"].mac.replace(":", ""))
    with capture(hosts[10]) as seen:
        lab.ready()
        connect(hosts[0], listen(hosts[10], accept=True), wait=True)
        until(lambda: any(segment.flags == "A" for segment in seen.segments()), what="a handshake")
        frames = [packet.frame for packet in seen.packets()]
    assert sum(frame[:6] == own for frame in frames) > 2
    of_others = [frame for frame in frames if frame[:6] != own and frame[6:12] != own and not frame[0] & 1]
    assert len(of_others) <= 1


def test_a_switch_takes_nothing_from_hosts_that_do_not_have_their_addresses_yet(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sends a report of its multicast groups then, which would go to all others."""
    hosts, flags = lab.hosts("a", "b"), []
    add = Host.add_interface

    def look(host: Host, *arguments: Any) -> None:
        add(host, *arguments)
        flags.append(flags_of_the_bridge())

    def flags_of_the_bridge() -> str:
        (switch,) = lab.cables
        assert switch.hub is not None
        return switch.hub._host.run("ip", "-o", "link", "show", "bridge").stdout.split("<")[1].split(">")[0]

    monkeypatch.setattr(Host, "add_interface", look)
    lab.switch(*hosts)
    assert ["UP" in each.split(",") for each in (*flags, flags_of_the_bridge())] == [False, False, True]


def test_clients_behind_a_gateway_have_its_address(behind_nat: Callable[..., BehindNat]) -> None:
    net = behind_nat(3)
    listener = listen(net.server, answer=echo)
    outside = net.gateway.address(interface=net.outside.members[0][1])
    with capture(net.server) as seen:
        for number, client in enumerate(net.clients, start=1):
            assert connect(client, listener, wait=True).ask(b"hello") == 1
            until(lambda n=number: len(listener.accepted) == n, what="the connection")  # type: ignore[misc]
        peers = [connection.getpeername()[0] for connection in listener.accepted]
        assert peers == [outside] * 3
        assert not {client.ip for client in net.clients} & {segment.src for segment in seen.segments()}
        assert not any(discovery(packet.frame) for packet in seen.packets())


def test_a_gateway_that_only_forwards_leaves_addresses_alone(lab: Lab) -> None:
    client, gateway, server = lab.hosts("client", "gateway", "server")
    inside, outside = lab.link(client, gateway), lab.link(gateway, server)
    lab.gateway(gateway, inside=inside, outside=outside, masquerade=False)
    lab.ready()
    listener = listen(server)
    connect(client, listener, wait=True)
    (connection,) = listener.accept()
    assert connection.getpeername()[0] == client.ip


def test_two_cables_of_one_host_are_two_interfaces(lab: Lab) -> None:
    a, b, c = lab.hosts("a", "b", "c")
    lab.link(a, b)
    lab.link(a, c)
    lab.ready()
    assert [*a.interfaces] == ["eth0", "eth1"]
    assert a.address(interface="eth1") != a.ip == a.address(interface="eth0")
    listener = listen(a, address=a.address(interface="eth1"))
    assert connect(c, listener, wait=True).connected == 1


@pytest.mark.parametrize("mtu", [1280, 1500, 9000])
def test_the_mtu_is_in_force(lab: Lab, mtu: int) -> None:
    made = pair(lab, mtu=mtu)
    headers = 60 if lab.family == IPV6 else 40
    with capture(made.server, snap=64 + mtu) as seen:
        listener = listen(made.server)
        (client,) = connect(made.client, listener, wait=True).sockets
        client.send(b"x" * 20000)
        (connection,) = listener.accept()
        until(lambda: len(connection.recv(20000, socket.MSG_PEEK)) == 20000, what="20,000 bytes")
        assert [segment.mss for segment in seen.segments(flags="S")] == [mtu - headers]
        # The timestamp option takes twelve bytes of each segment.
        assert max(segment.length for segment in seen.segments()) == mtu - headers - 12
        assert max(packet.length for packet in seen.packets()) == 14 + mtu


def test_the_mtu_of_a_switch_is_in_force(lab: Lab) -> None:
    a, b = lab.hosts("a", "b")
    lab.switch(a, b, mtu=1400)
    lab.ready()
    with capture(a) as seen:
        connect(b, listen(a), wait=True)
        (syn,) = seen.segments(flags="S")
        assert syn.mss == 1400 - (60 if lab.family == IPV6 else 40)


@pytest.mark.parametrize("offloads", [False, True])
def test_offloads_are_on_or_off_as_asked(lab: Lab, offloads: bool) -> None:
    made = pair(lab, offloads=offloads)
    with capture(made.server, snap=100) as seen:
        listener = listen(made.server)
        (client,) = connect(made.client, listener, wait=True).sockets
        sent = client.send(b"x" * 50_000)
        (connection,) = listener.accept()
        until(lambda: len(connection.recv(sent, socket.MSG_PEEK)) == sent, what=f"{sent} bytes")
        assert (max(packet.length for packet in seen.packets()) > 1514) is offloads


def test_no_checksum_is_wrong_on_the_cable(pair: Pair) -> None:
    listener = listen(pair.server, answer=echo)
    with capture(pair.server, snap=200, port=listener.port) as seen:
        assert connect(pair.client, listener, 3, wait=True).ask(b"hello") == 3
        frames = [packet.frame for packet in seen.packets()]
    assert len(frames) >= 3 * 5
    assert all(checksum_is_right(frame) for frame in frames)
    assert counters(pair.server).Tcp.InCsumErrors == counters(pair.client).Tcp.InCsumErrors == 0


def checksum_is_right(frame: bytes) -> bool:
    """RFC 9293 section 3.1: the sum over pseudo header and segment, as it arrived, is all ones."""
    if int.from_bytes(frame[12:14], "big") == IPV6_ETHERTYPE:
        addresses, segment = frame[22:54], frame[54 : 54 + int.from_bytes(frame[18:20], "big")]
    else:
        addresses, segment = frame[26:34], frame[34 : 14 + int.from_bytes(frame[16:18], "big")]
    data = addresses + socket.IPPROTO_TCP.to_bytes(4, "big") + len(segment).to_bytes(4, "big") + segment
    data += bytes(len(data) % 2)
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


def test_a_gateway_needs_no_program_for_its_rules(behind_nat: Callable[..., BehindNat]) -> None:
    net = behind_nat()
    rules = net.gateway.run("nft", "list", "ruleset").stdout
    assert rules.count("masquerade") == 2
    assert [name in rules for name in ("prerouting", "postrouting")] == [True, True]
    with drop(net.server):
        pass
    assert net.server.run("nft", "list", "ruleset").stdout == ""


def test_a_router_leaves_addresses_as_they_are(behind_nat: Callable[..., BehindNat]) -> None:
    net = behind_nat()
    router = behind_router(net.server.lab)
    for site, seen_as in ((net, net.gateway.address(interface="eth1")), (router, router.clients[0].ip)):
        with capture(site.server) as packets:
            connect(site.clients[0], listen(site.server), wait=True)
            assert {syn.src for syn in packets.segments(flags="S")} == {seen_as}
