"""What a connect() costs the processor."""

from __future__ import annotations

import socket
import statistics
import time
from typing import TYPE_CHECKING

from harness.simulated import is_simulated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.instruments.port_choice import Option
    from harness.lab import Host
    from harness.traffic import Listener

ROUNDS = 3
# Pairs of calls that are compared.
TURNS = 41


def connect_seconds(client: Host, listener: Listener, times: int = 41, *, rounds: int | None = None) -> float:
    """The processor time of a connect() call, in seconds, with the handshake that it sets off.

    It is the median of so many calls, which search for a port now longer and now shorter; and of so many such medians
    the least, for a moment in which the machine has much else to do makes all calls of a round dear, and none cheap:
    three, and one in simulated time, where nothing else is done.
    """
    rounds = rounds or (1 if is_simulated() else ROUNDS)
    return min(statistics.median(connect_times(client, listener, times)) for _ in range(rounds))


def connect_times(client: Host, listener: Listener, times: int = 41, *, options: Iterable[Option] = ()) -> list[float]:
    """The processor time of each of so many connect() calls, in seconds.

    What interrupts do for others is charged to whoever runs, and only adds: of calls that all do the same work the
    least says what that costs, whatever else the machine does. `options` are those of IP that the socket has before
    (harness.instruments.port_choice).
    """
    spent, options = [], list(options)
    for _ in range(times):
        with client.socket() as connecting:
            for option, value in options:
                connecting.setsockopt(socket.IPPROTO_IP, option, value)
            before = time.thread_time()
            connecting.connect(listener.address)
            spent.append(time.thread_time() - before)
            (accepted,) = listener.accept(deadline=60)
            accepted.close()
        listener.accepted.clear()
    return spent


def times_as_long(
    client: Host, listener: Listener, beside: tuple[Host, Listener], *, options: Iterable[Option] = ()
) -> float:
    """How many times as much processor time the cheapest connect() takes as the cheapest `beside` it does.

    `beside` are another host and where it connects to. They take turns: what else the machine does, to its caches too,
    makes both dear.
    """
    options, one, other = list(options), list[float](), list[float]()
    for _ in range(TURNS):
        one += connect_times(client, listener, 1, options=options)
        other += connect_times(*beside, 1)
    return min(one) / min(other)
