"""Real sockets put where a connection would be after hours: at any sequence number and with any timestamp clock.

This is TCP_REPAIR, which the kernel has since 3.5 for moving connections to another machine (net/ipv4/tcp.c,
do_tcp_setsockopt()). It needs CAP_NET_ADMIN over the socket's own network namespace; every host of a lab grants that.
What is placed with it is a real connection of the kernel; only that it has come to this point is a fiction.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import Forbidden, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lab import Host

# include/uapi/linux/tcp.h
TCP_REPAIR = 19
TCP_REPAIR_QUEUE = 20
TCP_QUEUE_SEQ = 21
TCP_REPAIR_OPTIONS = 22
TCP_TIMESTAMP = 24  # since 3.9
TCP_REPAIR_WINDOW = 29  # since 4.8
ON, OFF, OFF_SILENTLY = 1, 0, -1  # the last one since 4.19: before, leaving repair mode always sent a window probe
RECEIVE_QUEUE, SEND_QUEUE = 1, 2
MSS, WINDOW_SCALE, SACK, TIMESTAMP = 2, 3, 4, 8  # TCPOPT_*

Address = tuple[str, int]


@dataclass(frozen=True)
class Placed:
    """The state of an end to be: its next sequence numbers, and what the handshake would have agreed on.

    `timestamps` is what its timestamp clock reads when it is placed (even), or None for a connection without
    the option; the peer's last timestamp is unknown until the first segment with one. `window` is the bytes that
    each end may send, `scale` the window scale of both.
    """

    send_next: int
    receive_next: int
    timestamps: int | None = None
    mss: int = 1400
    scale: int = 7
    window: int = 60000


@contextlib.contextmanager
def repairing(connection: socket.socket) -> Iterator[None]:
    """The socket in repair mode, out of it silently at the end; where a kernel below 4.19 cannot, with a window probe.

    Raises Unsupported on a kernel without TCP_REPAIR, Forbidden without the right to it.
    """
    reuse = connection.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    _enter(connection)
    try:
        yield
    finally:
        _leave(connection)
        # Leaving sets SK_NO_REUSE.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)


def set_timestamp(connection: socket.socket, value: int) -> None:
    """Let the socket's timestamp clock read `value` (milliseconds, modulo 2^32) now, and go on from there.

    Values are made even: since 6.7 an odd one would ask for microseconds (614e8316aa4c). A connected or accepted socket
    keeps the clock. One that is yet to connect keeps it on kernels below 4.10 only: later ones choose an offset of
    their own in connect() (tcp_v4_connect(), tcp_v6_connect()).
    """
    with repairing(connection):
        _set(connection, TCP_TIMESTAMP, value & 0xFFFFFFFE)


def timestamp(connection: socket.socket) -> int:
    """What the socket's timestamp clock reads now; the lowest bit says microseconds since 6.7, if it has the option."""
    return _get(connection, TCP_TIMESTAMP)


def sequence_numbers(connection: socket.socket) -> tuple[int, int]:
    """The next number that the socket will send, behind all that was written to it, and the next it expects."""
    with repairing(connection):
        _set(connection, TCP_REPAIR_QUEUE, SEND_QUEUE)
        send_next = _get(connection, TCP_QUEUE_SEQ)
        _set(connection, TCP_REPAIR_QUEUE, RECEIVE_QUEUE)
        return send_next, _get(connection, TCP_QUEUE_SEQ)


def vanish(connection: socket.socket) -> None:
    """Close a socket without a FIN or RST, as if its machine had lost power; the peer learns nothing of it."""
    _enter(connection)
    connection.close()


def place(
    host: Host,
    local: Address,
    remote: Address,
    *,
    send_next: int,
    receive_next: int,
    timestamps: int | None = None,
    mss: int = 1400,
    scale: int = 7,
    window: int = 60000,
) -> socket.socket:
    """An ESTABLISHED socket of a host that has never shaken hands; the arguments are the fields of Placed.

    Its peer may be a raw one, or another that was placed. Kernels below 4.19 send it a window probe at once, so for two
    real ends use place_both(). The socket does not block and is closed with the lab.
    """
    end = Placed(send_next, receive_next, timestamps, mss, scale, window)
    placed = _in_repair(host, local, remote, end)
    _leave(placed)
    return placed


def place_both(
    client: Host, server: Host, ports: tuple[int, int], at: Placed, *, servers_clock: int | None = None
) -> tuple[socket.socket, socket.socket]:
    """The two ends of one connection between two hosts, (client's, server's), that has come to a point.

    `ports` is (client's, server's); `at` the client's end, whose mirror the server's is. With timestamps, the server's
    clock is the client's unless `servers_clock` says otherwise.
    """
    clock = at.timestamps if servers_clock is None else servers_clock
    mirror = Placed(at.receive_next, at.send_next, clock, at.mss, at.scale, at.window)
    here, there = (client.ip, ports[0]), (server.ip, ports[1])
    ends = _in_repair(client, here, there, at), _in_repair(server, there, here, mirror)
    for end in ends:
        _leave(end)
    return ends


def _in_repair(host: Host, local: Address, remote: Address, end: Placed) -> socket.socket:
    """An established socket that is still in repair mode, and so sends nothing."""
    placed = host.socket()
    host.lab.on_close(placed.close)
    placed.setblocking(False)
    _enter(placed)
    for queue, number in ((SEND_QUEUE, end.send_next), (RECEIVE_QUEUE, end.receive_next)):
        _set(placed, TCP_REPAIR_QUEUE, queue)
        _set(placed, TCP_QUEUE_SEQ, number)
    placed.bind(local)
    placed.connect(remote)
    options = [(MSS, end.mss), (WINDOW_SCALE, end.scale | end.scale << 16), (SACK, 0)]
    if end.timestamps is not None:
        options.append((TIMESTAMP, 0))
    packed = b"".join(struct.pack("II", *option) for option in options)
    placed.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_OPTIONS, packed)
    if end.timestamps is not None:
        _set(placed, TCP_TIMESTAMP, end.timestamps & 0xFFFFFFFE)
    _open_windows(placed, end)
    return placed


def _open_windows(placed: socket.socket, end: Placed) -> None:
    """Both windows, as struct tcp_repair_window; without it the probe that ends the repair learns the peer's."""
    number = end.receive_next % 2**32
    windows = struct.pack("5I", number, end.window, end.window, end.window, number)
    try:
        placed.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_WINDOW, windows)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise


def _enter(connection: socket.socket) -> None:
    try:
        connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, ON)
    except OSError as error:
        if error.errno == errno.ENOPROTOOPT:
            raise Unsupported("the kernel has no TCP_REPAIR: it is there since 3.5") from None
        if error.errno == errno.EPERM:
            raise Forbidden("TCP_REPAIR needs CAP_NET_ADMIN in the host's network namespace") from None
        raise


def _leave(connection: socket.socket) -> None:
    try:
        connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, OFF_SILENTLY)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, OFF)


def _set(connection: socket.socket, option: int, value: int) -> None:
    with _known(option):
        connection.setsockopt(socket.IPPROTO_TCP, option, struct.pack("I", value % 2**32))


def _get(connection: socket.socket, option: int) -> int:
    with _known(option):
        (value,) = struct.unpack("I", connection.getsockopt(socket.IPPROTO_TCP, option, 4))
        return int(value)


@contextlib.contextmanager
def _known(option: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOPROTOOPT:
            raise Unsupported(
                f"the kernel has no TCP socket option {option}, which came with 3.9 at the latest"
            ) from None
        raise
