"""A four-tuple that is used twice, by an old connection and by one that takes its TIME-WAIT over.

What is left of the old one - a segment that was late, one made up with its numbers - can then arrive at the new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import NotReady
from harness.instruments.take_over import leave_behind
from harness.traffic.connection import Connection, establish
from harness.traffic.ports import give_ports
from harness.traffic.raw import deliver

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.observe import Capture, Segment
    from harness.traffic import Listener

OLD_DATA = b"old data"


class TwoLives:
    """The old connection, from a port of the client's, and the new one once begin_again() was called.

    `packets` is a capture of one of the two hosts, which sees what both send. `old_to_server` and `old_to_client` are
    the last segments of the old connection.
    """

    def __init__(self, client: Host, listener: Listener, packets: Capture, port: int) -> None:
        self.port = port
        self._client, self._listener, self._packets = client, listener, packets
        leave_behind(client, listener, port, OLD_DATA)
        self.old_to_server, self.old_to_client = self.to_server, self.to_client

    @property
    def to_server(self) -> Segment:
        """The last segment to the server that was seen, forged ones among them."""
        return self._packets.segments(sport=self.port)[-1]

    @property
    def to_client(self) -> Segment:
        """The last segment to the client that was seen, forged ones among them."""
        return self._packets.segments(dport=self.port)[-1]

    @property
    def syn(self) -> Segment:
        """The SYN that was seen last."""
        return self._packets.segments(flags="S", sport=self.port)[-1]

    @property
    def data(self) -> Segment:
        """The segment that carried the old connection's data."""
        return self._first_with_data()[1]

    def begin_again(self) -> Connection:
        """The new connection, from the same port, which it takes over."""
        give_ports(self._client, first=self.port)
        return establish(self._client, self._listener)

    def repeat_data(self) -> None:
        """Let the old connection's data arrive at the server once more, as late segments do."""
        deliver(self._listener.host, self._first_with_data()[0])

    def _first_with_data(self) -> tuple[bytes, Segment]:
        for packet in self._packets.packets():
            segment = packet.segment()
            if segment is not None and segment.sport == self.port and segment.payload:
                return packet.frame, segment
        raise NotReady(f"no data from port {self.port} was captured at {self._packets.host.name}")
