"""Clients that ask over short connections, so many a second, until their kernel has no port left."""

from __future__ import annotations

import errno
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.errors import BadInput, NotReady
from harness.observe import count
from harness.traffic.connection import check_closer
from harness.traffic.quick import quick
from harness.waiting import let_clock_reach

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from harness.lab import Host
    from harness.traffic.listener import Listener

OK = "ok"
# Reading the socket table takes milliseconds: the kernel looks into every slot.
SAMPLE = 5.0
DEADLINE = 20.0
TOO_LATE = 0.5
# Of all seconds of a workload; TIME-WAIT lasts 60, and goes on meanwhile.
TOO_MUCH_LOST = 20.0


@dataclass
class ShortConnections:
    """A client that asks `servers` in turn, `rate` requests a second, each on a connection of its own.

    `closer` ("client" or "server") closes first. With `per_connection` above 1 a connection is kept for so many
    requests. The listeners must be ones from which nobody else accepts. `results` has, for each request, the seconds
    since the beginning and "ok" or the name of the errno; `waiting` every five seconds how many TIME-WAIT the client
    had. `lost` is for how many seconds the machine was too busy to ask, `lost_before_failure` for how many before the
    first request failed.
    """

    client: Host
    servers: Sequence[Listener]
    rate: float
    closer: str = "client"
    per_connection: int = 1
    results: list[tuple[float, str]] = field(default_factory=list)
    waiting: list[tuple[float, int]] = field(default_factory=list)
    connections: int = 0
    lost: float = 0.0
    lost_before_failure: float = 0.0
    _open: list[tuple[socket.socket, socket.socket, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_closer(self.closer)

    @property
    def answered(self) -> int:
        """How many requests were answered."""
        return sum(result == OK for _, result in self.results)

    @property
    def errors(self) -> Counter[str]:
        """How many requests failed with which errno."""
        return Counter(result for _, result in self.results if result != OK)

    @property
    def first_failure(self) -> float | None:
        """After how many seconds the first request failed; those apart for which the machine was too busy to ask."""
        failed = next((moment for moment, result in self.results if result != OK), None)
        return None if failed is None else failed - self.lost_before_failure

    @property
    def before_failure(self) -> int:
        """How many requests were answered before the first that failed."""
        return next((i for i, (_, result) in enumerate(self.results) if result != OK), len(self.results))

    def answered_after_failure(self, until: float) -> int:
        """How many requests were answered after the first that failed, up to so many seconds from the beginning."""
        return sum(result == OK for moment, result in self.results[self.before_failure :] if moment < until)

    def ask(self, since: float) -> None:
        """One request; `since` is the beginning on the monotonic clock, in seconds."""
        moment = time.monotonic() - since
        try:
            self._ask()
            result = OK
        except OSError as error:
            result = errno.errorcode.get(error.errno or 0, str(error))
            if not self.errors:
                self.lost_before_failure = self.lost
        self.results.append((moment, result))
        if not self.waiting or moment >= self.waiting[-1][0] + SAMPLE:
            self.waiting.append((moment, count(self.client, "state time-wait", family=self.client.family)))

    def _ask(self) -> None:
        client, server, asked = self._open.pop() if self._open else (*self._connect(), 0)
        for here, there in ((client, server), (server, client)):
            here.sendall(b"?")
            there.recv(1)
        if asked + 1 < self.per_connection:
            self._open.append((client, server, asked + 1))
        else:
            self._close(client, server)

    def _connect(self) -> tuple[socket.socket, socket.socket]:
        listener = self.servers[self.connections % len(self.servers)]
        client = self.client.socket()
        try:
            client.settimeout(DEADLINE)
            client.connect(listener.address)
            server = listener.accept(1, deadline=DEADLINE)[0]
        except OSError:
            client.close()
            raise
        listener.accepted.pop()
        server.settimeout(DEADLINE)
        self.connections += 1
        return client, server

    def _close(self, client: socket.socket, server: socket.socket) -> None:
        """Close in order: the second has read the end of the stream, so it is not both at once."""
        first, second = (client, server) if self.closer == "client" else (server, client)
        first.close()
        second.recv(1)
        second.close()

    def close(self) -> None:
        """Close what is still open."""
        while self._open:
            client, server, _ = self._open.pop()
            self._close(client, server)


def keep_asking(
    workloads: Sequence[ShortConnections],
    seconds: float,
    *,
    since: float | None = None,
    stop_at_failure: bool = False,
    within: float | None = None,
) -> float:
    """Let the clients ask, side by side, for so many seconds; with `stop_at_failure` until each has failed once.

    Each asks when its rate says so, before our other work where we may (harness.traffic.quick). One that comes late
    makes up for it; but when the machine was too busy for longer than half a second, it asks that much later: a burst
    would be a higher rate, whose TIME-WAIT end later. Returns the beginning, on the monotonic clock; a second call goes
    on from there, when it is given as `since`. NotReady when that has cost one of them 20 seconds in all: what would be
    measured then is the machine. Where that is what one asks, how far it comes in a time, `within` says when to stop,
    in seconds by the clock, and no delay is too long. BadInput if two of them share a listener.
    """
    listeners = [listener for workload in workloads for listener in {*map(id, workload.servers)}]
    if len(listeners) > len({*listeners}):
        raise BadInput("two clients ask the same listener: each needs its own, or accepts the other's connections")
    started = time.monotonic() if since is None else since
    ended = threading.Event()

    def ask(workload: ShortConnections) -> None:
        try:
            with quick():
                _ask_at_its_rate(workload, started, seconds, ended, stop_at_failure=stop_at_failure, within=within)
        except BaseException:
            ended.set()
            raise

    try:
        if len(workloads) == 1:
            ask(workloads[0])
        elif workloads:
            # On a busy machine a request takes long, and another client's must not wait for it.
            with ThreadPoolExecutor(len(workloads), "asking") as clients:
                asking = [clients.submit(ask, workload) for workload in workloads]
                try:
                    for each in asking:
                        each.result()
                finally:
                    ended.set()
    finally:
        for workload in workloads:
            workload.close()
    return started


def _ask_at_its_rate(
    workload: ShortConnections,
    started: float,
    seconds: float,
    ended: threading.Event,
    *,
    stop_at_failure: bool,
    within: float | None,
) -> None:
    """Let a client ask at its rate until that is over, or another one's `ended`."""
    while (nominal := len(workload.results) / workload.rate) <= seconds and not ended.is_set():
        due = started + nominal + workload.lost
        let_clock_reach(due)
        now = time.monotonic()
        if within is not None and now - started >= within:
            return
        late = now - due
        if late > TOO_LATE:
            workload.lost += late
            if within is None and workload.lost > TOO_MUCH_LOST:
                lost = f"{workload.lost:.0f} s"
                raise NotReady(f"no rate can be kept here: the machine was too busy to ask for {lost} in all")
        workload.ask(started)
        if stop_at_failure and workload.results[-1][1] != OK:
            return
