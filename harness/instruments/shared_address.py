"""Clients that share one address, each with a timestamp clock of its own, and what a server makes of their SYNs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from harness.errors import NotReady
from harness.laws import since
from harness.laws.serial import older
from harness.observe import counting
from harness.observe.paws import rejected_syns
from harness.traffic import connect
from harness.traffic.clock_shift import ClockShift
from harness.traffic.clocks import ask, connect_at, finish
from harness.traffic.connection import wait_for_end
from harness.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.lab import Host
    from harness.observe import Segment
    from harness.traffic import Listener, RawConnection, RawPeer

TIMESTAMPS = "net.ipv4.tcp_timestamps"
WITHOUT_OFFSET = 2
SYN_ACK = "SA"


def answered_syns(peer: RawPeer, listener: Listener, clocks: Sequence[int | None]) -> int:
    """How many SYNs from fresh ports of a raw peer are answered with a SYN-ACK, with these timestamps or none.

    The listener's host drops the others for their timestamps. NotReady if it does neither.
    """
    return len(_knock(peer, listener, clocks))


def arrive(peer: RawPeer, listener: Listener, clocks: Sequence[int | None]) -> int:
    """How many connections, from fresh ports of a raw peer whose clock reads this for each, come about."""
    welcome = _knock(peer, listener, clocks)
    for connection, clock in welcome:
        finish(connection, clock)
    return len(listener.accept(len(welcome)))


def _knock(peer: RawPeer, listener: Listener, clocks: Sequence[int | None]) -> list[tuple[RawConnection, int | None]]:
    """Send SYNs; those that were answered, and the clock of each."""
    callers = [(peer.connection(listener), clock) for clock in clocks]

    def welcome() -> list[tuple[RawConnection, int | None]]:
        return [(connection, clock) for connection, clock in callers if connection.replies()]

    with counting(listener.host) as moved:
        for connection, clock in callers:
            ask(connection, clock)
        until(lambda: len(welcome()) + rejected_syns(moved.delta) == len(callers), what="each SYN answered or dropped")
    others = {str(reply.flags) for connection, _ in callers for reply in connection.replies()} - {SYN_ACK}
    if others:
        raise NotReady(f"{listener.host.name} has answered SYNs with {', '.join(sorted(others))}")
    return welcome()


def let_in(client: Host, listener: Listener, n: int = 3) -> int:
    """How many of n connect() calls of a real client succeed; the SYNs of the others are dropped."""
    with counting(listener.host) as moved, connect(client, listener, n) as attempts:
        until(lambda: attempts.connected + rejected_syns(moved.delta) >= n, what=f"{n} SYNs to be answered or dropped")
        connected = attempts.connected
        for accepted in listener.accept(connected):
            accepted.close()
    return connected


def visits(client: Host, listener: Listener, clock: int, *, deadline: float = PATIENCE) -> bool:
    """Whether the SYN of a real client, whose clock reads `clock`, is answered within `deadline` seconds.

    If so, it connects, and the server closes first. From 4.10 on the clock is another: see connect_at().
    """
    try:
        connecting = connect_at(client, listener, clock, deadline=deadline)
    except NotReady:
        return False
    listener.accept()[0].close()
    wait_for_end(connecting)
    connecting.close()
    return True


def shift_clock(host: Host, ticks: int) -> None:
    """Move the timestamp clock of a host, which is otherwise that of all hosts of the lab, by so many ticks.

    Its connections have no random offsets then. No ticks leave the clock where it is.
    """
    if since("timestamp-offset-is-random"):
        host.sysctl[TIMESTAMPS] = WITHOUT_OFFSET
    if ticks:
        ClockShift(host, ticks)


def setbacks(syns: Sequence[Segment]) -> int:
    """How often a SYN was older, by its timestamp, than the one before it."""
    clocks = [syn.tsval or 0 for syn in syns]
    return sum(older(later, earlier) for earlier, later in itertools.pairwise(clocks))
