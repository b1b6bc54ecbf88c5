"""Frames made by scapy once and varied cheaply: a flood needs thousands that differ in address and port."""

from __future__ import annotations

import itertools
import random
import socket
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.lab.host import IPV4
from harness.traffic.layers import layers

if TYPE_CHECKING:
    from collections.abc import Iterator

TWO_BYTES = struct.Struct("!H")
# The beginning of a TCP header: ports, sequence number, acknowledgement.
SEGMENT = struct.Struct("!HHII")
# For floods: the benchmarking networks of RFC 2544 and RFC 5180, which nobody has.
SPOOFED = {socket.AF_INET: "198.18.0.0/15", socket.AF_INET6: "2001:2::/48"}


def segment(
    *,
    family: int,
    macs: tuple[str, str],
    addresses: tuple[str, str],
    ports: tuple[int, int],
    flags: str,
    seq: int = 0,
    ack: int = 0,
    window: int = 65535,
    options: list[tuple[str, Any]] | None = None,
    payload: bytes = b"",
) -> bytes:
    """The bytes of one Ethernet frame with a TCP segment; pairs are (source, destination).

    scapy makes each kind once, and its ports and numbers are put in, with the checksum carried along (RFC 1624).
    """
    kind = Kind(family, macs, addresses, flags, window, tuple(options or ()), payload)
    try:
        template = _template(kind)
    except TypeError:  # an option that cannot be a key
        template = _template.__wrapped__(kind)
    at = 34 if family == IPV4 else 54
    moved = SEGMENT.pack(*ports, seq % 2**32, ack % 2**32)
    made = bytearray(template)
    made[at : at + SEGMENT.size] = moved
    (checksum,) = TWO_BYTES.unpack_from(template, at + 16)
    TWO_BYTES.pack_into(made, at + 16, carry_checksum(checksum, bytes(SEGMENT.size), moved))
    return bytes(made)


class Kind(NamedTuple):
    """All of a segment but its ports and numbers."""

    family: int
    macs: tuple[str, str]
    addresses: tuple[str, str]
    flags: str
    window: int
    options: tuple[tuple[str, Any], ...]
    payload: bytes


@lru_cache(maxsize=1024)
def _template(kind: Kind) -> bytes:
    """A frame whose ports and numbers are 0."""
    known = layers()
    network = (known.ip if kind.family == IPV4 else known.ipv6)(src=kind.addresses[0], dst=kind.addresses[1])
    options = list(kind.options)
    transport = known.tcp(sport=0, dport=0, flags=kind.flags, seq=0, ack=0, window=kind.window, options=options)
    return bytes(known.ether(src=kind.macs[0], dst=kind.macs[1]) / network / transport / kind.payload)


def segment_in(frame: bytes) -> bytes | None:
    """The TCP segment in an Ethernet frame, without parsing it; None if there is none, or only a later fragment.

    Labs have neither VLANs nor extension headers, and 20 bytes of TCP always arrive together.
    """
    kind = frame[12:14]
    if kind == b"\x08\x00" and frame[23] == socket.IPPROTO_TCP and not int.from_bytes(frame[20:22], "big") & 0x1FFF:
        start = 14 + 4 * (frame[14] & 0xF)
    elif kind == b"\x86\xdd" and frame[20] == socket.IPPROTO_TCP:
        start = 54
    else:
        return None
    return frame[start:] if len(frame) >= start + 20 else None


def spoofed(frame: bytes, family: int, count: int) -> Iterator[bytes]:
    """`count` copies of a SYN frame, each from another spoofed address, port and sequence number.

    Checksums are carried along (RFC 1624, equation 3) rather than computed anew. They are the same for each flood.
    """
    if family == IPV4:
        ip_checksum_at, source_at, source_size, tcp_at = 24, 26, 4, 34
    else:
        ip_checksum_at, source_at, source_size, tcp_at = None, 22, 16, 54
    old_source = frame[source_at : source_at + source_size]
    old_transport = frame[tcp_at : tcp_at + 2] + frame[tcp_at + 4 : tcp_at + 8]
    # What is the same in all: the frame's parts, and what its sums are without those words that differ.
    before, between, port = frame[:source_at], frame[source_at + source_size : tcp_at], frame[tcp_at + 2 : tcp_at + 4]
    middle, after = frame[tcp_at + 8 : tcp_at + 16], frame[tcp_at + 18 :]
    tcp_sum = _without(frame[tcp_at + 16 : tcp_at + 18], old_source + old_transport)
    pack = TWO_BYTES.pack
    if ip_checksum_at is None:
        for spoof in senders(family, count):
            total = tcp_sum + spoof.address_sum + spoof.transport_sum
            checksum = pack(~_folded(total) & 0xFFFF)
            yield b"".join((before, spoof.address, between, spoof.port, port, spoof.number, middle, checksum, after))
        return
    ip_sum = _without(frame[ip_checksum_at : ip_checksum_at + 2], old_source)
    begin = frame[:ip_checksum_at]
    for spoof in senders(family, count):
        total = tcp_sum + spoof.address_sum + spoof.transport_sum
        checksum = pack(~_folded(total) & 0xFFFF)
        of_header = pack(~_folded(ip_sum + spoof.address_sum) & 0xFFFF)
        yield b"".join(
            (begin, of_header, spoof.address, between, spoof.port, port, spoof.number, middle, checksum, after)
        )


class Spoof(NamedTuple):
    """What differs in the frames of a flood: address, port and sequence number, and the sums of their words."""

    address: bytes
    port: bytes
    number: bytes
    address_sum: int
    transport_sum: int


_known: dict[int, list[Spoof]] = {}
_makers: dict[int, Iterator[Spoof]] = {}


def senders(family: int, count: int) -> list[Spoof]:
    """The first `count` of those that floods are from, different ones; drawn once, always the same."""
    known = _known.setdefault(family, [])
    maker = _makers.get(family) or _makers.setdefault(family, _drawn(family))
    known.extend(itertools.islice(maker, max(0, count - len(known))))
    return known[:count]


def _drawn(family: int) -> Iterator[Spoof]:
    rng = random.Random(1)
    prefix = bytes([198]) if family == IPV4 else socket.inet_pton(socket.AF_INET6, "2001:2::")[:6]
    seen: set[bytes] = set()
    while True:
        if family == IPV4:
            address = prefix + bytes([18 + rng.getrandbits(1)]) + rng.randbytes(2)
        else:
            address = prefix + rng.randbytes(10)
        port, number = TWO_BYTES.pack(rng.randrange(1024, 65536)), rng.randbytes(4)
        if address + port not in seen:
            seen.add(address + port)
            yield Spoof(address, port, number, _sum(address), _sum(port + number))


def _sum(words: bytes) -> int:
    """The sum of 16-bit words."""
    total: int = sum(struct.unpack(f"!{len(words) // 2}H", words))
    return total


def _without(checksum: bytes, words: bytes) -> int:
    """What is summed up in a checksum, less these words of it: ~HC + ~m of RFC 1624."""
    return _sum(bytes(byte ^ 0xFF for byte in checksum + words))


def _folded(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def carry_checksum(checksum: int, old: bytes, new: bytes) -> int:
    """The checksum of a segment in which `old` has become `new`, both of whole 16-bit words of it.

    HC' = ~(~HC + ~m + m'), RFC 1624.
    """
    words = struct.Struct(f"!{len(old) // 2}H")
    total: int = (~checksum & 0xFFFF) + sum(~word & 0xFFFF for word in words.unpack(old)) + sum(words.unpack(new))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
