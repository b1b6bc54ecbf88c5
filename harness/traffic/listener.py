"""Real listeners: a backlog, and a policy of when to accept."""

from __future__ import annotations

import errno
import itertools
import os
import selectors
import socket as sockets
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from harness.errors import BadInput, NotReady
from harness.lab.host import family_of
from harness.observe.queues import accept_queue, half_open
from harness.waiting import PATIENCE, until_equal

if TYPE_CHECKING:
    from harness.lab import Host, Lab
    from harness.observe.queues import AcceptQueue

Answer = Callable[[bytes], bytes]
# The beginning of struct tcp_info, in which a listener has at `unacked` how many wait for accept().
LISTENING = struct.Struct("=24xI")


def echo(request: bytes) -> bytes:
    """The service that answers with what it was sent."""
    return request


@dataclass
class Listener:
    """A listening socket of a host, its accepted connections, and the thread that accepts if there is one.

    Made by listen(). `accepted` holds the connections in the order in which accept() gave them.
    """

    host: Host
    socket: sockets.socket
    backlog: int
    accepted: list[sockets.socket] = field(default_factory=list)
    _acceptor: _Acceptor | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        name = self.socket.getsockname()
        return name[0], name[1]

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self.address[1]

    @property
    def accepts(self) -> bool:
        """Whether a thread accepts, so that the scenario does not; it may be stalled."""
        return self._acceptor is not None

    @property
    def answering(self) -> bool:
        """Whether its thread may have read a request whose answer it has not sent yet."""
        return self._acceptor is not None and self._acceptor.answering

    @property
    def waiting(self) -> int:
        """How many connections wait at it for accept(): Recv-Q of `ss -lnt`."""
        return self._queue.waiting

    @property
    def limit(self) -> int:
        """What listen() made of the backlog, Send-Q of `ss -lnt`; one connection more than that may wait."""
        return self._queue.limit

    @property
    def _queue(self) -> AcceptQueue:
        """Its accept queue, and not that of another listener that shares the port."""
        return accept_queue(self.host, self.port, inode=os.fstat(self.socket.fileno()).st_ino)

    @property
    def queued(self) -> int:
        """As `waiting`, for whoever asks a thousand times; BadInput if it is closed.

        The kernel's answer to whoever holds the socket (net/ipv4/tcp.c, tcp_get_info()) takes a hundredth of what
        looking for it in the machine's tables does. What ss shows is `waiting`.
        """
        try:
            known = self.socket.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_INFO, LISTENING.size)
        except OSError:
            raise BadInput(f"a listener of {self.host.name} has no queue any more: it is closed") from None
        waiting: int = LISTENING.unpack(known)[0]
        return waiting

    @property
    def half_open(self) -> int:
        """How many requests to its port are half-open: SYN-RECV."""
        return half_open(self.host, self.port)

    def listen(self, backlog: int) -> None:
        """Call listen() once more on the same socket."""
        self.socket.listen(backlog)
        self.backlog = backlog

    def accept(self, n: int = 1, *, deadline: float = PATIENCE) -> list[sockets.socket]:
        """Accept n connections now; NotReady if they do not come within `deadline` seconds."""
        taken: list[sockets.socket] = []

        def accepted() -> int:
            with suppress(BlockingIOError):
                while len(taken) < n:
                    connection, _ = self.socket.accept()
                    connection.setblocking(False)
                    taken.append(connection)
            return len(taken)

        what = f"connections accepted on {self.host.name}:{self.port}"
        try:
            until_equal(accepted, n, what=what, deadline=deadline)
        finally:
            self.accepted.extend(taken)
        return taken

    def accept_all(self) -> list[sockets.socket]:
        """Accept whatever waits now, which may be nothing."""
        before = len(self.accepted)
        try:
            while True:
                self.accept(1, deadline=0)
        except NotReady:
            return self.accepted[before:]

    def stall(self) -> None:
        """Stop accepting; connections that are accepted already are still answered."""
        if self._acceptor is not None:
            self._acceptor.stall()

    def resume(self) -> None:
        """Accept again, as the policy says."""
        if self._acceptor is None:
            self.start_accepting(None, None)
        else:
            self._acceptor.accepting.set()

    def start_accepting(self, rate: float | None, answer: Answer | None) -> None:
        """Accept in a thread from now on, `rate` connections a second or as fast as they come, and answer them."""
        self._acceptor = _Acceptor(self, rate, answer)
        self._acceptor.start()

    def close(self) -> None:
        """Stop the thread, close the listener and every accepted connection."""
        if self._acceptor is not None:
            self._acceptor.stop()
        self.socket.close()
        for connection in self.accepted:
            connection.close()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Acceptor(threading.Thread):
    """Accepts and answers in one thread for all connections of a listener."""

    PAUSE = 0.005

    def __init__(self, listener: Listener, rate: float | None, answer: Answer | None) -> None:
        super().__init__(name=f"accept {listener.host.name}:{listener.port}", daemon=True)
        self._listener = listener
        self._interval = 1 / rate if rate else 0.0
        self._answer = answer
        self._next = time.monotonic()
        self._ended = threading.Event()
        self._turn = threading.Lock()
        self.accepting = threading.Event()
        self.accepting.set()
        # From before a request is read until after its answer was sent.
        self.answering = False

    def stall(self) -> None:
        # With the lock, because an accept() that has been decided on must be over when this returns.
        with self._turn:
            self.accepting.clear()

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            while not self._ended.is_set():
                if self.accepting.is_set():
                    self._accept_due(selector)
                ready = selector.select(self.PAUSE) if selector.get_map() else self._ended.wait(self.PAUSE)
                if isinstance(ready, list):
                    for key, _ in ready:
                        self._serve(key.fileobj, selector)  # type: ignore[arg-type]

    def _accept_due(self, selector: selectors.BaseSelector) -> None:
        while not self._ended.is_set():
            if self._interval and time.monotonic() < self._next:
                return
            try:
                with self._turn:
                    if not self.accepting.is_set():
                        return
                    connection, _ = self._listener.socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            self._next = max(self._next + self._interval, time.monotonic() - self._interval)
            connection.setblocking(False)
            self._listener.accepted.append(connection)
            if self._answer is not None:
                selector.register(connection, selectors.EVENT_READ)

    def _serve(self, connection: sockets.socket, selector: selectors.BaseSelector) -> None:
        assert self._answer is not None
        self.answering = True
        try:
            request = connection.recv(65536)
            if request:
                connection.send(self._answer(request))
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        finally:
            self.answering = False
        selector.unregister(connection)
        connection.close()


