"""The ports that a host's connect() calls draw from, and whether one of them can be had alone."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from harness.errors import BadInput

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.observe.sockets import Endpoint

PORT_RANGE = "net.ipv4.ip_local_port_range"
FIRST_PORT = 40000
LAST_OF_ALL = 65535


def give_ports(host: Host, number: int = 1, *, first: int = FIRST_PORT) -> range:
    """Leave a host so many ports, from `first` on, for its connect() calls; BadInput if there are not so many.

    connect() tries the ports of one parity first, and of an odd number above one it leaves out the last; it passes over
    ports that a socket was bound to. net/ipv4/inet_hashtables.c, __inet_hash_connect().
    """
    last = first + number - 1
    if number < 1 or first < 1 or last > LAST_OF_ALL:
        raise BadInput(f"host {host.name} cannot have {number} ports from {first} on: ports are 1 to {LAST_OF_ALL}")
    host.sysctl[PORT_RANGE] = f"{first} {last}"
    return range(first, last + 1)


def ports_of(host: Host) -> range:
    """The ports that a host's connect() calls draw from."""
    first, last = (int(word) for word in host.sysctl[PORT_RANGE].split())
    return range(first, last + 1)


def bind_alone(host: Host, address: Endpoint) -> str:
    """What bind() says to somebody who wants an address and port for himself, without SO_REUSEADDR: "bound", an error.

    The socket is closed again.
    """
    with host.socket() as binding:
        try:
            binding.bind(address)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
    return "bound"
