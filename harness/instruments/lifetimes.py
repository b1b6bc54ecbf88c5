"""How long a state of a connection lasts: TIME-WAIT, that of an orphan, a half-open request, until it is gone.

An orphan is a connection that no application holds any more: it has closed its socket, and the kernel goes on alone.
"""

from __future__ import annotations

import math
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import NotReady
from harness.laws.ranges import Between, between
from harness.observe import end_between, ends_at, sockets, states_between
from harness.observe.sockets import ONE_BY_ONE
from harness.traffic import SYN_OPTIONS, drop
from harness.traffic.closing import leave_time_wait
from harness.traffic.connection import endpoint, establish, far_endpoint, wait_for_end
from harness.waiting import let_pass, until

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from harness.lab import Host
    from harness.observe.sockets import FourTuple, Socket
    from harness.traffic import Listener, RawConnection


# In seconds: a timer that has no more than this to go is watched as closely as can be; else looks are so far apart.
TO_GO, BETWEEN_LOOKS = 1.0, 2.0
# In seconds: a timer that is read within so long is taken to be read at that moment.
CLOSE = 0.1


class Watched:
    """A connection in some state at a host, looked at now and then until it is gone, or in another state.

    `begun` is a moment on the monotonic clock, in seconds, at which it was not in that state yet.
    """

    def __init__(self, host: Host, ends: FourTuple, state: str, begun: float) -> None:
        self.host, self.ends, self.state = host, ends, state
        self._begun, self._seen_first = begun, time.monotonic()
        self._seen, self._missed = self._seen_first, math.nan

    @property
    def port(self) -> int:
        """The local port."""
        return self.ends[0][1]

    @property
    def gone(self) -> bool:
        """Whether it was missed at some look."""
        return not math.isnan(self._missed)

    @property
    def lifetime(self) -> tuple[float, float]:
        """How long it lasted, in seconds: at least until it was last seen, at most until it was first missed.

        laws.timers.Lasts says which of these are as predicted.
        """
        return self.bounds(self._seen, self._missed)

    def bounds(self, seen: float, missed: float) -> tuple[float, float]:
        """The lifetime, in seconds, of a state seen last and missed first at moments on the monotonic clock."""
        return seen - self._seen_first, missed - self._begun

    def look(self, states: dict[FourTuple, str], looked: float) -> None:
        """Take note of one look at the host's connections, which began at `looked` on the monotonic clock."""
        if self.gone:
            return
        if states.get(self.ends) == self.state:
            self._seen = looked
        else:
            self._missed = time.monotonic()


def watch_until_gone(watched: Sequence[Watched], *, deadline: float) -> None:
    """Look at the hosts' connections until none of those watched is left; NotReady after that.

    As long as the kernel's own timers have more than a second to go, two seconds pass between looks: what ends before
    its timer is missed by then, and shows as an early end.
    """

    last = time.monotonic() + deadline

    def all_gone() -> bool:
        left = [watch for watch in watched if not watch.gone]
        quiet = math.inf
        for host in {watch.host.name: watch.host for watch in left}.values():
            here = [watch for watch in left if watch.host is host]
            looked, found = time.monotonic(), _connections(host, [watch.ends for watch in here])
            states = {ends: connection.state for ends, connection in found.items()}
            for watch in here:
                watch.look(states, looked)
                quiet = min(quiet, _quiet(watch, found))
        if quiet < math.inf:
            let_pass(min(quiet, last - time.monotonic()), what="the timers of connections to have a second to go")
        return all(watch.gone for watch in left)

    until(all_gone, deadline=deadline, what="all that is watched to be gone")


def _quiet(watch: Watched, found: dict[FourTuple, Socket]) -> float:
    """For how many seconds the timer of a connection lets expect nothing; infinite for one that is gone."""
    if watch.gone:
        return math.inf
    timer = found[watch.ends].timer
    return 0.0 if timer is None else max(0.0, min(timer.expires - TO_GO, BETWEEN_LOOKS))


def foretold(watch: Watched, repetitions: int, *, deadline: float) -> tuple[float, float]:
    """The lifetime of what is watched, in seconds, if it ends with the timer that runs after so many repetitions.

    What it still has to wait is read from that timer, which is set when its segment was sent again so often; NotReady
    if that is not so within `deadline` seconds, or if the connection is gone by then, or in another state.
    """

    def read() -> tuple[float, float] | None:
        looked, connection = time.monotonic(), end_between(watch.host, *watch.ends)
        if connection is None or connection.state != watch.state:
            found = "gone" if connection is None else connection.state
            raise NotReady(f"port {watch.port} of {watch.host.name} is no more in {watch.state} but {found}")
        timer = connection.timer
        if timer is None or timer.retransmits < repetitions:
            return None
        return watch.bounds(looked + timer.expires, time.monotonic() + timer.expires)

    lifetime = until(read, deadline=deadline, what=f"repetition {repetitions} at port {watch.port}")
    assert lifetime is not None
    return lifetime


