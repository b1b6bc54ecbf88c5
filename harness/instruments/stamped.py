"""A connection whose peer writes any timestamp into its segments, or none: what the kernel takes, what it echoes."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from harness.laws.serial import distance
from harness.observe import counting
from harness.observe.paws import rejected
from harness.traffic import RawPeer, listen
from harness.traffic.clocks import shake_hands
from harness.traffic.connection import peek
from harness.traffic.timestamps import stamp, stamps_of
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.lab import Host

CLOCK = 3_000_000_000
WORDS = b"data"


class Stamped:
    """A raw peer's connection with a server; without a clock it does not use the option.

    `last` is the timestamp that the server has got last from it, `end` the server's socket.
    """

    def __init__(self, server: Host, near: Host, clock: int | None = CLOCK) -> None:
        listener = listen(server)
        self.server, self.last = server, clock
        self.raw = RawPeer(server, near).connection(listener)
        self._theirs = shake_hands(self.raw, clock)
        (self.end,) = listener.accept()

    def say(self, clock: int | None) -> bytes:
        """Send WORDS in turn, with a timestamp or none; what the application can then read. take() makes it read."""
        with counting(self.server) as moved:
            self.raw.peer.send(self._frame(clock, self.raw.seq))
            until(lambda: peek(self.end) or rejected(moved.delta), what="the segment to be taken or rejected")
        return peek(self.end)

    def take(self, clock: int | None) -> None:
        """Let the application read what was said with this timestamp, so that the next WORDS are in turn."""
        self.raw.seq += len(self.end.recv(1024))
        self.last = clock if clock is not None else self.last

    def echo(self, *later: int, ahead: int = 0) -> int:
        """What the one ACK echoes that answers several WORDS, one behind the other; in ticks beyond `last`.

        Each of them has a timestamp so much later than `last`. With `ahead` the first is so many bytes ahead of its
        turn. The server delays its ACKs; should it have answered one by one, on a busy machine, all is done once more.
        """
        while (echoed := self._echo_once(later, ahead)) is None:
            pass
        return echoed

    def _echo_once(self, later: Sequence[int], ahead: int) -> int | None:
        """The same, or None if there was more than one ACK."""
        # include/uapi/linux/tcp.h: 0 is for those who answer soon, so that the ACK can wait for the answer.
        self.end.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        last, before, first = self.last or 0, len(self.raw.replies()), self.raw.seq + ahead
        frames = [self._frame(last + ticks, first + n * len(WORDS)) for n, ticks in enumerate(later)]
        for frame in frames:
            self.raw.peer.send(frame)
        if not ahead:
            self.raw.seq = first + len(later) * len(WORDS)
        until(lambda: self._acknowledged_after(before) == self.raw.seq, what="the ACK")
        self.last = last + later[-1]
        if len(self.raw.replies()) != before + 1:
            return None
        _, echoed = stamps_of(self.raw.replies()[-1]) or (0, 0)
        return distance(last, echoed)

    def _acknowledged_after(self, before: int) -> int | None:
        """What the last of the server's segments acknowledges, if there was one since then."""
        replies = self.raw.replies()
        return int(replies[-1].ack) if len(replies) > before else None

    def _frame(self, clock: int | None, number: int) -> bytes:
        return self.raw.peer.frame(
            ports=(self.raw.port, self.raw.to),
            flags="PA",
            seq=number,
            ack=self.raw.ack,
            options=stamp(clock, self._theirs),
            payload=WORDS,
        )
