"""Real clients: one connection, many at once, or at a rate, and what became of each."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.errors import NotReady
from harness.lab.host import family_of
from harness.listing import Listing
from harness.traffic.listener import Listener
from harness.waiting import PATIENCE, let_clock_reach, until, until_at_least, until_equal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.lab import Host

PENDING = "pending"
CONNECTED = "connected"
TIMEOUT = "timeout"
OPEN = "open"
CLOSED = "closed"
DATA = "data"


@dataclass(repr=False)
class Attempt:
    """One connect(): its socket, and how it ended.

    `result` is "connected", "pending" while the kernel still tries, the name of the errno ("ECONNREFUSED"), or
    "timeout" when the application's own patience, `timeout` seconds, was over first and it closed the socket. `seconds`
    is how long it took to end, on the monotonic clock.
    """

    socket: socket.socket
    started: float
    result: str = PENDING
    seconds: float | None = None
    timeout: float | None = None
    _fate: str = OPEN

    def __repr__(self) -> str:
        """What is known up to now: nothing is read for it."""
        try:
            ends = f"from port {self.port}"
        except OSError:
            ends = "of a socket that is closed"
        ended = "" if self.seconds is None else f" after {self.seconds:.3f} s"
        return f"<connect() {ends}: {self.result}{ended}>"

    def fate(self) -> str:
        """What the application learns by reading: an errno's name, "closed", or "open" while there is nothing to learn.

        The kernel reports an error once; it is remembered here.
        """
        if self._fate == OPEN:
            learned = learn(self.socket)
            self._fate = OPEN if learned == DATA else learned
        return self._fate

    def settle(self) -> None:
        """Read the result if the kernel has one."""
        settle([self])

    def _end(self, result: str) -> None:
        self.result = result
        self.seconds = time.monotonic() - self.started

    @property
    def port(self) -> int:
        """The local port."""
        port: int = self.socket.getsockname()[1]
        return port


@dataclass(repr=False)
class Attempts:
    """The connect() calls of one connect(); iterable, and countable by result."""

    host: Host
    each: list[Attempt] = field(default_factory=Listing)

    def __repr__(self) -> str:
        """What is known up to now: nothing is read for it."""
        results = Counter(attempt.result for attempt in self.each)
        told = ", ".join(f"{number} {result}" for result, number in results.most_common())
        return f"<{len(self.each)} connect() calls of {self.host.name}: {told or 'none'}>"

    def __iter__(self) -> Iterator[Attempt]:
        return iter(self.each)

    def __len__(self) -> int:
        return len(self.each)

    def __getitem__(self, index: int) -> Attempt:
        return self.each[index]

    def results(self) -> Counter[str]:
        """How many ended how, up to now."""
        settle(self.each)
        return Counter(attempt.result for attempt in self.each)

    @property
    def connected(self) -> int:
        """How many are connected, as the client's kernel sees it."""
        return self.results()[CONNECTED]

    @property
    def pending(self) -> int:
        """How many the kernel still tries."""
        return self.results()[PENDING]

    def fates(self) -> Counter[str]:
        """How many applications have learned what (Attempt.fate)."""
        return Counter(attempt.fate() for attempt in self.each)

    @property
    def sockets(self) -> list[socket.socket]:
        """The sockets of those that are connected."""
        self.results()
        return [attempt.socket for attempt in self.each if attempt.result == CONNECTED]

    def wait(self, connected: int | None = None, *, deadline: float = PATIENCE) -> Attempts:
        """Wait until `connected` of them are, or until none is pending; NotReady after `deadline` seconds."""
        try:
            if connected is None:
                what = f"connect() calls on {self.host.name} that are pending"
                until_equal(lambda: self.pending, 0, what=what, deadline=deadline)
            else:
                what = f"connect() calls on {self.host.name} that are connected"
                until_at_least(lambda: self.connected, connected, what=what, deadline=deadline)
        except NotReady as error:
            raise NotReady(f"{error}; results: {dict(self.results())}") from None
        return self

    def ask(self, request: bytes = b"?", *, deadline: float = PATIENCE) -> int:
        """Send a request on every connected socket; how many got an answer of that length within `deadline` seconds.

        Those whose connection ends meanwhile are not waited for.
        """
        self.results()
        asked = [attempt for attempt in self.each if attempt.result == CONNECTED]
        for attempt in asked:
            with contextlib.suppress(OSError):
                attempt.socket.send(request)
        answered: set[int] = set()

        def all_ended() -> bool:
            for i, attempt in enumerate(asked):
                if i not in answered and attempt.fate() == OPEN and _read(attempt.socket, len(request)):
                    answered.add(i)
            return all(i in answered or attempt.fate() != OPEN for i, attempt in enumerate(asked))

        with contextlib.suppress(NotReady):
            until(all_ended, deadline=deadline, what="all requests answered")
        return len(answered)

    def close(self) -> None:
        """Close all of them."""
        for attempt in self.each:
            attempt.socket.close()

    def __enter__(self) -> Attempts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def settle(attempts: Sequence[Attempt]) -> None:
    """Read the results that the kernel has, of attempts that are pending, and close those whose patience is over."""
    pending = {attempt.socket.fileno(): attempt for attempt in attempts if attempt.result == PENDING}
    if not pending:
        return
    poll = select.poll()
    for number in pending:
        poll.register(number, select.POLLOUT)
    for number, _ in poll.poll(0):
        attempt = pending.pop(number)
        error = attempt.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        attempt._end(CONNECTED if error == 0 else errno.errorcode[error])  # noqa: SLF001 - of this module
    now = time.monotonic()
    for attempt in pending.values():
        if attempt.timeout is not None and now - attempt.started >= attempt.timeout:
            attempt._end(TIMEOUT)  # noqa: SLF001
            attempt.socket.close()


