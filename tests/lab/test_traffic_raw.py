"""Raw peers and floods: segments of the scenario's own making, which reach the kernel as they were meant."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput, NotReady
from harness.lab import IPV4
from harness.observe import accept_queue, capture, counters, counting, half_open, sockets
from harness.traffic import SYN_OPTIONS, RawPeer, connect, echo, flood, frames, listen
from harness.traffic.hping3 import Hping3Flood
from harness.waiting import let_pass, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.lab import BehindNat, Host, Lan, Pair
    from harness.traffic import RawConnection

ERRORS = ("Tcp.InErrs", "Tcp.InCsumErrors")


@pytest.fixture
def peer(pair: Pair) -> RawPeer:
    return RawPeer(pair.server, pair.client)


def states(host: Host) -> list[str]:
    return [one.state for one in sockets(host, "exclude listening")]


def test_a_handshake_data_and_a_close_by_hand(pair: Pair, peer: RawPeer) -> None:
    listener = listen(pair.server)
    connection = peer.connection(listener, isn=5000)
    syn_ack = connection.syn()
    assert (syn_ack.ack, syn_ack.sport, syn_ack.dport) == (5001, listener.port, connection.port)
    assert dict(syn_ack.options)["MSS"] == (1460 if pair.server.family == IPV4 else 1440)
    assert states(pair.server) == ["SYN-RECV"]
    connection.send("A")
    (accepted,) = listener.accept()
    assert accepted.getpeername()[:2] == (peer.address, connection.port)
    connection.send("PA", b"hello")
    assert connection.wait("A").ack == 5006
    assert accepted.recv(100) == b"hello"
    accepted.send(b"world!")
    reply = connection.wait("PA")
    assert bytes(reply.payload) == b"world!"
    connection.ack += 6
    connection.send("FA")
    assert connection.wait("A").ack == 5007
    assert states(pair.server) == ["CLOSE-WAIT"]
    accepted.close()
    connection.wait("FA")
    assert counters(pair.server).Tcp.InErrs == 0


def test_a_peer_behind_a_gateway_is_seen_with_the_gateways_address(behind_nat: Callable[..., BehindNat]) -> None:
    net = behind_nat(1)
    listener = listen(net.server)
    peer = RawPeer(net.gateway, net.clients[0], beyond=net.server)
    connection = peer.connection(listener)
    connection.handshake()
    (accepted,) = listener.accept()
    assert accepted.getpeername()[0] == net.gateway.address(interface="eth1")
    accepted.send(b"through")
    assert bytes(connection.wait("PA").payload) == b"through"


def test_a_reset_takes_a_half_open_request_away(pair: Pair, peer: RawPeer) -> None:
    listener = listen(pair.server)
    connection = peer.connection(listener)
    connection.syn()
    assert half_open(pair.server, listener.port) == 1
    connection.send("R")
    until(lambda: half_open(pair.server, listener.port) == 0, what="the request to go")


def test_a_closed_port_answers_with_reset(pair: Pair, peer: RawPeer) -> None:
    connection = peer.connection(9)
    connection.send("S")
    reply = connection.wait("RA")
    assert (reply.sport, reply.dport, reply.ack) == (9, connection.port, 1001)
    with pytest.raises(NotReady, match=r"a segment SA to port 20000: not met within 0.1 s.*; received: RA"):
        connection.wait("SA", deadline=0.1)


def test_nobody_answers_for_a_raw_peer(pair: Pair, peer: RawPeer) -> None:
    """The SYN-ACK of an unowned address meets no RST of the client's kernel: the request stays."""
    listener = listen(pair.server)
    with counting(pair.client) as client:
        for connection in peer.half_open(listener, 10):
            connection.expect_syn_ack()
        assert half_open(pair.server, listener.port) == 10
    assert client.only("Tcp.*").nonzero() == {}


def test_two_peers_have_addresses_and_replies_of_their_own(pair: Pair) -> None:
    first, second = (RawPeer(pair.server, pair.client) for _ in range(2))
    owned = {address for host in (pair.client, pair.server) for address in host.interfaces["eth0"].addresses.values()}
    assert first.address != second.address
    assert not {first.address, second.address} & owned
    listener = listen(pair.server)
    a, b = first.connection(listener), second.connection(listener)
    a.handshake()
    b.handshake()
    assert [str(reply.flags) for one in (a, b) for reply in one.replies()] == ["SA", "SA"]
    assert {one.getpeername()[0] for one in listener.accept(2)} == {first.address, second.address}