def watch_time_wait(client: Host, listener: Listener) -> Watched:
    """A TIME-WAIT at the side of the listener, which closes first, from its beginning."""
    begun = time.monotonic()
    (ends,) = leave_time_wait(client, listener, closer="server")
    return Watched(listener.host, ends, "TIME-WAIT", begun)


def watch_orphan(client: Host, listener: Listener, *, linger: int | None = None) -> Watched:
    """An orphaned FIN-WAIT-2: the application at the listener has closed its socket, and the client's never will.

    `linger` are seconds that the application has set with TCP_LINGER2.
    """
    server = establish(client, listener).server
    if linger is not None:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, linger)
    return _abandon(listener.host, server, "FIN-WAIT-2")


def watch_fin_wait_1(client: Host, listener: Listener) -> Watched:
    """An orphaned FIN-WAIT-1: the application at the listener has closed its socket, and nothing arrives there."""
    connection = establish(client, listener)
    drop(listener.host, sport=connection.port, dport=listener.port)
    return _abandon(listener.host, connection.server, "FIN-WAIT-1")


def watch_last_ack(client: Host, listener: Listener) -> Watched:
    """An orphaned LAST-ACK: the client has closed, then the application at the listener; nothing arrives there."""
    connection = establish(client, listener)
    port = connection.port
    connection.client.close()
    wait_for_end(connection.server)
    drop(listener.host, sport=port, dport=listener.port)
    return _abandon(listener.host, connection.server, "LAST-ACK")


def watch_half_open(connection: RawConnection) -> Watched:
    """A half-open request: the raw peer sends its SYN, and never acknowledges the answer."""
    begun, peer = time.monotonic(), connection.peer
    connection.send("S", options=SYN_OPTIONS)
    connection.expect_syn_ack()
    ends = (peer.host.ip, connection.to), (peer.address, connection.port)
    return Watched(peer.host, ends, "SYN-RECV", begun)


def crowd_behind(connection: RawConnection, others: int) -> None:
    """So many other requests at its listener, after the answer to its own was sent again.

    Each request has its own timer, and what the kernel lets go of depends on how full the queue is just then
    (net/ipv4/inet_connection_sock.c, reqsk_timer_handler()): a second between them says whose timer is the first.
    """
    connection.wait("SA")
    connection.peer.half_open(connection.to, others)


def seconds_left(host: Host, port: int) -> float:
    """What the timer of a TIME-WAIT has left, in seconds, as inet_diag reports it.

    NotReady unless a TIME-WAIT is all that the host has of connections from or to the port.
    """
    ends = ends_at(host, port)
    if len(ends) != 1 or ends[0].timer is None or (ends[0].state, ends[0].timer.kind) != ("TIME-WAIT", "timewait"):
        raise NotReady(f"not one TIME-WAIT at port {port} of {host.name}: {'; '.join(map(str, ends)) or 'nothing'}")
    return ends[0].timer.expires


class TimerRead(NamedTuple):
    """What a timer has left, in seconds, and when that was read: by the monotonic clock and since the epoch."""

    left: float
    at: float
    read: float

    @property
    def ends(self) -> float:
        """When it is over, in seconds since the epoch; or up to CLOSE later, as it was read after that moment."""
        return self.read + self.left

    def began_anew_after(self, earlier: TimerRead) -> bool:
        """Whether it ends later than was foretold before: by more than both readings and the timer's steps may err."""
        return self.at + self.left > earlier.at + earlier.left + 2 * CLOSE


def just_begun(begun: float) -> Between:
    """What a timer of 60 s has left, in seconds, that has just begun; not before `begun`, on the monotonic clock.

    At least 55, but where the machine was put off for longer since.
    """
    return between(min(55, 60 - math.ceil(time.monotonic() - begun)), 60)


def timer_read(host: Host, port: int) -> TimerRead:
    """What the timer of a TIME-WAIT has left (`seconds_left()`), and when; again if the machine was put off."""
    reads = []

    def at_once() -> bool:
        at, read = time.monotonic(), time.time()
        reads.append(TimerRead(seconds_left(host, port), at, read))
        return time.monotonic() - at < CLOSE

    until(at_once, what=f"the timer of port {port} to be read at once")
    return reads[-1]


def _abandon(host: Host, held: socket.socket, state: str) -> Watched:
    """Close a socket, which leaves its connection in a state."""
    begun, ends = time.monotonic(), (endpoint(held), far_endpoint(held))
    held.close()
    until(lambda: states_between(host, *ends) == [state], what=state)
    return Watched(host, ends, state, begun)


def _connections(host: Host, wanted: Collection[FourTuple]) -> dict[FourTuple, Socket]:
    """Those of these connections that a host has, by their ends."""
    if len(wanted) <= ONE_BY_ONE:
        found = [connection for ends in wanted if (connection := end_between(host, *ends)) is not None]
    else:
        found = sockets(host, "exclude listening", family=host.family, details=False)
    return {(connection.local, connection.remote): connection for connection in found}
