"""TCP segments taken from frames, and a packet exchange as lines to read."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN = 0x0800, 0x86DD, 0x8100
ETHERNET_SIZE, VLAN_SIZE, IPV6_SIZE, TCP_SIZE = 14, 4, 40, 20

# RFC 8200 section 4: hop-by-hop, routing, destination options (length in 8 bytes, after the first 8), fragment.
IPV6_OPTIONS = frozenset((0, 43, 60))
IPV6_FRAGMENT = 44

# RFC 9293 section 3.1, from the lowest bit; the letters and their order are scapy's.
FLAGS = "FSRPAUECN"
TCP_HEADER = struct.Struct("!HHIIHHHH")

END, NOP, MSS, WINDOW_SCALE, SACK_PERMITTED, SACK, TIMESTAMPS, FAST_OPEN = 0, 1, 2, 3, 4, 5, 8, 34


class Options(NamedTuple):
    """The options of a TCP header; None for one that is absent."""

    mss: int | None = None
    wscale: int | None = None
    sack_ok: bool = False
    tsval: int | None = None
    tsecr: int | None = None
    sack: tuple[tuple[int, int], ...] = ()
    fast_open: bytes | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Segment:
    """One TCP segment as it was seen on an interface.

    `time` in seconds since the epoch, by the kernel; `direction` "in" or "out" of the host. `flags` are
    letters in scapy's order: "S", "SA", "A", "PA", "FA", "R", "RA". `window` is the field of the header, not
    scaled. `length` is that of the payload in bytes; `payload` holds as much of it as was captured.
    """

    time: float
    direction: str
    interface: str
    src: str
    sport: int
    dst: str
    dport: int
    flags: str
    seq: int
    ack: int
    window: int
    length: int
    payload: bytes
    ttl: int
    mss: int | None = None
    wscale: int | None = None
    sack_ok: bool = False
    tsval: int | None = None
    tsecr: int | None = None
    sack: tuple[tuple[int, int], ...] = ()
    fast_open: bytes | None = None

    @property
    def four_tuple(self) -> tuple[str, int, str, int]:
        """Source address and port, destination address and port."""
        return self.src, self.sport, self.dst, self.dport

    @property
    def next_seq(self) -> int:
        """The sequence number that follows the segment: SYN and FIN take one each (RFC 9293, section 3.4)."""
        return (self.seq + self.length + ("S" in self.flags) + ("F" in self.flags)) % 2**32

    def __str__(self) -> str:
        return self.line()

    def __repr__(self) -> str:
        return f"<{self.line()}>"

    def line(self, *, since: float = 0.0, seq_base: int = 0, ack_base: int = 0) -> str:
        """One line; the time counts from `since`, the sequence numbers from their bases."""
        source, destination = _endpoint(self.src, self.sport), _endpoint(self.dst, self.dport)
        words = [f"{self.time - since:.6f} {source} > {destination} {self.flags or '.'}"]
        words.append(f"seq {(self.seq - seq_base) & 0xFFFFFFFF}")
        if "A" in self.flags:
            words.append(f"ack {(self.ack - ack_base) & 0xFFFFFFFF}")
        words.append(f"win {self.window}")
        if self.length:
            words.append(f"len {self.length}")
        return " ".join(words + self._options(ack_base))

    def _options(self, ack_base: int) -> list[str]:
        numbers = (("mss", self.mss), ("wscale", self.wscale), ("tsval", self.tsval), ("tsecr", self.tsecr))
        words = [f"{name} {value}" for name, value in numbers if value is not None]
        if self.sack_ok:
            words.append("sack_ok")
        for left, right in self.sack:
            words.append(f"sack {(left - ack_base) & 0xFFFFFFFF}-{(right - ack_base) & 0xFFFFFFFF}")
        if self.fast_open is not None:
            words.append(f"fast_open {self.fast_open.hex() or 'request'}")
        return words


class Datagram(NamedTuple):
    """Where in a frame the TCP header begins, and what the IP header says."""

    src: str
    dst: str
    ttl: int
    tcp: int
    end: int


def parse(frame: bytes, *, ethernet: bool = True, time: float, direction: str, interface: str) -> Segment | None:
    """The TCP segment in a frame; None if there is none, a later fragment, or too little was captured."""
    try:
        datagram = _ip(frame, ethernet)
        if datagram is None:
            return None
        start = datagram.tcp
        sport, dport, seq, ack, bits, window, _checksum, _urgent = TCP_HEADER.unpack_from(frame, start)
    except (struct.error, IndexError):
        return None
    data = start + (bits >> 12) * 4
    return Segment(
        time,
        direction,
        interface,
        datagram.src,
        sport,
        datagram.dst,
        dport,
        "".join(letter for position, letter in enumerate(FLAGS) if bits & 1 << position),
        seq,
        ack,
        window,
        max(0, datagram.end - data),
        frame[data : datagram.end],
        datagram.ttl,
        *parse_options(frame[start + TCP_SIZE : data]),
    )


def _ip(frame: bytes, ethernet: bool) -> Datagram | None:
    start = 0
    if ethernet:
        start, (kind,) = ETHERNET_SIZE, struct.unpack_from("!H", frame, ETHERNET_SIZE - 2)
        if kind == ETHERTYPE_VLAN:
            start, (kind,) = start + VLAN_SIZE, struct.unpack_from("!H", frame, start + VLAN_SIZE - 2)
    else:
        kind = ETHERTYPE_IPV4 if frame[0] >> 4 == 4 else ETHERTYPE_IPV6
    if kind == ETHERTYPE_IPV4:
        return _ipv4(frame, start)
    return _ipv6(frame, start) if kind == ETHERTYPE_IPV6 else None


def _ipv4(frame: bytes, start: int) -> Datagram | None:
    length, fragment, ttl, protocol, source, destination = struct.unpack_from("!2xH2xHBB2x4s4s", frame, start)
    if protocol != socket.IPPROTO_TCP or fragment & 0x1FFF:
        return None
    header = (frame[start] & 0xF) * 4
    return Datagram(socket.inet_ntoa(source), socket.inet_ntoa(destination), ttl, start + header, start + length)


def _ipv6(frame: bytes, start: int) -> Datagram | None:
    length, following, hops, source, destination = struct.unpack_from("!4xHBB16s16s", frame, start)
    position = start + IPV6_SIZE
    while following in IPV6_OPTIONS or following == IPV6_FRAGMENT:
        if following == IPV6_FRAGMENT and struct.unpack_from("!H", frame, position + 2)[0] >> 3:
            return None
        size = 8 if following == IPV6_FRAGMENT else (frame[position + 1] + 1) * 8
        following, position = frame[position], position + size
    if following != socket.IPPROTO_TCP:
        return None
    v6 = socket.AF_INET6
    end = start + IPV6_SIZE + length
    return Datagram(socket.inet_ntop(v6, source), socket.inet_ntop(v6, destination), hops, position, end)


def parse_options(block: bytes) -> Options:
    """The options of a TCP header; what is malformed ends the list, as in net/ipv4/tcp_input.c."""
    found: dict[int, bytes] = {}
    position = 0
    while position < len(block) and block[position] != END:
        if block[position] == NOP:
            position += 1
            continue
        size = block[position + 1] if position + 1 < len(block) else 0
        if size < 2 or position + size > len(block):
            break
        found[block[position]] = block[position + 2 : position + size]
        position += size
    return _decode(found)


def _decode(found: dict[int, bytes]) -> Options:
    def number(kind: int, size: int) -> int | None:
        value = found.get(kind, b"")
        return int.from_bytes(value, "big") if len(value) == size else None

    stamps = found.get(TIMESTAMPS, b"")
    tsval, tsecr = struct.unpack("!II", stamps) if len(stamps) == 8 else (None, None)
    edges = found.get(SACK, b"")
    blocks = tuple(struct.iter_unpack("!II", edges)) if len(edges) % 8 == 0 else ()
    permitted = SACK_PERMITTED in found
    return Options(number(MSS, 2), number(WINDOW_SCALE, 1), permitted, tsval, tsecr, blocks, found.get(FAST_OPEN))


def exchange(segments: Iterable[Segment]) -> list[str]:
    """A packet exchange as lines: times from the first segment, sequence numbers from each side's first.

    `0.000123 10.1.0.1:40000 > 10.1.0.2:80 S seq 0 win 64240 mss 1460 ...`. A new SYN on a four-tuple begins
    anew. An acknowledgement of a side that was not seen counts as its first.
    """
    ordered: Sequence[Segment] = sorted(segments, key=lambda segment: segment.time)
    return [
        segment.line(since=ordered[0].time, seq_base=seq_base, ack_base=ack_base)
        for segment, (seq_base, ack_base) in zip(ordered, bases(ordered), strict=True)
    ]


def bases(ordered: Iterable[Segment]) -> Iterator[tuple[int, int]]:
    """What the sequence and acknowledgement numbers of segments count from, for segments in the order of time."""
    first: dict[tuple[str, int, str, int], int] = {}
    for segment in ordered:
        here, there = segment.four_tuple, (segment.dst, segment.dport, segment.src, segment.sport)
        if "S" in segment.flags:
            first[here] = segment.seq
        nowhere = "R" in segment.flags and not segment.seq  # the reset that answers a SYN counts from nothing
        if not nowhere:
            first.setdefault(here, segment.seq)
        if "A" in segment.flags:
            first.setdefault(there, (segment.ack - 1) & 0xFFFFFFFF)
        yield 0 if nowhere else first[here], first.get(there, 0)


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