def test_a_raw_peer_on_a_switch(lan: Callable[..., Lan]) -> None:
    server, near, _ = lan(3).hosts
    connection = RawPeer(server, near).connection(listen(server))
    connection.handshake()
    until(lambda: accept_queue(server, connection.to).waiting == 1, what="the connection")


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        ("S", {"options": SYN_OPTIONS}),
        ("SA", {"seq": 2**32 - 1, "ack": 2**32 - 1}),
        ("FPU", {"window": 0}),
        ("A", {"payload": b"odd"}),
        ("SEC", {"options": [("Timestamp", (17, 0)), ("MSS", 536)]}),
    ],
)
def test_segments_arrive_as_they_were_made(pair: Pair, peer: RawPeer, flags: str, fields: dict[str, object]) -> None:
    with capture(pair.server) as seen, counting(pair.server) as moved:
        peer.send(peer.frame(ports=(1234, 9), flags=flags, **fields))
        until(lambda: moved.Tcp.InSegs == 1, what="the segment")
        (segment,) = seen.segments(sport=1234)
    assert sorted(segment.flags) == sorted(flags)
    assert (segment.src, segment.dport, segment.direction) == (peer.address, 9, "in")
    assert (segment.seq, segment.window) == (fields.get("seq", 0), fields.get("window", 65535))
    assert segment.payload == fields.get("payload", b"")
    options = dict(fields.get("options", []))  # type: ignore[call-overload]
    assert segment.mss == options.get("MSS")
    assert (segment.tsval is not None) == ("Timestamp" in options)
    assert moved.only(*ERRORS).nonzero() == {}


def test_a_wrong_checksum_is_counted(pair: Pair, peer: RawPeer) -> None:
    """The control of all tests that see no such error."""
    with counting(pair.server) as moved:
        peer.send(peer.frame(ports=(1234, 9), flags="S")[:-1] + b"\xff")
        until(lambda: moved.Tcp.InCsumErrors == 1, what="the error")


@pytest.mark.parametrize("n", [1, 300, 1000])
def test_a_flood_sends_as_many_as_it_was_told(pair: Pair, n: int) -> None:
    listener = listen(pair.server, 4000)
    pair.server.sysctl["net.core.somaxconn"] = 4000
    pair.server.sysctl["net.ipv4.tcp_max_syn_backlog"] = 8000
    listener.listen(4000)
    with counting(pair.server) as moved, counting(pair.client) as client:
        rate = flood(pair.server, pair.client, listener, count=n).wait()
        until(lambda: moved.Tcp.InSegs >= n, what="all SYNs")
        until(lambda: half_open(pair.server, listener.port) == n, what="a request for each")
        assert (rate.sent, moved.Tcp.InSegs) == (n, n)
    assert moved.only(*ERRORS, "TcpExt.Listen*", "TcpExt.Syncookies*").nonzero() == {}
    assert client.only("Tcp.*").nonzero() == {}
    assert rate.per_second > 0
    assert len({(one.remote) for one in sockets(pair.server, "state syn-recv")}) == n


def test_a_flood_goes_round_when_it_has_no_more_frames(pair: Pair) -> None:
    listener = listen(pair.server, 100)
    with counting(pair.server) as moved:
        assert flood(pair.server, pair.client, listener, count=600, distinct=50).wait().sent == 600
        until(lambda: moved.Tcp.InSegs >= 600, what="all SYNs")
    assert half_open(pair.server, listener.port) == 50


def test_a_flood_is_bounded_in_time_and_held_to_a_rate(pair: Pair) -> None:
    listener = listen(pair.server, 10)
    rate = flood(pair.server, pair.client, listener, seconds=0.3, rate=1000).wait()
    assert 0 < rate.sent <= 300
    assert rate.seconds >= 0.3
    running = flood(pair.server, pair.client, listener, seconds=60, rate=1000)
    until(lambda: running.sent > 10, what="the flood")
    assert running.running()
    sent = running.stop().sent
    assert (running.running(), running.sent) == (False, sent)


