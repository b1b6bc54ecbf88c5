"""Sockets that leave the choice of their local port to the kernel: to connect(), to bind(), with options for it."""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.evidence import port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from harness.evidence.kinds import Port
    from harness.lab import Host
    from harness.traffic import Listener

# include/uapi/linux/in.h. Python has no names for them; an IPv6 socket takes both on this level, too.
IP_BIND_ADDRESS_NO_PORT, IP_LOCAL_PORT_RANGE = 24, 51
Option = tuple[int, bytes]

# bind() to port 0 chooses none; connect() does.
WITHOUT_PORT: Option = (IP_BIND_ADDRESS_NO_PORT, struct.pack("=I", 1))
DEADLINE = 20.0


def own_range(first: int, last: int) -> Option:
    """The option that gives a socket a range of local ports of its own, both ends included."""
    return IP_LOCAL_PORT_RANGE, struct.pack("=I", last << 16 | first)


def refused(host: Host, option: Option) -> str:
    """What the kernel says to an option that it does not know, by the errno's name; nothing if it takes it."""
    with host.socket() as asking:
        return _error_of(lambda: _set(asking, [option]))


@dataclass
class Taken:
    """What became of sockets that wanted a port each: those that have one, and the errors of the others.

    An error has its call's name before it: "bind: EADDRINUSE". `between` are the ports that the sockets had when bind()
    had returned and connect() had not been called.
    """

    sockets: list[socket.socket] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    between: list[Port] = field(default_factory=list)

    @property
    def ports(self) -> list[Port]:
        """Their local ports, in the order in which they were taken."""
        return port([_port_of(taken) for taken in self.sockets])

    def evens(self, first: int) -> int:
        """How many of the first so many ports are even."""
        return sum(number % 2 == 0 for number in self.ports[:first])

    def close(self) -> None:
        """Close all of them."""
        for taken in self.sockets:
            taken.close()


def take_ports(
    host: Host, n: int, *, to: Listener | None = None, bind: bool = False, options: Iterable[Option] = ()
) -> Taken:
    """n sockets of a host, one after the other: if `bind`, bound to its address and port 0; then connected `to`.

    Without `to` they are not connected. The listener needs a backlog for them. They are closed with the lab.
    """
    taken, options = Taken(), list(options)
    host.lab.on_close(taken.close)
    for _ in range(n):
        asking = host.socket()
        asking.settimeout(DEADLINE)
        _set(asking, options)
        error = bind and _error_of(lambda: asking.bind((host.ip, 0)), "bind: ")  # noqa: B023 - called here
        if bind and not error:
            taken.between.append(port(_port_of(asking)))
        if to is not None and not error:
            error = _error_of(lambda: asking.connect(to.address), "connect: ")  # noqa: B023 - called here
        if error:
            taken.errors.append(error)
            asking.close()
        else:
            taken.sockets.append(asking)
    return taken


def _set(asking: socket.socket, options: Iterable[Option]) -> None:
    for option, value in options:
        asking.setsockopt(socket.IPPROTO_IP, option, value)


def _port_of(bound: socket.socket) -> int:
    number: int = bound.getsockname()[1]
    return number


def _error_of(call: Callable[[], object], before: str = "") -> str:
    """The name of the errno that a call ends with; nothing if it succeeds."""
    try:
        call()
    except OSError as error:
        return before + errno.errorcode[error.errno or 0]
    return ""
