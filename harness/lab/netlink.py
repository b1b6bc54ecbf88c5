"""The wire format that all of netlink shares (RFC 3549, include/uapi/linux/netlink.h): messages, and their attributes.

For the two conversations that labs hold all the time, about packet filter rules and sockets; pyroute2 has the others. A
machine with simulated time pays for every instruction, and these two were a third of what short scenarios cost there.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
ERRNO = struct.Struct("=i")

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x01, 0x04, 0x300
NLM_F_CREATE, NLM_F_APPEND = 0x400, 0x800
NLM_F_DUMP_INTR = 0x10
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """A message: its length, type, flags and number, the sender's port left to the kernel, and its body."""
    return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and body of each message in what recv() returned, up to one that is shorter than its own header."""
    position = 0
    while position + HEADER.size <= len(data):
        length, kind, flags, _, _ = HEADER.unpack_from(data, position)
        if length < HEADER.size:
            return
        yield kind, flags, data[position + HEADER.size : position + length]
        position += length + 3 & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *inner: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(inner))


def text(kind: int, value: str) -> bytes:
    """An attribute that is a string."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int, size: int = 4) -> bytes:
    """An attribute that is a number in network order, of so many bytes; as nfnetlink has them."""
    return attribute(kind, (value & (1 << 8 * size) - 1).to_bytes(size, "big"))


def walk(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each attribute in their order; a list of attributes repeats one type."""
    position = 0
    while position + ATTRIBUTE.size <= len(block):
        length, kind = ATTRIBUTE.unpack_from(block, position)
        if length < ATTRIBUTE.size:
            return
        yield kind & NLA_TYPE_MASK, block[position + ATTRIBUTE.size : position + length]
        position += length + 3 & ~3


def attributes(block: bytes) -> dict[int, bytes]:
    """The attributes of a block by type."""
    return dict(walk(block))