def answered(host: Host, to: Listener, *, deadline: float = PATIENCE) -> socket.socket:
    """A new connection to a listener that answers, on which a request has been answered; NotReady if it is not."""
    clients = connect(host, to, wait=True, deadline=deadline)
    if not clients.ask(deadline=deadline):
        raise NotReady(f"port {to.port} did not answer {host.name}; results: {dict(clients.results())}")
    return clients[0].socket


def learn(end: socket.socket) -> str:
    """What an application learns when it reads: "data", "closed", an errno's name, or "open" if there is nothing.

    Data stays where it is; an error is the kernel's to report once.
    """
    try:
        return DATA if end.recv(1, socket.MSG_PEEK) else CLOSED
    except BlockingIOError:
        return OPEN
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def _read(connection: socket.socket, size: int) -> bool:
    try:
        return len(connection.recv(size, socket.MSG_PEEK)) == size and bool(connection.recv(size))
    except OSError:
        return False


def connect(
    host: Host,
    to: Listener | tuple[str, int],
    n: int = 1,
    *,
    rate: float | None = None,
    source: tuple[str, int] | None = None,
    options: Callable[[socket.socket], None] | None = None,
    timeout: float | None = None,
    wait: bool = False,
    deadline: float = PATIENCE,
) -> Attempts:
    """Start n connect() calls from a host and return without waiting for the handshakes, unless `wait`.

    `rate` spreads them (calls a second); `source` binds the socket to an address and port; `options` gets each
    socket before it connects; `timeout` is how many
    seconds the application waits for each before it gives up, which happens when results are asked for. With `wait`,
    all must have ended within `deadline` seconds. A connect() that fails at once (EADDRNOTAVAIL) is a result like any
    other. The sockets are closed with the lab.
    """
    host.lab.check_ready()
    address = to.address if isinstance(to, Listener) else to
    attempts = Attempts(host)
    host.lab.on_close(attempts.close)
    started = time.monotonic()
    with host:
        for i in range(n):
            if rate:
                let_clock_reach(started + i / rate)
            attempts.each.append(_start(address, source, options))
            attempts.each[-1].timeout = timeout
    return attempts.wait(deadline=deadline) if wait else attempts


def _start(
    address: tuple[str, int], source: tuple[str, int] | None, options: Callable[[socket.socket], None] | None
) -> Attempt:
    connecting = socket.socket(family_of(address[0]), socket.SOCK_STREAM)
    connecting.setblocking(False)
    if options is not None:
        options(connecting)
    attempt = Attempt(connecting, time.monotonic())
    try:
        if source is not None:
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            connecting.bind(source)
        error = connecting.connect_ex(address)
    except OSError as failed:
        error = failed.errno or errno.EIO
    if error not in (0, errno.EINPROGRESS):
        attempt.result = errno.errorcode.get(error, os.strerror(error))
        attempt.seconds = time.monotonic() - attempt.started
    return attempt
