"""Captures of real hosts: against tcpdump, exact counts, direction, bounds, and nothing left behind."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput
from harness.lab import Lab, pair
from harness.observe import capture, exchange, sockets, write_pcapng
from harness.traffic import RawPeer, connect, establish, listen
from harness.traffic.connection import ANSWER, QUESTION
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.lab import Pair
    from harness.observe import Segment


Read = list[tuple[str, str, str]]


def as_read(segments: list[Segment]) -> Read:
    """Each segment as (source, destination, flags): addresses and ports as tcpdump joins them."""
    return [(f"{one.src}.{one.sport}", f"{one.dst}.{one.dport}", one.flags) for one in segments]


def read_by_tcpdump(path: Path) -> Read:
    """The TCP segments of a file as tcpdump prints them; "." is its ACK flag."""
    if shutil.which("tcpdump") is None:
        pytest.skip("tcpdump is not installed")
    ran = subprocess.run(["tcpdump", "-nr", str(path)], capture_output=True, text=True, check=False)
    if "Couldn't change to" in ran.stderr:
        pytest.skip("tcpdump wants to become a user that a user namespace of one user does not have")
    found = re.findall(r" IP6? (\S+) > (\S+): Flags \[([^\]]+)\]", ran.stdout)
    return [(source, destination, flags.replace(".", "A")) for source, destination, flags in found]


def read_by_scapy(path: Path) -> Read:
    """The TCP segments of a file as scapy reads them."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.utils import rdpcap

    packets = [packet for packet in rdpcap(str(path)) if TCP in packet]
    networks = [packet[IP] if IP in packet else packet[IPv6] for packet in packets]
    return [(f"{one.src}.{one[TCP].sport}", f"{one.dst}.{one[TCP].dport}", str(one[TCP].flags)) for one in networks]


def test_a_handshake_and_its_end_from_both_sides(pair: Pair) -> None:
    listener = listen(pair.server)
    with capture(pair.client) as client, capture(pair.server, "eth0") as server:
        (here,) = connect(pair.client, listener, wait=True).sockets
        (there,) = listener.accept(1)
        here.send(b"question")
        until(lambda: len(server.segments(flags="PA")) == 1, what="the data")
        here.close()
        until(lambda: len(server.segments(flags="FA")) == 1, what="the client's FIN")
        there.close()
        until(lambda: len(client.segments(flags="R")) == 1, what="the reset")
    flags = ["S", "SA", "A", "PA", "A", "FA", "RA"]  # the server had not read the question: RST, RFC 2525 2.17
    assert [one.flags for one in client.segments()] == flags
    assert [one.flags for one in server.segments()] == flags
    to_server = ["out", "in", "out", "out", "in", "out", "in"]
    assert [one.direction for one in client.segments()] == to_server
    assert [one.direction for one in server.segments(interface="eth0")] == [
        {"out": "in", "in": "out"}[direction] for direction in to_server
    ]
    assert [one.payload for one in server.segments(flags="PA")] == [b"question"]
    for one, other in zip(client.segments(), server.segments(), strict=True):
        assert (one.seq, one.ack, one.tsval, one.four_tuple) == (other.seq, other.ack, other.tsval, other.four_tuple)


def test_the_options_of_a_syn(pair: Pair) -> None:
    listener = listen(pair.server)
    with capture(pair.server) as at_server:
        connect(pair.client, listener, wait=True)
        (syn,) = at_server.segments(flags="S", dport=listener.port, src=pair.client.ip)
    (one,) = sockets(pair.client)
    assert one.info is not None
    assert syn.mss == 1500 - (40 if pair.client.family == socket.AF_INET else 60)
    assert syn.wscale == one.info.rcv_wscale
    assert syn.sack_ok
    assert (syn.tsecr, syn.ack, syn.length, syn.ttl) == (0, 0, 0, 64)
    assert syn.tsval


