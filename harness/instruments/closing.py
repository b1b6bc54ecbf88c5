"""How two sides close: both at once, or one first and the ACK of the other's FIN is lost."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.observe import states_at
from harness.traffic import drop, establish, hold
from harness.traffic.connection import endpoint, error_of, far_endpoint, wait_for_end
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.observe import Capture, Segment
    from harness.observe.sockets import Endpoint
    from harness.traffic import Drop, Listener

# The other side repeats its FIN with doubling pauses, and more than one may have been dropped.
REPEATED = 30.0


def states_of_both(client: Host, listener: Listener) -> dict[str, list[str]]:
    """The states of the connections to a listener, at either side."""
    return {"client": states_at(client, listener.port), "server": states_at(listener.host, listener.port)}


class SimultaneousClose:
    """Both sides of a new connection close at once: first send_fins(), then deliver_fins(), then deliver_acks().

    `packets` is a capture of the listener's host that sees this connection alone.
    """

    def __init__(self, client: Host, listener: Listener, packets: Capture) -> None:
        self._client, self._listener, self._packets = client, listener, packets
        self._connection = establish(client, listener)
        port, server = listener.port, listener.host
        self._fins = [hold(client, "FA", sport=port), hold(server, "FA", dport=port)]
        self._acks: list[Drop] = []

    @property
    def states(self) -> dict[str, list[str]]:
        """The states of both sides."""
        return states_of_both(self._client, self._listener)

    def send_fins(self) -> None:
        """Both sides close; neither FIN arrives."""
        for end in self._connection:
            end.close()
        until(lambda: all(fin.count for fin in self._fins), what="both FINs")

    def deliver_fins(self) -> None:
        """Both FINs arrive; neither ACK does."""
        # By their numbers: a repeated FIN acknowledges the other side's as well.
        first = {side: self._packets.segments(direction=side, flags="FA")[0] for side in ("in", "out")}
        self._acks = [
            drop(self._listener.host, ack=first["out"].next_seq),
            drop(self._client, ack=first["in"].next_seq),
        ]
        for fin in self._fins:
            fin.release()
        closing = {"client": ["CLOSING"], "server": ["CLOSING"]}
        until(lambda: self.states == closing, what="CLOSING on both sides")

    def deliver_acks(self) -> None:
        """The FINs are repeated, and their ACKs arrive."""
        for ack in self._acks:
            ack.lift()
        until(lambda: ["CLOSING"] not in self.states.values(), what="the FINs to be repeated and acknowledged")


@dataclass(frozen=True)
class LostAck:
    """A connection that one side closed first, and whose other side waits in LAST-ACK because the last ACK was lost.

    `local` and `remote` are its endpoints as the side has them that closed first (`closer`); `end` is the other side's
    socket, which its application still holds. `lost` drops the last ACK, `repeats` what repeats its FIN: None where
    that arrives.
    """

    closer: Host
    peer: Host
    local: Endpoint
    remote: Endpoint
    end: socket.socket
    lost: Drop
    repeats: Drop | None

    @property
    def states(self) -> list[str]:
        """The states of the other side."""
        return states_at(self.peer, self.remote[1])

    @property
    def error(self) -> str:
        """The error that the other side's application finds, by name."""
        return error_of(self.end)

    def repeat(self) -> None:
        """Let the repeated FIN arrive, and what answers it, and the other side leave LAST-ACK."""
        if self.repeats is not None:
            self.repeats.lift()
        self.lost.lift()
        until(lambda: not self.states, deadline=REPEATED, what="the other side's LAST-ACK to end")

    def answers(self, packets: Capture) -> list[Segment]:
        """What a capture of the other side shows of answers to its FINs, the lost ACK included."""
        received = packets.segments(direction="in", sport=self.local[1], dport=self.remote[1])
        closed = next(i for i, segment in enumerate(received) if segment.flags == "FA")
        return [segment for segment in received[closed:] if segment.flags != "FA"]


def lose_last_ack(closer: Host, listener: Listener, *, again: bool = False) -> LostAck:
    """Connect to a listener, close first, and lose the ACK of the other side's FIN.

    The FIN is repeated, and that is lost as well; with `again` it arrives, and each ACK of it is lost.
    """
    client, server = establish(closer, listener)
    local, remote = endpoint(client), far_endpoint(client)
    lost = drop(listener.host, "A", sport=local[1], dport=remote[1], count=None if again else 1)
    repeats = None if again else drop(closer, "FA", sport=remote[1], dport=local[1], first=2)
    client.shutdown(socket.SHUT_WR)
    wait_for_end(server)
    server.shutdown(socket.SHUT_WR)
    until(lambda: lost.count, what="the last ACK to be lost")
    client.close()
    return LostAck(closer, listener.host, local, remote, server, lost, repeats)
