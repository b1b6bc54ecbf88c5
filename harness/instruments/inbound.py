"""Who is let in where TIME-WAIT is: SYNs of a raw peer at a server that has closed first."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness.errors import NotReady
from harness.observe import states_between
from harness.traffic import SYN_OPTIONS, RawPeer, listen
from harness.traffic.clocks import come_and_go
from harness.traffic.timestamps import stamp
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.traffic import Listener, RawConnection


class Answer(NamedTuple):
    """What became of a SYN at a TIME-WAIT: the answer's flags, and the state in which it left the connection."""

    flags: str
    state: str


LET_IN = Answer("SA", "SYN-RECV")
REFUSED = Answer("A", "TIME-WAIT")
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
        listener, peer = self.listener, self.peer
        return states_between(listener.host, listener.address, (peer.address, connection.port))

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