def test_segments_are_chosen_by_all_that_is_given(pair: Pair) -> None:
    listener, other = listen(pair.server), listen(pair.server)
    with capture(pair.server) as at_server:
        connect(pair.client, listener, wait=True)
        connect(pair.client, other, wait=True)
        until(lambda: len(at_server.segments(flags="A")) == 2)
    assert len(at_server.segments()) == 6
    assert len(at_server.segments(port=listener.port)) == 3
    assert [one.flags for one in at_server.segments(port=listener.port, direction="out")] == ["SA"]
    assert [one.flags for one in at_server.segments(sport=listener.port)] == ["SA"]
    assert [one.flags for one in at_server.segments(dst=pair.server.ip, dport=other.port)] == ["S", "A"]
    assert at_server.segments(interface="lo") == []


def test_the_segments_of_a_connection_are_told_from_those_of_another_with_its_port(pair: Pair) -> None:
    """A host may have connections from one port to two listeners: the kernel chooses so once in a while."""
    pair.client.sysctl["net.ipv4.ip_local_port_range"] = "40000 40000"
    with capture(pair.server) as at_server:
        first = establish(pair.client, listen(pair.server)).talk()
        second = establish(pair.client, listen(pair.server)).talk(2)
    assert first.port == second.port == 40000
    assert len(at_server.segments(port=first.port)) == len(at_server.segments())
    of_first, of_second = at_server.segments(ends=first.ends), at_server.segments(ends=second.ends)
    assert [one.payload for one in of_first if one.payload] == [QUESTION, ANSWER]
    assert [one.payload for one in of_second if one.payload] == [QUESTION, ANSWER] * 2
    assert sorted([*of_first, *of_second], key=lambda one: one.time) == at_server.segments()
    here, there = first.ends
    assert at_server.segments(ends=(there, here)) == of_first
    assert {one.src for one in at_server.segments(ends=first.ends, direction="in")} == {pair.client.ip}
    assert at_server.segments(ends=(here, (there[0], there[1] - 1))) == []


@pytest.mark.parametrize("read", [read_by_tcpdump, read_by_scapy])
def test_the_files_are_what_others_read(pair: Pair, tmp_path: Path, read: Callable[[Path], Read]) -> None:
    listener = listen(pair.server)
    with capture(pair.client) as client, capture(pair.server) as server:
        connect(pair.client, listener, 3, wait=True)
        with suppress(ConnectionRefusedError), pair.client.socket() as refused:
            refused.connect((pair.server.ip, 1))
        until(lambda: len(server.segments()) == 11 == len(client.segments()))
    client.write(tmp_path / "client.pcapng")
    assert read(tmp_path / "client.pcapng") == as_read(client.segments())
    write_pcapng(tmp_path / "both.pcapng", [client, server])
    assert len(read(tmp_path / "both.pcapng")) == 22


def test_a_second_look_goes_on_from_the_first(pair: Pair) -> None:
    listener = listen(pair.server)
    with capture(pair.server, port=listener.port) as at_server:
        for n in range(1, 6):
            connect(pair.client, listener, wait=True)
            until(lambda n=n: len(at_server.packets()) == 3 * n)  # type: ignore[misc]
        assert len(at_server.packets()) == 15
    connect(pair.client, listener, wait=True)
    assert len(at_server.packets()) == 15


def test_times_are_the_kernels_and_ascend(pair: Pair) -> None:
    listener = listen(pair.server)
    before = time.time_ns()
    with capture(pair.server, port=listener.port) as at_server:
        connect(pair.client, listener, 20, wait=True)
        until(lambda: len(at_server.packets()) == 60)
        after = time.time_ns()
        times = [packet.time_ns for packet in at_server.packets()]
    assert before < times[0]
    assert times == sorted(times)
    assert times[-1] < after


