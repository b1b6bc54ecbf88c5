"""The wire format of inet_diag: asking the kernel for its TCP sockets, and taking its answers apart."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import HarnessError, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lab.host import Host

# include/uapi/linux/netlink.h, sock_diag.h and inet_diag.h
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 0x01
NLM_F_DUMP = 0x300
NLM_F_DUMP_INTR = 0x10
NLMSG_ERROR = 2
NLMSG_DONE = 3

INET_DIAG_INFO = 2
INET_DIAG_CONG = 4
INET_DIAG_SKMEMINFO = 7

NETLINK_HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
ERRNO = struct.Struct("=i")

# struct inet_diag_req_v2: family, protocol, extensions, pad, states, and a socket id of zeroes.
REQUEST = struct.Struct("=BBBxI48x")

# struct inet_diag_msg. The ports are in network order, two bytes each; the cookie is one 64-bit number.
MESSAGE = struct.Struct("=BBBB2s2s16s16sI8sIIIII")

# The kernel fills at most 32 KiB for each recv (af_netlink.c, netlink_dump); older ones two pages.
RECEIVE_SIZE = 1 << 18
ATTEMPTS = 10


class Message(NamedTuple):
    """One socket as the kernel reports it (struct inet_diag_msg), ports and addresses in network order."""

    family: int
    state: int
    timer: int
    retransmits: int
    sport: bytes
    dport: bytes
    source: bytes
    destination: bytes
    interface: int
    cookie: bytes
    expires: int
    receive_queue: int
    send_queue: int
    uid: int
    inode: int


def extension(*attributes: int) -> int:
    """The request's bits that ask for optional attributes (INET_DIAG_INFO, ...)."""
    return sum(1 << (attribute - 1) for attribute in attributes)


def dump(host: Host, family: int, states: int, extensions: int) -> list[tuple[Message, bytes]]:
    """The TCP sockets of a host, each with its attributes undecoded (see `attributes`).

    `family` is AF_INET or AF_INET6, `states` a bit for each TCP state number. A dump that the kernel marks
    as interrupted by a change is taken again. Raises Unsupported where the kernel has no inet_diag.
    """
    request = REQUEST.pack(family, socket.IPPROTO_TCP, extensions, states)
    for _ in range(ATTEMPTS):
        found, consistent = _dump_once(host, request)
        if consistent:
            return found
    raise HarnessError(f"{host.name}: the socket table changed during each of {ATTEMPTS} dumps of it")


def _dump_once(host: Host, request: bytes) -> tuple[list[tuple[Message, bytes]], bool]:
    found: list[tuple[Message, bytes]] = []
    consistent = True
    for kind, flags, start, buffer in _exchange(host, request):
        consistent = consistent and not flags & NLM_F_DUMP_INTR
        if kind == SOCK_DIAG_BY_FAMILY:
            message = Message._make(MESSAGE.unpack_from(buffer, start))
            found.append((message, buffer[start + MESSAGE.size :]))
    return found, consistent


def _exchange(host: Host, body: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Send one dump request; give type, flags and payload of each answer, up to the last."""
    header = NETLINK_HEADER.pack(NETLINK_HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)
    with _netlink(host) as netlink:
        netlink.send(header + body)
        while True:
            answer = netlink.recv(RECEIVE_SIZE)
            position = 0
            while position < len(answer):
                length, kind, flags, _, _ = NETLINK_HEADER.unpack_from(answer, position)
                end = position + length
                payload = answer[position + NETLINK_HEADER.size : end]
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    _raise_error(payload)
                    yield kind, flags, 0, payload
                    return
                yield kind, flags, 0, payload
                position = end + 3 & ~3


def _netlink(host: Host) -> socket.socket:
    with host:
        try:
            return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
        except OSError as error:
            raise _unsupported(error.errno or 0) from None


def _raise_error(payload: bytes) -> None:
    """The status that ends a dump: 0, or a negative errno."""
    status = ERRNO.unpack_from(payload)[0] if len(payload) >= ERRNO.size else 0
    if -status in (errno.ENOENT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
        raise _unsupported(-status)
    if status:
        raise HarnessError(f"inet_diag: the kernel refused to dump its sockets: {os.strerror(-status)}")


def _unsupported(number: int) -> Unsupported:
    return Unsupported(
        f"inet_diag: this kernel cannot list TCP sockets ({os.strerror(number)}): "
        "it needs CONFIG_INET_TCP_DIAG, as a module tcp_diag"
    )


def attributes(block: bytes) -> dict[int, bytes]:
    """The attributes that follow a message, by number (INET_DIAG_INFO, ...)."""
    found: dict[int, bytes] = {}
    position = 0
    while position + ATTRIBUTE.size <= len(block):
        length, kind = ATTRIBUTE.unpack_from(block, position)
        if length < ATTRIBUTE.size:
            break
        found[kind] = block[position + ATTRIBUTE.size : position + length]
        position += length + 3 & ~3
    return found
