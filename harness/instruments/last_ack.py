"""The end of a connection that its peer has left: in LAST-ACK, and no ACK reaches it any more."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from harness.observe import count
from harness.traffic import drop
from harness.traffic.connection import establish, wait_for_end
from harness.traffic.ports import give_ports
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.observe import Capture, Segment
    from harness.traffic import Listener

# LAST-ACK of one who has closed the socket ends when the FIN was sent again tcp_orphan_retries times, which takes less.
DEADLINE = 60.0


class OldPeer:
    """The server's end of a connection that the client has closed; the client's end is in TIME-WAIT.

    `end` is its socket. An application that has closed it (`closes`) is told nothing any more; one that has only shut
    down its sending side can still ask. `packets` is a capture of the server.
    """

    def __init__(self, client: Host, listener: Listener, packets: Capture, port: int, *, closes: bool) -> None:
        self.port = port
        self._server, self._packets = listener.host, packets
        give_ports(client, first=port)
        connection = establish(client, listener)
        connection.say(b"data")
        connection.client.close()
        self.end = connection.server
        wait_for_end(self.end)
        self._lost = drop(self._server, "A", sport=port)
        self.end.shutdown(socket.SHUT_WR)
        if closes:
            self.end.close()
        time_wait = f"state time-wait sport = :{port}"
        until(lambda: count(client, time_wait, family=client.family), what=f"port {port} in TIME-WAIT")

    @property
    def in_last_ack(self) -> bool:
        """Whether it still is."""
        return count(self._server, f"state last-ack dport = :{self.port}", family=self._server.family) == 1

    def hear_again(self) -> None:
        """Let ACKs pass."""
        self._lost.lift()

    def wait_for_end(self) -> None:
        """Let it leave LAST-ACK, and the connection that comes after it be heard."""
        until(lambda: not self.in_last_ack, what="the end of LAST-ACK", deadline=DEADLINE)
        self._lost.lift()

    def resets(self) -> list[Segment]:
        """The RSTs that it was sent."""
        return [s for s in self._packets.segments(direction="in", sport=self.port) if "R" in s.flags]

    def reset_answers(self) -> str:
        """The flags of what it had sent last before the RST came."""
        (reset,) = self.resets()
        sent = self._packets.segments(direction="out", dport=self.port)
        return [segment for segment in sent if segment.time < reset.time][-1].flags
