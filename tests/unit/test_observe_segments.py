"""Segments parsed from frames, against scapy, which builds them; and exchanges as lines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.observe.segments import Options, Segment, exchange, parse, parse_options

U16, U32 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)


def seen(frame: bytes, **more: Any) -> Segment | None:
    return parse(frame, time=1.0, direction="in", interface="eth0", **more)


@given(
    ports=st.tuples(U16, U16),
    numbers=st.tuples(U32, U32),
    flags=st.integers(0, 511),
    window=U16,
    ttl=st.integers(1, 255),
    payload=st.binary(max_size=50),
    mss=st.none() | U16,
    scale=st.none() | st.integers(0, 255),
    sack_ok=st.booleans(),
    stamps=st.none() | st.tuples(U32, U32),
    version=st.sampled_from((4, 6)),
)
def test_what_scapy_builds_is_what_is_parsed(
    *,
    ports: tuple[int, int],
    numbers: tuple[int, int],
    flags: int,
    window: int,
    ttl: int,
    payload: bytes,
    mss: int | None,
    scale: int | None,
    sack_ok: bool,
    stamps: tuple[int, int] | None,
    version: int,
) -> None:
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    options: list[tuple[str, Any]] = [("NOP", None)]
    options += [("MSS", mss)] if mss is not None else []
    options += [("WScale", scale)] if scale is not None else []
    options += [("SAckOK", b"")] if sack_ok else []
    options += [("Timestamp", stamps)] if stamps else []
    ends = ("10.0.0.1", "10.0.0.2") if version == 4 else ("fd00::1", "fd00::2")
    network = IP(src=ends[0], dst=ends[1], ttl=ttl) if version == 4 else IPv6(src=ends[0], dst=ends[1], hlim=ttl)
    tcp = TCP(sport=ports[0], dport=ports[1], seq=numbers[0], ack=numbers[1], flags=flags, window=window,
              options=options)  # fmt: skip
    frame = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / network / tcp / payload)

    segment = seen(frame + bytes(max(0, 60 - len(frame))))  # short Ethernet frames are padded
    assert segment is not None
    assert segment.four_tuple == (ends[0], ports[0], ends[1], ports[1])
    assert (segment.seq, segment.ack) == numbers
    assert segment.flags == str(tcp.flags)
    assert (segment.window, segment.ttl) == (window, ttl)
    assert (segment.payload, segment.length) == (payload, len(payload))
    assert (segment.mss, segment.wscale, segment.sack_ok) == (mss, scale, sack_ok)
    assert (segment.tsval, segment.tsecr) == (stamps or (None, None))
    assert seen(frame[14:], ethernet=False) == segment


def test_other_frames_hold_no_segment() -> None:
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
    from scapy.layers.l2 import ARP, Ether

    for upper in (IP() / UDP(), IP() / ICMP(), ARP(), IPv6() / ICMPv6ND_NS(), IP(frag=3) / TCP()):
        assert seen(bytes(Ether(src="02::1", dst="02::2") / upper)) is None


def test_behind_a_vlan_tag_and_extension_headers() -> None:
    from scapy.layers.inet import TCP
    from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, PadN
    from scapy.layers.l2 import Dot1Q, Ether

    padding = [PadN(optdata=bytes(12))]
    extensions = IPv6ExtHdrHopByHop(options=padding) / IPv6ExtHdrFragment(offset=0) / IPv6ExtHdrDestOpt()
    frame = Ether(dst="02::1") / Dot1Q(vlan=7) / IPv6(src="fd00::1", dst="fd00::2") / extensions
    segment = seen(bytes(frame / TCP(sport=5, dport=6, flags="S") / b"abc"))
    assert segment is not None
    assert (segment.sport, segment.dport, segment.flags, segment.payload) == (5, 6, "S", b"abc")
    later = Ether(dst="02::1") / IPv6() / IPv6ExtHdrFragment(offset=1) / TCP()
    assert seen(bytes(later)) is None


@example(bytes.fromhex("00000000000600"))  # TCP, it says, and ends before the addresses
@given(st.binary(max_size=90))
def test_no_frame_is_too_strange_to_look_at(frame: bytes) -> None:
    seen(frame)
    seen(bytes(12) + b"\x08\x00\x45" + frame)
    seen(bytes(12) + b"\x86\xdd\x60" + frame)


def test_a_cut_frame_still_says_how_long_the_payload_was() -> None:
    from scapy.layers.inet import IP, TCP
    from scapy.layers.l2 import Ether

    segment = seen(bytes(Ether(dst="02::1") / IP() / TCP() / bytes(1000))[:100])
    assert segment is not None
    assert (segment.length, len(segment.payload)) == (1000, 100 - 54)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"", Options()),
        (bytes.fromhex("020405b4"), Options(mss=1460)),
        (bytes.fromhex("01010101"), Options()),
        (bytes.fromhex("00 020405b4"), Options()),  # nothing counts after the end of the list
        (bytes.fromhex("0204"), Options()),  # cut
        (bytes.fromhex("0200 0402"), Options()),  # a length of 0 would never end
        (bytes.fromhex("0402 030307"), Options(sack_ok=True, wscale=7)),
        (bytes.fromhex("fe04f989 0402"), Options(sack_ok=True)),  # an experiment's
        (bytes.fromhex("2202"), Options(fast_open=b"")),
        (bytes.fromhex("2206 00112233"), Options(fast_open=bytes.fromhex("00112233"))),
        (bytes.fromhex("0512 00000001 00000002 00000003 00000004"), Options(sack=((1, 2), (3, 4)))),
        (bytes.fromhex("080a 00000001 00000000"), Options(tsval=1, tsecr=0)),
    ],
)
def test_options(block: bytes, expected: Options) -> None:
    assert parse_options(block) == expected


CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 80)


def made(time: float, source: tuple[str, int], flags: str, *numbers: int, length: int = 0) -> Segment:
    target = SERVER if source == CLIENT else CLIENT
    seq, ack = (*numbers, 0)[:2]
    return Segment(time, "in", "eth0", *source, *target, flags, seq, ack, 64240, length, b"", 64)


HANDSHAKE = [
    made(100.0, CLIENT, "S", 2**32 - 1),
    made(100.000123, SERVER, "SA", 7000, 0),
    made(100.000124, CLIENT, "A", 0, 7001),
    made(101.0, CLIENT, "PA", 0, 7001, length=5),
]


def test_an_exchange_counts_from_its_beginning() -> None:
    assert exchange(HANDSHAKE) == [
        "0.000000 10.0.0.1:40000 > 10.0.0.2:80 S seq 0 win 64240",
        "0.000123 10.0.0.2:80 > 10.0.0.1:40000 SA seq 0 ack 1 win 64240",
        "0.000124 10.0.0.1:40000 > 10.0.0.2:80 A seq 1 ack 1 win 64240",
        "1.000000 10.0.0.1:40000 > 10.0.0.2:80 PA seq 1 ack 1 win 64240 len 5",
    ]
    assert exchange(reversed(HANDSHAKE)) == exchange(HANDSHAKE)
    assert exchange([]) == []


def test_one_direction_alone_is_relative_too() -> None:
    assert [line.partition("SA ")[2] for line in exchange(HANDSHAKE[1:2])] == ["seq 0 ack 1 win 64240"]


def test_a_reset_of_nothing_shows_its_zero() -> None:
    refused = [HANDSHAKE[0], replace(HANDSHAKE[1], flags="RA", seq=0)]
    assert exchange(refused)[1].endswith("RA seq 0 ack 1 win 64240")


def test_a_new_connection_of_the_same_four_tuple_begins_anew() -> None:
    again = [*HANDSHAKE, made(102.0, CLIENT, "S", 5_000_000), made(102.1, SERVER, "SA", 9_000_000, 5_000_001)]
    late_reset = made(102.2, SERVER, "RA", 0, 5_000_001)
    assert exchange([*again, late_reset])[-1].endswith("RA seq 0 ack 1 win 64240")
    old_ack = made(102.05, SERVER, "A", 7001, 5)  # of the connection before, which the server still remembers
    assert " A seq 1 ack " in exchange([*again[:-1], old_ack])[-1]
    assert [line.split(" ", 4)[4] for line in exchange(again)[-2:]] == ["S seq 0 win 64240", "SA seq 0 ack 1 win 64240"]
