"""Captures as pcapng, for wireshark and tcpdump: several hosts in one file, each interface by its name."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from harness import files
from harness.errors import BadInput
from harness.observe.packet import Packet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Named(Protocol):
    """A host, as far as its packets need it."""

    @property
    def name(self) -> str:
        """What it is called."""


class Captured(Protocol):
    """A capture, as far as its packets are written."""

    @property
    def host(self) -> Named:
        """Where it was made."""

    def packets(self) -> Iterable[Packet]:
        """What it has."""


# draft-ietf-opsawg-pcapng, sections 4.1 (section header), 4.2 (interface description), 4.3 (enhanced packet)
SECTION_HEADER, INTERFACE, ENHANCED_PACKET = 0x0A0D0D0A, 1, 6
BYTE_ORDER_MAGIC, UNKNOWN_LENGTH = 0x1A2B3C4D, 0xFFFFFFFFFFFFFFFF
END_OF_OPTIONS, USER_APPLICATION, IF_NAME, IF_TIMESTAMP_RESOLUTION, EPB_FLAGS = 0, 4, 2, 9, 2
# What a classic pcap begins with: its times are in microseconds, or in nanoseconds (draft-ietf-opsawg-pcap, section 4).
CLASSIC = (bytes.fromhex("a1b2c3d4"), bytes.fromhex("a1b23c4d"))
NANOSECONDS = b"\x09"
LINKTYPE_ETHERNET, LINKTYPE_RAW = 1, 101
INBOUND, OUTBOUND = 1, 2


def pcapng(captures: Iterable[Captured]) -> bytes:
    """The packets of these captures in the order of their times; an interface is called HOST:NAME."""
    interfaces: dict[tuple[str, bool], int] = {}
    tagged = sorted(
        ((capture.host.name, packet) for capture in captures for packet in capture.packets()),
        key=lambda each: each[1].time_ns,
    )
    descriptions, blocks = [], []
    for host, packet in tagged:
        key = f"{host}:{packet.interface}", packet.ethernet
        if key not in interfaces:
            interfaces[key] = len(interfaces)
            descriptions.append(_interface(*key))
        blocks.append(_packet(packet, interfaces[key]))
    return b"".join([_section(), *descriptions, *blocks])


def write_pcapng(path: Path | str, captures: Iterable[Captured]) -> None:
    """Write pcapng(captures) to a file: the whole of it or nothing."""
    files.write(Path(path), pcapng(captures))


def _section() -> bytes:
    body = struct.pack("=IHHQ", BYTE_ORDER_MAGIC, 1, 0, UNKNOWN_LENGTH)
    return _block(SECTION_HEADER, body + _option(END_OF_OPTIONS, b""))


def _interface(name: str, ethernet: bool) -> bytes:
    link = LINKTYPE_ETHERNET if ethernet else LINKTYPE_RAW
    options = _option(IF_NAME, name.encode()) + _option(IF_TIMESTAMP_RESOLUTION, NANOSECONDS)
    return _block(INTERFACE, struct.pack("=HHI", link, 0, 0) + options + _option(END_OF_OPTIONS, b""))


def _packet(packet: Packet, interface: int) -> bytes:
    high, low = divmod(packet.time_ns, 1 << 32)
    head = struct.pack("=IIIII", interface, high, low, len(packet.frame), packet.length)
    flags = struct.pack("=I", OUTBOUND if packet.direction == "out" else INBOUND)
    return _block(
        ENHANCED_PACKET, head + _padded(packet.frame) + _option(EPB_FLAGS, flags) + _option(END_OF_OPTIONS, b"")
    )


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("=II", kind, length) + body + struct.pack("=I", length)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + _padded(value)


def _padded(value: bytes) -> bytes:
    return value + bytes(-len(value) % 4)


class Recording(NamedTuple):
    """What a pcapng file has: each packet with the host that saw it; whether the file was whole."""

    packets: list[tuple[str, Packet]]
    whole: bool


def read_pcapng(content: bytes) -> Recording:
    """The packets of a file that pcapng() made, as far as it goes: one that was cut off gives those before the cut.

    BadInput for a file of another kind: a classic pcap, times in other units than nanoseconds, no capture at all.
    """
    packets: list[tuple[str, Packet]] = []
    interfaces: list[tuple[str, bool]] = []
    _refuse_other_kinds(content)
    try:
        for kind, body in _blocks(content):
            if kind == INTERFACE:
                (link,) = struct.unpack_from("=H", body)
                options = dict(_options(body[8:]))
                if options.get(IF_TIMESTAMP_RESOLUTION) != NANOSECONDS:
                    raise BadInput("its times are not in nanoseconds, as those of the captures of the harness are")
                interfaces.append((options.get(IF_NAME, b"").decode(errors="replace"), link == LINKTYPE_ETHERNET))
            elif kind == ENHANCED_PACKET:
                packets.append(_read_packet(body, interfaces))
    except (struct.error, IndexError, ValueError):
        return Recording(packets, False)
    return Recording(packets, bool(content))


def _refuse_other_kinds(content: bytes) -> None:
    """An empty file is one that was cut off, and so is one whose first bytes are ours."""
    magic = content[:4]
    if magic in CLASSIC or magic[::-1] in CLASSIC:
        raise BadInput("it is a classic pcap, not a pcapng; `editcap -F pcapng -T ether IN OUT` makes one of it")
    ours = struct.pack("=I", SECTION_HEADER), struct.pack("=I", BYTE_ORDER_MAGIC)
    if magic != ours[0][: len(magic)] or content[8:12] != ours[1][: len(content[8:12])]:
        raise BadInput("it is no pcapng that a machine of this byte order has written")


def _blocks(content: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(content):
        kind, length = struct.unpack_from("=II", content, position)
        if length < 12 or position + length > len(content):
            raise ValueError(f"a block of {length} bytes at {position}")
        yield kind, content[position + 8 : position + length - 4]
        position += length


def _options(block: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + 4 <= len(block):
        code, length = struct.unpack_from("=HH", block, position)
        if code == END_OF_OPTIONS:
            return
        yield code, block[position + 4 : position + 4 + length]
        position += 4 + length + -length % 4


def _read_packet(body: bytes, interfaces: list[tuple[str, bool]]) -> tuple[str, Packet]:
    interface, high, low, captured, length = struct.unpack_from("=IIIII", body)
    frame = body[20 : 20 + captured]
    flags = dict(_options(body[20 + captured + -captured % 4 :])).get(EPB_FLAGS, b"\0\0\0\0")
    direction = "out" if struct.unpack("=I", flags)[0] & 3 == OUTBOUND else "in"
    label, ethernet = interfaces[interface]
    host, _, name = label.rpartition(":")
    return host, Packet(high << 32 | low, direction, name, length, frame, ethernet)