def test_only_a_port(pair: Pair) -> None:
    wanted, other = listen(pair.server), listen(pair.server)
    with capture(pair.server, port=wanted.port) as narrow, capture(pair.server) as wide:
        connect(pair.client, wanted, wait=True)
        connect(pair.client, other, wait=True)
        with pair.client.socket(socket.SOCK_DGRAM) as datagrams:
            datagrams.sendto(b"x", (pair.server.ip, wanted.port))
        until(lambda: len(wide.segments(flags="A")) == 2)
    assert [one.flags for one in narrow.segments()] == ["S", "SA", "A"]
    assert len(narrow.packets()) == 3
    assert len(wide.packets()) > 6


def test_a_full_capture_keeps_the_first_and_counts_the_rest(pair: Pair) -> None:
    limit, closed = 100, 9
    peer = RawPeer(pair.server, pair.client)
    with capture(pair.server, port=closed, limit=limit) as small, capture(pair.server, port=closed) as large:
        peer.half_open(closed, 400)
        until(lambda: len(large.packets()) == 800, what="400 SYNs and 400 resets")
        small.packets()  # this makes room in the kernel, not in what is kept
        peer.half_open(closed, 5)
        until(lambda: len(large.packets()) == 810, what="5 more")
    assert large.dropped == 0
    assert [packet.frame for packet in small.packets()] == [packet.frame for packet in large.packets()[:limit]]
    assert small.dropped == 810 - limit
    assert small.exchange()[-1] == "(710 packets more were not captured: the limit is 100)"
    assert len(large.exchange()) == 810


def test_a_long_frame_is_cut_and_its_length_kept(pair: Pair) -> None:
    with capture(pair.server, snap=100) as at_server:
        with pair.client.socket(socket.SOCK_DGRAM) as datagrams:
            datagrams.sendto(bytes(1200), (pair.server.ip, 9))
        until(at_server.packets, what="the datagram")
    header = 14 + (20 if pair.client.family == socket.AF_INET else 40) + 8
    (packet,) = [packet for packet in at_server.packets() if packet.length == header + 1200]
    assert len(packet.frame) == 100


def test_loopback_is_seen_once(lab: Lab) -> None:
    host = lab.host("alone")
    loopback = "127.0.0.1" if host.family == socket.AF_INET else "::1"
    lab.ready()
    host.netlink()
    listener = listen(host, address=loopback)
    with capture(host, "lo") as at_host:
        connect(host, listener, wait=True)
        until(lambda: len(at_host.segments(flags="A")) == 1)
    assert [(one.flags, one.interface, one.direction) for one in at_host.segments()] == [
        ("S", "lo", "in"),
        ("SA", "lo", "in"),
        ("A", "lo", "in"),
    ]


def test_what_a_raw_peer_sends_is_seen_as_it_arrives(pair: Pair) -> None:
    listener = listen(pair.server)
    with capture(pair.server) as at_server:
        RawPeer(pair.server, pair.client).half_open(listener, 3)
        until(lambda: len(at_server.segments(flags="SA")) >= 3)
    assert len(at_server.segments(flags="S", direction="in")) == 3
    assert any(" SA seq 0 ack 1 " in line for line in exchange(at_server.segments()))


def test_an_interface_that_the_host_lacks(pair: Pair) -> None:
    with pytest.raises(BadInput, match="server has no interface 'eth7', only lo, eth0"), capture(pair.server, "eth7"):
        pass
    with pytest.raises(BadInput, match="at least one packet"):
        capture(pair.server, limit=0)


def test_nothing_is_left_of_a_capture(family: int) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with Lab(family) as lab:
        pair(lab)  # what the first lab of a process opens for good
    before = descriptors()
    with Lab(family) as lab:
        made = pair(lab)
        inside = descriptors()
        with capture(made.client), capture(made.server):
            assert descriptors() == inside + 4  # a socket and its map each
        with pytest.raises(BadInput), capture(made.client, "eth7"):
            pass
    assert descriptors() == before
