"""The accept queue of a listener: filled by real clients, and overflowed by handshakes that end too late."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness.laws import queues
from harness.laws.kernel import running
from harness.observe import counters, sockets
from harness.traffic import connect, hold, listen
from harness.waiting import until, until_at_least, until_equal

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.laws.queues import Knobs
    from harness.traffic import Attempts, Hold, Listener

# The ports of clients whose handshakes are held, so that it is known which ACK to hold before it is sent.
FIRST_HELD = 41001


def room(knobs: Knobs) -> int:
    """How many connections the running kernel lets wait for accept() under these settings (harness.laws.queues)."""
    return queues.waiting(running(), knobs)


def fill(client: Host, listener: Listener) -> Attempts:
    """Connect clients until the accept queue is full: one more than the limit waits."""
    full = listener.limit + 1
    clients = connect(client, listener, full - listener.waiting, wait=True)
    until_equal(lambda: listener.waiting, full, what="connections waiting")
    return clients


def come_one_by_one(client: Host, listener: Listener, n: int) -> int:
    """How many connections wait for accept() after n clients have come, each when the one before waits or is refused.

    Those that waited before are among them. The clients are gone when this returns.
    """
    already, before = listener.queued, counters(listener.host)

    def seen_to(number: int) -> bool:
        # Asking the listener costs next to nothing, reading the counters a hundred times as much.
        waiting = listener.queued - already
        return waiting >= number or waiting + (counters(listener.host) - before).TcpExt.ListenDrops >= number

    with ExitStack() as clients:
        for number in range(1, n + 1):
            clients.enter_context(connect(client, listener))
            until(partial(seen_to, number), what=f"client {number} waiting or refused")
        return listener.waiting


@dataclass(frozen=True)
class Handshakes:
    """Clients that have got as far as the SYN-ACK: each believes to be connected, its ACK is held at the server."""

    clients: Attempts
    held: list[Hold]

    def complete(self) -> None:
        """Let the ACKs go on."""
        for ack in self.held:
            ack.release()


def begin_handshakes(client: Host, listener: Listener, n: int) -> Handshakes:
    """Let n real clients get as far as the SYN-ACK."""
    ports = range(FIRST_HELD, FIRST_HELD + n)
    held = [hold(listener.host, "A", sport=port) for port in ports]
    clients = connect(client, listener, 0)
    for port in ports:
        clients.each += connect(client, listener, source=(client.ip, port), wait=True).each
    return Handshakes(clients, held)


@dataclass(frozen=True)
class Overflow:
    """A listener whose accept queue is full of `early` clients, and the `late` ones, whose ACKs found it so."""

    listener: Listener
    late: Attempts
    early: Attempts

    def end(self) -> None:
        """Close the listener and the late clients: what they still send meets no queue any more."""
        self.listener.close()
        self.late.close()


def overflow(client: Host, server: Host, n: int) -> Overflow:
    """n handshakes that begin while there is room, and end at a queue of n + 1 that others have filled meanwhile.

    No more than n can be half-open on a listener with backlog n on every kernel; what comes beyond gets a cookie.
    """
    before = counters(server)
    listener = listen(server, n)
    handshakes = begin_handshakes(client, listener, n)
    early = fill(client, listener)
    handshakes.complete()
    until_at_least(lambda: (counters(server) - before).TcpExt.ListenOverflows, n, what=f"{n} ACKs at the full queue")
    return Overflow(listener, handshakes.clients, early)


def states(host: Host, listener: Listener, clients: Attempts) -> list[str]:
    """The states of the clients' connections to a listener as `host`, on either side, has them."""
    ports = {client.port for client in clients}
    return [
        socket.state
        for socket in sockets(host, "exclude listening")
        if {socket.local[1], socket.remote[1]} & ports and listener.port in (socket.local[1], socket.remote[1])
    ]
