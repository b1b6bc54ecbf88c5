"""A gateway with one port outside for all its clients: a server has the TIME-WAIT of one when the next one comes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import NotReady
from harness.laws.serial import older
from harness.observe import states_at
from harness.observe.conntrack import drop_expired
from harness.traffic import connect
from harness.traffic.connector import CONNECTED
from harness.traffic.ports import give_ports
from harness.waiting import PATIENCE, until

if TYPE_CHECKING:
    from harness.lab import BehindNat, Host
    from harness.observe import Capture, Segment
    from harness.traffic import Listener

# How long conntrack remembers a connection that has ended, was reset or has had no answer to its SYN, in seconds: 120,
# 10 and 120 unless set. Meanwhile its port is not given to another. And what is late begins no connection there, which
# would last for days.
FORGETFUL = {"time_wait": 0, "close": 0, "syn_sent": 1}
FIRST_INSIDE, NUMBER = 41000, 50000


@dataclass(frozen=True)
class Visit:
    """A connection that came through the port: what connect() said, in which time, and what the server saw of it.

    `last` is the segment of the one before it that the server got last, if there was one before. `seen` are its own.
    """

    result: str
    seconds: float
    last: Segment | None
    seen: list[Segment]

    @property
    def syns(self) -> list[Segment]:
        """Its SYNs: more than one if the first was not answered with a SYN-ACK."""
        return [segment for segment in self.seen if segment.flags == "S"]

    @property
    def until_answered(self) -> float:
        """How long after its first SYN the server's SYN-ACK left, in seconds; NotReady if none did."""
        answers = [segment.time for segment in self.seen if segment.flags == "SA"]
        if not answers:
            seen = " ".join(segment.flags for segment in self.seen) or "nothing"
            raise NotReady(f"no SYN-ACK left the server: connect() said {self.result}, the server saw {seen}")
        return answers[0] - self.syns[0].time

    @property
    def is_older(self) -> bool:
        """Whether its first timestamp is older than the last one of the connection before it."""
        before, first = self.last.tsval if self.last else None, self.syns[0].tsval
        return before is not None and first is not None and older(first, before)

    @property
    def opening(self) -> list[str]:
        """The flags of its segments, those of the server among them, up to its first SYN-ACK."""
        flags = [segment.flags for segment in self.seen]
        return flags[: flags.index("SA") + 1] if "SA" in flags else flags


def give_one_port(gateway: Host, number: int = NUMBER) -> None:
    """From now on a gateway that masquerades has one port outside, and forgets at once who had it.

    The outside is its last interface. Before 5.0 it forgets when drop_expired() is called.
    """
    for state, seconds in FORGETFUL.items():
        gateway.conntrack.timeouts[state] = seconds
    gateway.conntrack.loose = False
    gateway.nat.masquerade(ports=(number, number))


class OutsidePort:
    """The port, at the gateway of `net`; `packets` is a capture of the server's, where `listener` is.

    Each connection has another port inside. What the gateway knows of it is forgotten as soon as it has ended, as it is
    after minutes, or where ports are short.
    """

    def __init__(self, net: BehindNat, listener: Listener, packets: Capture, number: int = NUMBER) -> None:
        self._net, self._listener, self._packets = net, listener, packets
        self._inside = itertools.count(FIRST_INSIDE)
        self.number = number
        give_one_port(net.gateway, number)

    def change(self, number: int) -> None:
        """Give the clients another port from now on."""
        self.number = number
        give_one_port(self._net.gateway, number)

    @property
    def states(self) -> list[str]:
        """The states of the server's connections with the port."""
        return states_at(self._net.server, self.number)

    def _seen(self) -> list[Segment]:
        return self._packets.segments(port=self.number)

    def leave_time_wait(self, client: Host) -> None:
        """Let a client come and go until the server has a TIME-WAIT of it.

        On a busy machine a FIN is repeated though it has arrived: TIME-WAIT answers, and an RST to that ends it.
        """

        def stays() -> bool:
            self.visit(client)
            return self.states == ["TIME-WAIT"]

        until(stays, what="a TIME-WAIT at the server")

    def visit(self, client: Host, *, deadline: float = PATIENCE) -> Visit:
        """A connection of a client's, whose server closes first.

        A connect() that fails is a result like any other; NotReady if it has not ended by the deadline (in seconds).
        """
        before = self._seen()
        drop_expired(self._net.gateway)
        give_ports(client, first=next(self._inside))
        with connect(client, self._listener, wait=True, deadline=deadline) as attempts:
            (attempt,) = attempts
            if attempt.result == CONNECTED:
                (accepted,) = self._listener.accept()
                accepted.close()
                # Before the client's FIN: what overtakes something on the way has TIME-WAIT answer, and end with RST.
                until(lambda: self.states == ["FIN-WAIT-2"], what="the client's ACK")
        until(lambda: self.states in (["TIME-WAIT"], []), what="the client's FIN")
        incoming = [segment for segment in before if segment.direction == "in"]
        seen = self._seen()[len(before) :]
        return Visit(attempt.result, attempt.seconds or 0.0, incoming[-1] if incoming else None, seen)
