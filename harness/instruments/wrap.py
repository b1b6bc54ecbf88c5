"""A segment that is one wrap of the sequence numbers late: 4 GB later its bytes seem to be the next ones."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable

from harness.errors import NotReady
from harness.lab import Pair
from harness.observe import counting
from harness.observe.paws import rejected
from harness.traffic import hold, listen
from harness.traffic.connection import Connection, endpoint, establish, peek, read, take, unacknowledged
from harness.traffic.forged import checksummed
from harness.traffic.raw import deliver
from harness.traffic.repair import Placed, place_both, sequence_numbers, timestamp, vanish
from harness.waiting import until

TIMESTAMPS = "net.ipv4.tcp_timestamps"
OLD, BEFORE, NEW = b"old data", b"hello", b"new data"
# How long 2^32 bytes take at 10 Gbit/s, in milliseconds.
AT_TEN_GIGABITS = 3436
CHUNK = 1 << 20
# How long neither end may be ready while 4 GB pass, in seconds.
STALLED = 60

# How the sequence numbers of a connection wrap: the client's next one becomes `here`, what it expects stays `there`.
Wrap = Callable[[Pair, Connection, int, int], Connection]


def stream_after_wrap(pair: Pair, wrap: Wrap) -> bytes:
    """What the application reads of BEFORE and NEW when a segment with OLD, of one wrap ago, comes between them.

    The segment is a real one that was late: sent again, its bytes had arrived long before. `wrap` brings the client's
    sequence number from behind these bytes to just before them, with room for BEFORE.
    """
    connection = establish(pair.client, listen(pair.server)).talk()
    late = hold(pair.server, "PA", dport=endpoint(connection.server)[1])
    here, there = sequence_numbers(connection.client)
    connection.client.send(OLD)
    (old,) = until(late.held, what="a segment to hold")[:1]
    late.lift()
    if take(connection.server, len(OLD)) != OLD:
        raise NotReady(f"port {connection.port}: the server has read something else than {OLD!r}")
    client, server = wrap(pair, connection, here - len(BEFORE), there)
    client.send(BEFORE)
    until(lambda: peek(server) == BEFORE, what="the last bytes before the place")
    with counting(pair.server) as moved:
        deliver(pair.server, checksummed(old))
        arrived = "it to be taken, rejected, or passed over for its number"
        until(lambda: peek(server) != BEFORE or rejected(moved.delta) or moved.delta.Tcp.InSegs, what=arrived)
    client.send(NEW)
    until(lambda: not unacknowledged(client), what="all to be acknowledged")
    return read(server)


def no_wrap(_: Pair, connection: Connection, __: int, ___: int) -> Connection:
    """The connection goes on as it is: the late segment's number is that of bytes which were read."""
    return connection


def wrap_by_repair(pair: Pair, connection: Connection, here: int, there: int) -> Connection:
    """Both ends are closed unnoticed and placed where they would be after 2^32 bytes, at 10 Gbit/s."""
    ports = connection.port, endpoint(connection.server)[1]
    clock = timestamp(connection.client) + AT_TEN_GIGABITS if pair.server.sysctl[TIMESTAMPS] != "0" else None
    for end in connection:
        vanish(end)
    return Connection(*place_both(pair.client, pair.server, ports, Placed(here, there, clock)))


def wrap_by_data(_: Pair, connection: Connection, here: int, __: int) -> Connection:
    """The client sends, and the server throws away, as many bytes as it takes."""
    client, server = connection
    remaining = (here - sequence_numbers(client)[0]) % 2**32
    chunk, place = memoryview(bytes(CHUNK)), bytearray(CHUNK)
    with selectors.DefaultSelector() as ready:
        ready.register(client, selectors.EVENT_WRITE)
        ready.register(server, selectors.EVENT_READ)
        sent = taken = 0
        while taken < remaining:
            events = ready.select(STALLED)
            if not events:
                raise NotReady(f"port {connection.port}: {taken} of {remaining} bytes have passed, and then none")
            for key, _events in events:
                if key.fileobj is server:
                    taken += server.recv_into(place, 0, socket.MSG_TRUNC)
                elif sent < remaining:
                    sent += client.send(chunk[: remaining - sent])
                    if sent == remaining:
                        ready.unregister(client)
    return connection