# Below the ports that connect() draws from (net.ipv4.ip_local_port_range), so that no client's port is a listener's.
FIRST_PORT = 14001
_ports: WeakKeyDictionary[Lab, Iterator[int]] = WeakKeyDictionary()


def _bound(host: Host, address: str, port: int, shared: bool) -> sockets.socket:
    """A socket at a port; if any will do, at the next one that is new to the lab."""
    for number in [port] if port else _ports.setdefault(host.lab, itertools.count(FIRST_PORT)):
        bound = host.socket(family=family_of(address))
        bound.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEPORT if shared else sockets.SO_REUSEADDR, 1)
        try:
            bound.bind((address, number))
        except OSError as error:
            bound.close()
            if port or error.errno != errno.EADDRINUSE:
                raise
        else:
            return bound
    raise AssertionError("there is always a next port")


def listen(
    host: Host,
    backlog: int = 128,
    *,
    port: int = 0,
    address: str | None = None,
    shared: bool = False,
    accept: bool = False,
    rate: float | None = None,
    answer: Answer | None = None,
) -> Listener:
    """Listen on a host, unless told on a port that nobody has listened on in this lab, and no connect() draws.

    For what a closed listener leaves half-open counts for its port until the timer of each request has run out
    (net/ipv4/inet_connection_sock.c, reqsk_timer_handler()), and whoever looks for a listener's connections by its port
    must not find a client that has the same one.

    `address` is the host's own in the lab's family unless given; at "::" it takes IPv4 as well. A `shared` port is one
    for several listeners (SO_REUSEPORT). By default nobody ever
    accepts, and the scenario does it on demand (Listener.accept). `accept=True` starts a thread that accepts at once,
    `rate` (connections a second) one that accepts slowly; `answer` makes it a server that answers each request with
    `answer(request)` and implies `accept`. Listener.stall() and resume() interrupt it. Closed with the lab.
    """
    listening = _bound(host, address or host.ip, port, shared)
    listening.setblocking(False)
    listening.listen(backlog)
    listener = Listener(host, listening, backlog)
    host.lab.on_close(listener.close)
    if accept or rate is not None or answer is not None:
        listener.start_accepting(rate, answer)
    return listener
