"""Whether the kernel has let go of a network namespace: it forgets the number that another gave it only then.

A namespace that was given an id (rtnetlink RTM_NEWNSID, since Linux 4.0) is not held by it; when the last descriptor,
process, socket and mount are gone and it has been taken down, the id disappears (net/core/net_namespace.c,
unhash_nsid()). The ids are those of the calling thread's own namespace. Shares no code with harness.lab.
"""

from __future__ import annotations

import socket
import struct

RTM_NEWNSID, RTM_GETNSID = 88, 90
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
NETNSA_NSID, NETNSA_FD = 1, 3
HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HHi")


def give(fd: int, number: int) -> None:
    """Give the namespace that a descriptor holds an id; OSError, and EEXIST if one of the two is taken already."""
    attributes = ATTRIBUTE.pack(8, NETNSA_NSID, number) + ATTRIBUTE.pack(8, NETNSA_FD, fd)
    answer = _ask(RTM_NEWNSID, NLM_F_ACK, attributes)
    (error,) = struct.unpack_from("=i", answer, HEADER.size)
    if error:
        raise OSError(-error, f"RTM_NEWNSID: {-error}")


def alive() -> set[int]:
    """The ids whose namespaces exist."""
    found: set[int] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.send(_message(RTM_GETNSID, NLM_F_DUMP, b""))
        while True:
            data = netlink.recv(65536)
            while data:
                length, kind, *_ = HEADER.unpack_from(data)
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    return found
                size, attribute, value = ATTRIBUTE.unpack_from(data, HEADER.size + 4)
                if (size, attribute) == (8, NETNSA_NSID):
                    found.add(value)
                data = data[(length + 3) & ~3 :]


def _ask(kind: int, flags: int, attributes: bytes) -> bytes:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.send(_message(kind, flags, attributes))
        return netlink.recv(65536)


def _message(kind: int, flags: int, attributes: bytes) -> bytes:
    # struct rtgenmsg is the address family, padded.
    body = bytes(4) + attributes
    return HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | flags, 1, 0) + body
