"""Links, addresses, neighbours and routes of a namespace, spoken to rtnetlink (include/uapi/linux/rtnetlink.h).

Only what labs are made of. Every test makes a lab, and pyroute2 took half of what that costs: each message went through
an event loop of its own. Here several messages go in one send(), and the kernel has answered each when it returns.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import HarnessError
from harness.lab import netlink

if TYPE_CHECKING:
    from types import TracebackType

NETLINK_ROUTE = 0
NEW_LINK, DELETE_LINK, NEW_ADDRESS, NEW_ROUTE, GET_ROUTE, NEW_NEIGHBOUR = 16, 17, 20, 24, 26, 28
ASK = netlink.NLM_F_REQUEST | netlink.NLM_F_ACK
NLM_F_REPLACE, NLM_F_EXCL = 0x100, 0x200
ADD, REPLACE = ASK | netlink.NLM_F_CREATE | NLM_F_EXCL, ASK | netlink.NLM_F_CREATE | NLM_F_REPLACE

# struct ifinfomsg, ifaddrmsg, ndmsg, rtmsg
LINK = struct.Struct("=BxHiII")
ADDRESS = struct.Struct("=BBBBI")
NEIGHBOUR = struct.Struct("=BxxxiHBB")
ROUTE = struct.Struct("=BBBBBBBBI")
IFF_UP = 1
# enum of if_link.h, and of what veth and bridge take there.
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
INFO_KIND, INFO_DATA = 1, 2
VETH_INFO_PEER = 1
IFLA_BR_MCAST_SNOOPING = 23
IFA_ADDRESS, IFA_LOCAL = 1, 2
NDA_DST, NDA_LLADDR = 1, 2
NUD_PERMANENT = 0x80
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_METRICS = 1, 4, 5, 8
RTAX_FEATURES = 12
TABLE_MAIN, BY_AN_ADMINISTRATOR, UNICAST, LOCAL = 254, 4, 1, 2

RECEIVE_SIZE = 1 << 16


class Peer(NamedTuple):
    """The far end of a veth: its name, the namespace that it goes to, and its MAC address if it is not to be drawn."""

    name: str
    namespace: int
    mac: str | None = None


class Setup:
    """A conversation with rtnetlink of the namespace that the calling thread is in; it goes on from anywhere."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)

    def __enter__(self) -> Setup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the socket; once is enough."""
        self._socket.close()

    def tell(self, *messages: bytes) -> None:
        """Have these done, in order; HarnessError with the kernel's word for the first that it refuses.

        What comes after that has been tried all the same.
        """
        self._socket.send(b"".join(messages))
        refused, answers = 0, 0
        while answers < len(messages):
            for kind, _, body in netlink.messages(self._socket.recv(RECEIVE_SIZE)):
                if kind == netlink.NLMSG_ERROR:
                    answers += 1
                    refused = refused or -netlink.ERRNO.unpack_from(body)[0]
        if refused:
            raise HarnessError(f"rtnetlink: {errno.errorcode.get(refused, refused)}: {os.strerror(refused)}")

    def has(self, ip: str) -> bool:
        """Whether the namespace takes what is sent to an address for its own: its route there is a local one.

        It takes an IPv6 address for its own a little later than it has it (net/ipv6/addrconf.c, addrconf_dad_work()).
        """
        family, packed = _packed(ip)
        asked = ROUTE.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0) + netlink.attribute(RTA_DST, packed)
        self._socket.send(netlink.message(GET_ROUTE, netlink.NLM_F_REQUEST, 1, asked))
        kind, _, body = next(netlink.messages(self._socket.recv(RECEIVE_SIZE)))
        return kind == NEW_ROUTE and ROUTE.unpack_from(body)[7] == LOCAL


def veth(name: str, mac: str, peer: Peer) -> bytes:
    """`ip link add NAME address MAC type veth peer …`."""
    there = LINK.pack(0, 0, 0, 0, 0) + netlink.text(IFLA_IFNAME, peer.name) + _number(IFLA_NET_NS_FD, peer.namespace)
    there += b"" if peer.mac is None else netlink.attribute(IFLA_ADDRESS, _mac(peer.mac))
    data = netlink.nested(INFO_DATA, netlink.nested(VETH_INFO_PEER, there))
    info = netlink.nested(IFLA_LINKINFO, netlink.text(INFO_KIND, "veth"), data)
    body = LINK.pack(0, 0, 0, 0, 0) + netlink.text(IFLA_IFNAME, name) + netlink.attribute(IFLA_ADDRESS, _mac(mac))
    return netlink.message(NEW_LINK, ADD, 1, body + info)


def bridge(name: str, mtu: int) -> bytes:
    """`ip link add NAME mtu … type bridge mcast_snooping 0`."""
    data = netlink.nested(INFO_DATA, netlink.attribute(IFLA_BR_MCAST_SNOOPING, b"\0"))
    info = netlink.nested(IFLA_LINKINFO, netlink.text(INFO_KIND, "bridge"), data)
    body = LINK.pack(0, 0, 0, 0, 0) + netlink.text(IFLA_IFNAME, name) + _number(IFLA_MTU, mtu)
    return netlink.message(NEW_LINK, ADD, 1, body + info)


def up(index: int, *, mtu: int | None = None, master: int | None = None) -> bytes:
    """`ip link set … up`, with an MTU in bytes and a bridge by its index."""
    body = LINK.pack(0, 0, index, IFF_UP, IFF_UP)
    body += b"" if mtu is None else _number(IFLA_MTU, mtu)
    body += b"" if master is None else _number(IFLA_MASTER, master)
    return netlink.message(NEW_LINK, ASK, 1, body)


def removed(index: int) -> bytes:
    """`ip link del`."""
    return netlink.message(DELETE_LINK, ASK, 1, LINK.pack(0, 0, index, 0, 0))


def address(index: int, ip: str, prefix: int, *, flags: int = 0) -> bytes:
    """`ip address add IP/PREFIX dev …`; `flags` are IFA_F_…, of the first eight."""
    family, packed = _packed(ip)
    body = ADDRESS.pack(family, prefix, flags, 0, index)
    body += netlink.attribute(IFA_LOCAL, packed) + netlink.attribute(IFA_ADDRESS, packed)
    return netlink.message(NEW_ADDRESS, ADD, 1, body)


def neighbour(index: int, ip: str, mac: str) -> bytes:
    """`ip neighbour replace IP lladdr MAC nud permanent dev …`."""
    family, packed = _packed(ip)
    body = NEIGHBOUR.pack(family, index, NUD_PERMANENT, 0, 0)
    body += netlink.attribute(NDA_DST, packed) + netlink.attribute(NDA_LLADDR, _mac(mac))
    return netlink.message(NEW_NEIGHBOUR, REPLACE, 1, body)


def route(
    to: str, family: int, *, via: str | None = None, interface: int | None = None, features: int | None = None
) -> bytes:
    """`ip route replace TO via … dev … features …`; `to` is a prefix, an address or "default"."""
    network = None if to == "default" else ipaddress.ip_network(to, strict=False)
    length = 0 if network is None else network.prefixlen
    body = ROUTE.pack(family, length, 0, 0, TABLE_MAIN, BY_AN_ADMINISTRATOR, 0, UNICAST, 0)
    body += b"" if network is None else netlink.attribute(RTA_DST, network.network_address.packed)
    body += b"" if via is None else netlink.attribute(RTA_GATEWAY, _packed(via)[1])
    body += b"" if interface is None else _number(RTA_OIF, interface)
    body += b"" if features is None else netlink.nested(RTA_METRICS, _number(RTAX_FEATURES, features))
    return netlink.message(NEW_ROUTE, REPLACE, 1, body)


def _number(kind: int, value: int) -> bytes:
    return netlink.attribute(kind, struct.pack("=I", value))


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _packed(ip: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    return family, socket.inet_pton(family, ip)
