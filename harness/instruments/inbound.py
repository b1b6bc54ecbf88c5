"""What a raw peer's segments meet at a server that has closed: SYNs and RSTs at TIME-WAIT, others before it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import NotReady
from harness.observe import counters
from harness.traffic import SYN_OPTIONS, RawPeer, listen
from harness.traffic.clocks import come_and_go
from harness.traffic.timestamps import stamp
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.traffic import Listener, RawConnection


class Answer(NamedTuple):
    """What became of a segment at a TIME-WAIT: the answer's flags, and the state in which it left the connection."""

    flags: str
    state: str


LET_IN = Answer("SA", "SYN-RECV")
REFUSED = Answer("A", "TIME-WAIT")
# No answer, or no connection.
NONE = ""
# What the clock of the raw peer reads unless told.
CLOCK = 1_000_000


class Door:
    """A server that closes first, and a raw peer that knocks with SYNs at the TIME-WAIT which this leaves."""

    def __init__(self, server: Host, near: Host) -> None:
        self.listener = listen(server)
        self.peer = RawPeer(server, near)

    def leave_behind(self, clock: int | None = CLOCK) -> RawConnection:
        """A connection that the server has closed first; its TIME-WAIT has seen the timestamp `clock` last, or none."""
        connection = self.peer.connection(self.listener)
        come_and_go(connection, self.listener, clock)
        until(lambda: self.states(connection) == ["TIME-WAIT"], what="TIME-WAIT")
        return connection

    def states(self, connection: RawConnection) -> list[str]:
        """The states of the server's end of a connection."""
        return _states(connection)

    def knock(self, beyond: int, clock: int | None, *, last: int | None = CLOCK) -> Answer:
        """The answer to a SYN whose number is so far beyond the old connection's end, with a timestamp or none.

        `last` is the timestamp that the old connection has seen last. NotReady if it is refused with an ACK that is not
        the last one of the old connection.
        """
        connection = self.leave_behind(last)
        end, acknowledged = connection.seq, connection.ack
        connection.send("S", seq=(end + beyond) % 2**32, options=[*SYN_OPTIONS, *stamp(clock)])
        reply = connection.wait(lambda _: True)
        if str(reply.flags) == "A" and (reply.seq, reply.ack) != (acknowledged, end):
            raise NotReady(f"the ACK has the numbers {reply.seq}, {reply.ack}, not {acknowledged}, {end}")
        (state,) = self.states(connection)
        return Answer(str(reply.flags), state)

    def reset(self, beyond: int, clock: int | None) -> list[str]:
        """What an RST leaves of a TIME-WAIT: the states of the server's end of the connection.

        Its number is so far beyond the one that is next; it has a timestamp or none.
        """
        connection = self.leave_behind()
        before = counters(self.listener.host).Tcp.InSegs
        connection.send("R", seq=(connection.seq + beyond) % 2**32, options=stamp(clock))
        until(lambda: counters(self.listener.host).Tcp.InSegs > before, what="the RST to arrive")
        return self.states(connection)


def leave_in_last_ack(peer: RawPeer, listener: Listener) -> RawConnection:
    """A connection that a raw peer has closed first and whose other side waits in LAST-ACK for the last ACK.

    `seq` is the number behind the peer's FIN, `ack` that behind the other side's.
    """
    connection = peer.connection(listener)
    connection.handshake()
    connection.send("FA")
    connection.wait("A")
    listener.accept()[0].close()
    connection.ack = (connection.wait("FA").seq + 1) % 2**32
    return connection


def leave_in_fin_wait_2(
    peer: RawPeer, listener: Listener, *, held: bool = False
) -> tuple[RawConnection, socket.socket]:
    """A connection whose FIN a raw peer has acknowledged, and the host's socket, which the application has closed.

    `held` is whether it holds it still, and has only shut down its sending side. `seq` is the peer's next number, `ack`
    that behind the host's FIN.
    """
    connection = peer.connection(listener)
    connection.handshake()
    (accepted,) = listener.accept()
    if held:
        accepted.shutdown(socket.SHUT_WR)
    else:
        accepted.close()
    connection.ack = (connection.wait("FA").seq + 1) % 2**32
    connection.send("A")
    until(lambda: _states(connection) == ["FIN-WAIT-2"], what="FIN-WAIT-2")
    # On a busy machine the FIN was repeated before the ACK came: what comes from now on answers something else.
    connection.taken = len(connection.replies())
    return connection, accepted


def reach(connection: RawConnection, flags: str, beyond: int = 0, payload: bytes = b"") -> Answer:
    """What becomes of a segment that is so far beyond the peer's next number: NONE for no answer, and for no state."""
    host = connection.peer.host
    before = counters(host).Tcp.InSegs
    connection.send(flags, payload, seq=(connection.seq + beyond) % 2**32)
    until(lambda: counters(host).Tcp.InSegs > before, what="the segment to arrive")
    left = _states(connection)
    new = connection.replies()[connection.taken :]
    connection.taken += len(new)
    return Answer(str(new[-1].flags) if new else NONE, left[0] if left else NONE)


def _states(connection: RawConnection) -> list[str]:
    """The states of the host's end of a connection."""
    end = connection.at_host
    return [] if end is None else [end.state]
