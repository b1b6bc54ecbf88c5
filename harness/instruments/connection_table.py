"""The table of connections that a firewall keeps, filled to its limit with connections that nobody has any more.

Entries are made as `conntrack -I` makes them, over netlink (include/uapi/linux/netfilter/nfnetlink_conntrack.h): each
is what a connection leaves whose ends have both gone without a word, and stays for days.
"""

from __future__ import annotations

import itertools
import socket
import struct
from typing import TYPE_CHECKING

from harness.errors import GlobalSysctl, Unsupported
from harness.lab import netlink
from harness.lab.tracking import MAX
from harness.observe.conntrack import statistics
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lab import Host

# An entry takes some 300 bytes of the kernel's memory, and making it a few microseconds.
MOST = 1_000_000
NETLINK_NETFILTER = 12
SUBSYSTEM = 1
NEW, DELETE = (SUBSYSTEM << 8 | message for message in (0, 2))
GENERAL = struct.Struct(">BBH")
# enum ctattr_type, ctattr_tuple, ctattr_ip, ctattr_l4proto, ctattr_protoinfo, ctattr_protoinfo_tcp
ORIGINAL, REPLY, STATUS, PROTOCOL_STATE, TIMEOUT = 1, 2, 3, 4, 7
ADDRESSES, PORTS = 1, 2
SOURCE_AND_DESTINATION = {socket.AF_INET: (1, 2), socket.AF_INET6: (3, 4)}
PROTOCOL, SOURCE_PORT, DESTINATION_PORT = 1, 2, 3
OF_TCP, STATE = 1, 1
ESTABLISHED = 3  # enum tcp_conntrack
KNOWN = 2 | 4 | 8  # IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED: not the first to go when there is no room
FIVE_DAYS = 432_000
# Stands for the port in a message until it is known; no other two bytes of it are these.
MARK = b"\xbe\xef"
PORTS_OF_A_HOST = range(1024, 65536)
MESSAGES = 500


class ConnectionTable:
    """The table of a host; its limit is that of host.conntrack, most often the machine's."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @property
    def limit(self) -> int:
        """How many connections it may have."""
        return self._host.conntrack.limit

    @property
    def count(self) -> int:
        """How many it has."""
        return self._host.conntrack.count

    @property
    def dropped(self) -> int:
        """How many packets found no room."""
        return statistics(self._host)["drop"]

    def lower(self, limit: int) -> None:
        """Give it a lower limit, where that is not somebody else's as well: filling it takes less time then."""
        try:
            self._host.conntrack.limit = limit
        except GlobalSysctl:
            return

    def fill(self, between: tuple[str, str]) -> int:
        """Fill it up with connections between two addresses, whose ends have gone; how many entries that were.

        Unsupported where the limit is above a million, or the kernel has no CONFIG_NF_CT_NETLINK.
        """
        if self.limit > MOST:
            raise Unsupported(f"{MAX} is {self.limit}: more than a lab fills")
        before = self.count
        with self._talk() as talking:
            entries = itertools.islice(self._entries(between), self.limit - before)
            for many in _batches(entries):
                talking.send(b"".join(many))
        until(lambda: self.count >= self.limit, what=f"{self.limit} connections in the table of {self._host.name}")
        return self.count - before

    def empty(self) -> None:
        """Forget all connections, as `conntrack -F` does."""
        with self._talk() as talking:
            flags = netlink.NLM_F_REQUEST | netlink.NLM_F_ACK
            talking.send(netlink.message(DELETE, flags, 1, GENERAL.pack(0, 0, 0)))
            talking.recv(65536)

    def _talk(self) -> socket.socket:
        with self._host:
            try:
                return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
            except OSError as error:
                raise Unsupported(f"this kernel has no packet filter to talk to ({error.strerror})") from None

    def _entries(self, between: tuple[str, str]) -> Iterator[bytes]:
        """Messages that make an entry each, of as many connections as there are."""
        family = self._host.family
        near, far = (socket.inet_pton(family, address) for address in between)
        for service in itertools.count(1):
            to = service.to_bytes(2, "big")
            body = GENERAL.pack(int(family), 0, 0) + netlink.nested(ORIGINAL, *_end_to_end(family, near, far, MARK, to))
            body += netlink.nested(REPLY, *_end_to_end(family, far, near, to, MARK))
            body += netlink.number(STATUS, KNOWN) + netlink.number(TIMEOUT, FIVE_DAYS)
            state = netlink.nested(OF_TCP, netlink.number(STATE, ESTABLISHED, 1))
            body += netlink.nested(PROTOCOL_STATE, state)
            flags = netlink.NLM_F_REQUEST | netlink.NLM_F_CREATE
            begin, middle, end = netlink.message(NEW, flags, 0, body).split(MARK)
            for number in PORTS_OF_A_HOST:
                port = number.to_bytes(2, "big")
                yield begin + port + middle + port + end


def _end_to_end(
    family: socket.AddressFamily, source: bytes, destination: bytes, source_port: bytes, destination_port: bytes
) -> tuple[bytes, bytes]:
    """The two attributes of a tuple: addresses, and TCP ports."""
    kinds = SOURCE_AND_DESTINATION[family]
    addresses = (netlink.attribute(kind, value) for kind, value in zip(kinds, (source, destination), strict=True))
    ports = (
        netlink.number(PROTOCOL, socket.IPPROTO_TCP, 1),
        netlink.attribute(SOURCE_PORT, source_port),
        netlink.attribute(DESTINATION_PORT, destination_port),
    )
    return netlink.nested(ADDRESSES, *addresses), netlink.nested(PORTS, *ports)


def _batches(messages: Iterator[bytes]) -> Iterator[list[bytes]]:
    """So many messages at a time as fit into a socket's buffer."""
    while many := list(itertools.islice(messages, MESSAGES)):
        yield many
