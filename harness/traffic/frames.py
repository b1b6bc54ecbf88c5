"""Frames made by scapy once and varied cheaply: a flood needs thousands that differ in address and port."""

from __future__ import annotations

import random
import socket
import struct
from typing import TYPE_CHECKING, Any

from harness.lab.host import IPV4
from harness.traffic.layers import layers

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """The bytes of one Ethernet frame with a TCP segment, made by scapy; pairs are (source, destination)."""
    known = layers()
    network = (known.ip if family == IPV4 else known.ipv6)(src=addresses[0], dst=addresses[1])
    transport = known.tcp(
        sport=ports[0],
        dport=ports[1],
        flags=flags,
        seq=seq % 2**32,
        ack=ack % 2**32,
        window=window,
        options=options or [],
    )
    return bytes(known.ether(src=macs[0], dst=macs[1]) / network / transport / payload)


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


def spoofed(frame: bytes, family: int, count: int, seed: int = 1) -> Iterator[bytes]:
    """`count` copies of a SYN frame, each from another spoofed address, port and sequence number.

    Checksums are carried along (RFC 1624, equation 3) rather than computed anew. The same seed gives the same frames.
    """
    rng = random.Random(seed)
    if family == IPV4:
        ip_checksum_at, source_at, source_size, tcp_at = 24, 26, 4, 34
        prefix = bytes([198])
    else:
        ip_checksum_at, source_at, source_size, tcp_at = None, 22, 16, 54
        prefix = socket.inet_pton(socket.AF_INET6, "2001:2::")[:6]
    base = bytearray(frame)
    old_source = bytes(base[source_at : source_at + source_size])
    old_transport = bytes(base[tcp_at : tcp_at + 8])
    (tcp_sum,) = struct.unpack_from("!H", base, tcp_at + 16)
    ip_sum = struct.unpack_from("!H", base, ip_checksum_at)[0] if ip_checksum_at else 0
    seen: set[bytes] = set()
    while len(seen) < count:
        if family == IPV4:
            source = prefix + bytes([18 + rng.getrandbits(1)]) + rng.randbytes(2)
        else:
            source = prefix + rng.randbytes(10)
        transport = struct.pack("!H", rng.randrange(1024, 65536)) + old_transport[2:4] + rng.randbytes(4)
        if source + transport[:2] in seen:
            continue
        seen.add(source + transport[:2])
        made = bytearray(base)
        made[source_at : source_at + source_size] = source
        made[tcp_at : tcp_at + 8] = transport
        struct.pack_into(
            "!H", made, tcp_at + 16, carry_checksum(tcp_sum, old_source + old_transport, source + transport)
        )
        if ip_checksum_at:
            struct.pack_into("!H", made, ip_checksum_at, carry_checksum(ip_sum, old_source, source))
        yield bytes(made)


def carry_checksum(checksum: int, old: bytes, new: bytes) -> int:
    """The checksum of a segment in which `old` has become `new`, both of whole 16-bit words of it.

    HC' = ~(~HC + ~m + m'), RFC 1624.
    """
    words = struct.Struct(f"!{len(old) // 2}H")
    total: int = (~checksum & 0xFFFF) + sum(~word & 0xFFFF for word in words.unpack(old)) + sum(words.unpack(new))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
