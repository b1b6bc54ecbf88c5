"""Connections of a pool that are idle for a while, and then asked: answered, told of an error, or left to hang."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from harness.observe import sockets
from harness.traffic import connect
from harness.traffic.connection import peek
from harness.traffic.connector import OPEN
from harness.waiting import let_pass, until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.instruments.silent_server import Patience
    from harness.lab import Host
    from harness.traffic import Listener

QUERY = b"SELECT 1"


class Asked(NamedTuple):
    """Of a pool's connections: how many had an answer, how many an error, and how many hang."""

    answered: int
    told: int
    hang: int


def ask_after_pause(
    pools: Mapping[Host, tuple[Listener, Patience]], n: int, *, pause: float, patience: float
) -> dict[Host, Asked]:
    """n connections of each client to its server are used once, idle for `pause` seconds, and asked again.

    Looked at after `patience` seconds. All side by side.
    """
    calls = {
        client: connect(client, listener, n, options=options.apply, wait=True)
        for client, (listener, options) in pools.items()
    }
    for each in calls.values():
        each.ask()
    let_pass(pause, what="connections to be idle")
    for each in calls.values():
        for end in each.sockets:
            end.send(QUERY)
    let_pass(patience, what="answers")
    for listener, _ in pools.values():
        # A server that was put off answers later what has come in time.
        until(partial(_has_read_all, listener), what="the server to read what has arrived")
    asked = {}
    for client, each in calls.items():
        told = len(each) - each.fates()[OPEN]
        answered = sum(peek(one.socket) == QUERY for one in each if one.fate() == OPEN)
        asked[client] = Asked(answered, told, len(each) - told - answered)
        each.close()
    return asked


def _has_read_all(listener: Listener) -> bool:
    ends = sockets(listener.host, f"state established sport = :{listener.port}", details=False)
    return not any(end.recv_q for end in ends)
