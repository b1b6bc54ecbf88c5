"""Peers whose timestamp clocks differ: raw ones with any clock, and real clients of the kernel."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from harness.traffic.raw import SYN_OPTIONS
from harness.traffic.repair import set_timestamp
from harness.traffic.timestamps import stamp, stamps_of
from harness.waiting import PATIENCE, until

if TYPE_CHECKING:
    import socket

    from harness.lab import Host
    from harness.traffic.listener import Listener
    from harness.traffic.raw import RawConnection


def ask(connection: RawConnection, clock: int | None) -> None:
    """Send the SYN of a raw peer whose clock reads `clock`; without one it uses no timestamps."""
    connection.send("S", options=[*SYN_OPTIONS, *stamp(clock)])


def shake_hands(connection: RawConnection, clock: int | None, *, deadline: float = PATIENCE) -> int:
    """A raw peer's handshake; returns the host's own timestamp, for the raw peer to echo.

    That is 0 where the host does not use timestamps, and the raw peer sends none any more.
    """
    ask(connection, clock)
    return finish(connection, clock, deadline=deadline)


def finish(connection: RawConnection, clock: int | None, *, deadline: float = PATIENCE) -> int:
    """Take the answer to ask() and acknowledge it; returns what shake_hands() returns."""
    theirs, _ = stamps_of(connection.expect_syn_ack(deadline=deadline)) or (0, 0)
    connection.send("A", options=stamp(clock, theirs) if theirs else None)
    return theirs


def come_and_go(connection: RawConnection, listener: Listener, clock: int | None) -> None:
    """A whole connection of a raw peer whose clock reads `clock`; the host closes first and keeps the TIME-WAIT.

    `seq` is then the number behind the peer's FIN, `ack` that behind the host's.
    """
    theirs = shake_hands(connection, clock)
    listener.accept()[0].close()
    connection.ack = (connection.wait("FA").seq + 1) % 2**32
    connection.send("FA", options=stamp(clock, theirs) if theirs else None)
    connection.wait("A")


def connect_at(client: Host, to: Listener, clock: int, *, deadline: float = PATIENCE) -> socket.socket:
    """A connected real socket of a client; its clock reads `clock` when it begins.

    That is so on kernels below 4.10, which have one clock for all connections and leave a socket the clock that it was
    given. Later ones choose a random clock for each host pair or connection (tcp_v4_connect(), tcp_v6_connect()) while
    net.ipv4.tcp_timestamps is 1: clients behind one address have clocks of their own there without being told.
    Raises OSError when the connection fails, NotReady when the SYN is not answered by the deadline (in seconds).
    """
    connecting = client.socket()
    client.lab.on_close(connecting.close)
    set_timestamp(connecting, clock)
    connecting.setblocking(False)

    def connected() -> bool:
        error = connecting.connect_ex(to.address)
        if error not in (0, errno.EINPROGRESS, errno.EALREADY, errno.EISCONN):
            raise OSError(error, f"{client.name} to {to.address}")
        return error in (0, errno.EISCONN)

    until(connected, deadline=deadline, what=f"{client.name} to connect")
    return connecting
