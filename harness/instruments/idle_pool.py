"""Connections of a pool that are idle for a while, and then asked: answered, told of an error, or left to hang."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import NotReady
from harness.observe import sockets
from harness.traffic import connect
from harness.traffic.connection import peek
from harness.traffic.connector import OPEN
from harness.waiting import let_pass, until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.instruments.silent_server import Patience
    from harness.lab import Host
    from harness.observe.sockets import Socket
    from harness.traffic import Attempts, Listener

QUERY = b"SELECT 1"
# Seconds: what a first use takes at most, on a machine that is not put off; and what all attempts at it may take.
FIRST_USE, ALL_FIRST_USES = 5, 60


class Asked(NamedTuple):
    """Of a pool's connections: how many had an answer, how many an error, and how many hang."""

    answered: int
    told: int
    hang: int


def ask_after_pause(
    pools: Mapping[Host, tuple[Listener, Patience]], n: int, *, pause: float, patience: float
) -> dict[Host, Asked]:
    """n connections of each client to its server are used once, idle for `pause` seconds, and asked again.

    Looked at after `patience` seconds. All side by side. NotReady if the first use does not succeed within a minute.
    """
    calls = until(
        partial(_used, pools, n), deadline=ALL_FIRST_USES, what="pools of which each connection is answered at once"
    )
    let_pass(pause, what="connections to be idle")
    for each in calls.values():
        for end in each.sockets:
            end.send(QUERY)
    let_pass(patience, what="answers")
    for client, (listener, _) in pools.items():
        # A server that was put off answers later what has come in time.
        until(
            partial(_has_answered_all, listener, calls[client]),
            what="the server's answers to all that has arrived, to arrive",
        )
    asked = {}
    for client, each in calls.items():
        told = len(each) - each.fates()[OPEN]
        answered = sum(peek(one.socket) == QUERY for one in each if one.fate() == OPEN)
        asked[client] = Asked(answered, told, len(each) - told - answered)
        each.close()
    return asked


def _used(pools: Mapping[Host, tuple[Listener, Patience]], n: int) -> dict[Host, Attempts]:
    """n connections of each client, each asked and answered, and the answer acknowledged; empty if it was not so.

    A firewall forgets also while a machine is put off: a connection that it forgot in its first use is no measurement
    of a pause, and its server has an answer on its way for ever. Then all pools are begun anew, to be idle alike.
    """
    calls = {
        client: connect(client, listener, n, options=options.apply, wait=True)
        for client, (listener, options) in pools.items()
    }
    try:
        if all(each.ask(deadline=FIRST_USE) == n for each in calls.values()):
            for client, (listener, _) in pools.items():
                until(
                    partial(_has_answered_all, listener, calls[client]), deadline=FIRST_USE, what="acknowledged answers"
                )
            return calls
    except NotReady:
        pass
    for each in calls.values():
        each.close()
    return {}


def _has_answered_all(listener: Listener, calls: Attempts) -> bool:
    """Whether nothing is left to read, then nothing that was read is left to answer, and then no answer on its way.

    In this order: what was read before the first look has been sent by the second, and has arrived by the third.
    """
    return (
        not any(end.recv_q for end in _ends(listener, calls))
        and not listener.answering
        and not any(end.send_q for end in _ends(listener, calls))
    )


def _ends(listener: Listener, calls: Attempts) -> list[Socket]:
    """The server's ends of these connections: of those that were given up before them some may never end."""
    ports = {attempt.port for attempt in calls}
    established = sockets(listener.host, f"state established sport = :{listener.port}", details=False)
    return [end for end in established if end.remote[1] in ports]