@pytest.mark.parametrize("bounds", [{}, {"rate": 100.0}, {"seconds": 0}, {"seconds": 121}, {"seconds": -1}])
def test_a_flood_without_a_bound_is_refused(pair: Pair, bounds: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=r"a flood (needs a bound|lasts up to 120 seconds)"):
        flood(pair.server, pair.client, 80, **bounds)  # type: ignore[arg-type]


def test_spoofed_frames_differ_and_their_checksums_are_right(pair: Pair, peer: RawPeer) -> None:
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    template = peer.frame(ports=(1024, 80), flags="S", options=SYN_OPTIONS)
    made = list(frames.spoofed(template, pair.server.family, 2000))
    assert made == list(frames.spoofed(template, pair.server.family, 2000))
    sources = set()
    for frame in made[:200]:
        packet = Ether(frame)
        network = packet[IP if pair.server.family == IPV4 else IPv6]
        sources.add((network.src, packet[TCP].sport))
        sums = packet[TCP].chksum, getattr(network, "chksum", None)
        del packet[TCP].chksum
        if pair.server.family == IPV4:
            del network.chksum
        again = Ether(bytes(packet))
        assert (again[TCP].chksum, getattr(again.payload, "chksum", None)) == sums
        assert again[TCP].dport == 80
        assert network.src.startswith(("198.18.", "198.19.", "2001:2:"))
    assert (len(sources), len(set(made))) == (200, 2000)


def test_real_clients_are_served_during_a_flood(pair: Pair) -> None:
    listener = listen(pair.server, 50, answer=echo)
    with flood(pair.server, pair.client, listener, seconds=60, rate=1000) as attack:
        until(lambda: attack.sent > 100, what="the flood")
        assert sum(connect(pair.client, listener, wait=True).ask() for _ in range(5)) == 5


@pytest.mark.ipv4_only("hping3 has no IPv6")
def test_hping3_floods_and_reports(pair: Pair) -> None:
    listener = listen(pair.server, 50)
    with Hping3Flood(pair.client, pair.server.ip, listener.port) as attack:
        until(lambda: counters(pair.server).Tcp.InSegs > 1000, what="the flood")
        report = attack.stop()
    assert "packets transmitted" in report
    assert not attack.program.alive()


@pytest.mark.ipv4_only("hping3 has no IPv6")
def test_hping3_leaves_others_most_of_the_processor(pair: Pair) -> None:
    listener = listen(pair.server, 50)
    with Hping3Flood(pair.client, pair.server.ip, listener.port, share=0.2) as attack:
        until(lambda: counters(pair.server).Tcp.InSegs > 1000, what="the flood")
        # Nobody else stops it.
        until(lambda: state_of(attack.program.pid) == "T", what="hping3 to be stopped")
        sent = counters(pair.server).Tcp.InSegs
        until(lambda: counters(pair.server).Tcp.InSegs > sent + 1000, what="hping3 to go on")
        # Who stops it may be late on a busy machine, but not all the time.
        until(lambda: used(attack.program.pid) < 0.5, deadline=60, what="hping3 to take little of a processor")
        assert "packets transmitted" in attack.stop()
    assert not attack.program.alive()


def stat(pid: int) -> list[str]:
    """What the kernel says of a process, from its state on (proc(5), stat)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def state_of(pid: int) -> str:
    """What a process does."""
    return stat(pid)[0]


def used(pid: int) -> float:
    """How much of a processor a process takes, for half a second."""
    begun, before = time.monotonic(), sum(map(int, stat(pid)[11:13]))
    let_pass(0.5, what="time of a processor")
    ticks = sum(map(int, stat(pid)[11:13])) - before
    return ticks / os.sysconf("SC_CLK_TCK") / (time.monotonic() - begun)


def test_a_connection_moves_its_sequence_number_on(pair: Pair, peer: RawPeer) -> None:
    connection: RawConnection = peer.connection(9, isn=2**32 - 1, port=77)
    connection.send("S")
    assert connection.seq == 0
    connection.send("PA", b"abc")
    connection.send("FA")
    assert (connection.seq, connection.port) == (4, 77)
    connection.send("A", seq=99)
    assert connection.seq == 4
