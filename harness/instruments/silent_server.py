"""A server that answers nothing any more, and clients with more or less patience: who still waits, who got through."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from harness.traffic import Attempts, connect, drop
from harness.traffic.connector import CONNECTED, DATA, OPEN, learn
from harness.waiting import let_clock_reach, until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.lab import Host
    from harness.traffic import Listener

LOOK = 0.25  # seconds
REQUEST = b"SELECT 1"


@dataclass(frozen=True)
class Patience:
    """What the application has set: a timeout of its own for connect() (seconds), and options of the socket.

    `user_timeout` is TCP_USER_TIMEOUT, in milliseconds; `keepalive` is SO_KEEPALIVE, `keepalive_idle` TCP_KEEPIDLE and
    TCP_KEEPINTVL, in seconds.
    """

    connect_timeout: float | None = None
    user_timeout: int = 0
    keepalive: bool = False
    keepalive_idle: int = 0

    def apply(self, end: socket.socket) -> None:
        """Set the options of a socket."""
        if self.user_timeout:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self.user_timeout)
        if self.keepalive or self.keepalive_idle:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self.keepalive_idle:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, self.keepalive_idle)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, self.keepalive_idle)


class Waited(NamedTuple):
    """How many clients still waited at the end, and after how many seconds the last of the others knew."""

    waiting: int
    longest: float


def connect_to_silence(
    clients: Mapping[Host, Patience], listener: Listener, n: int, *, seconds: float
) -> dict[Host, Waited]:
    """n connect() calls of each client, side by side, at a server that drops each SYN; looked at after `seconds`."""
    silence = drop(listener.host, "S", dport=listener.port)
    calls = {client: _call(client, listener, n, patience) for client, patience in clients.items()}
    _watch(seconds, lambda: [each.results() for each in calls.values()])
    waited = {client: Waited(each.pending, _longest(each)) for client, each in calls.items()}
    silence.lift()
    for each in calls.values():
        each.close()
    return waited


def connect_in_an_outage(
    clients: Mapping[Host, Patience], listener: Listener, n: int, *, seconds: float
) -> dict[Host, int]:
    """Of n connect() calls of each client that begin when the server falls silent, how many get through.

    The silence is over after `seconds`. Those that failed by then did not get through.
    """
    silence = drop(listener.host, "S", dport=listener.port)
    calls = {client: _call(client, listener, n, patience) for client, patience in clients.items()}
    _watch(seconds, lambda: [each.results() for each in calls.values()])
    silence.lift()
    until(lambda: not any(each.pending for each in calls.values()), deadline=60, what="each connect() to end")
    through = {client: each.connected for client, each in calls.items()}
    for each in calls.values():
        each.close()
    return through


def ask_silence(clients: Mapping[Host, Patience], listener: Listener, n: int, *, seconds: float) -> dict[Host, Waited]:
    """n connections of each client, established and well; then the server falls silent, and each is asked.

    Looked at after `seconds`: a connection that still waits has sent data, and knows nothing yet.
    """
    calls = _established(clients, listener, n)
    silence = drop(listener.host, dport=listener.port)
    began = time.monotonic()
    for each in calls.values():
        for end in each.sockets:
            end.send(REQUEST)
    known: dict[Host, float] = {}

    def look() -> None:
        for client, each in calls.items():
            if not each.fates()[OPEN]:
                known.setdefault(client, time.monotonic() - began)

    _watch(seconds, look)
    waited = {client: Waited(each.fates()[OPEN], known.get(client, 0.0)) for client, each in calls.items()}
    silence.lift()
    for each in calls.values():
        each.close()
    return waited


def ask_in_an_outage(
    clients: Mapping[Host, Patience], listener: Listener, n: int, *, seconds: float
) -> dict[Host, int]:
    """Of n connections of each client that ask when the server falls silent, how many have their answer in the end.

    The silence is over after `seconds`.
    """
    calls = _established(clients, listener, n)
    silence = drop(listener.host, dport=listener.port)
    ends = [end for each in calls.values() for end in each.sockets]
    for end in ends:
        end.send(REQUEST)
    _watch(seconds, lambda: None)
    silence.lift()
    until(
        lambda: all(learn(end) != OPEN for end in ends), deadline=60, what="each request to have an answer, or an end"
    )
    answered = {client: sum(learn(end) == DATA for end in each.sockets) for client, each in calls.items()}
    for each in calls.values():
        each.close()
    return answered


def _established(clients: Mapping[Host, Patience], listener: Listener, n: int) -> dict[Host, Attempts]:
    """n connections of each client, with its options."""
    return {
        client: connect(client, listener, n, options=patience.apply, wait=True) for client, patience in clients.items()
    }


def _call(client: Host, listener: Listener, n: int, patience: Patience) -> Attempts:
    """n connect() calls with options of their own."""
    calls = Attempts(client)
    for _ in range(n):
        calls.each += connect(client, listener, timeout=patience.connect_timeout, options=patience.apply).each
    return calls


def _longest(calls: Attempts) -> float:
    return max((each.seconds for each in calls if each.seconds is not None and each.result != CONNECTED), default=0.0)


def _watch(seconds: float, look: Callable[[], object]) -> None:
    """Look again and again for so long."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        look()
        let_clock_reach(began + min(passed + LOOK, seconds), what="the clients to give up")
    look()
