"""Numbered datagrams from one host to another on a cable that is like a real one: which arrive, how long they take.

What a cable does to frames is seen here without what TCP makes of it.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lab import Cable, Host

NUMBER = struct.Struct("=I")
# In bytes: Ethernet, IPv4 or IPv6, UDP.
HEADERS = {socket.AF_INET: 14 + 20 + 8, socket.AF_INET6: 14 + 40 + 8}
# In bytes, of what has arrived and was not read; without the right to more the kernel gives what net.core.rmem_max
# allows, which is little for a train of datagrams and a slow processor.
ROOM = 8 << 20
SO_RCVBUFFORCE = 33
# So many are sent before those that have arrived are read.
UNREAD = 64
# In seconds: how long a datagram may take on the longest cable, and how long a train of them.
LONGEST, TRAIN = 250.0, 120.0


@dataclass
class Datagrams:
    """Two sockets, and the cable between their hosts."""

    here: socket.socket
    there: socket.socket
    cable: Cable
    to: str

    def send(self, n: int, size: int = 100) -> list[int]:
        """Send so many datagrams at once, numbered from 1, of `size` bytes each; those that arrive, in their order.

        Returns when each has arrived or is lost, and none is on the way; NotReady after two minutes.
        """
        before, came = self._lost(), list[int]()
        for number in range(1, n + 1):
            self.here.send(NUMBER.pack(number).ljust(size, b"."))
            if number % UNREAD == 0:
                came += self.arrived()

        def done() -> bool:
            came.extend(self.arrived())
            # What comes twice is counted twice among those that passed: only its number says that it is the same.
            return len(set(came)) + self._lost() - before >= n and not self.cable.waiting()

        until(done, deadline=TRAIN, what=f"{n} datagrams arrived or lost")
        return came + self.arrived()

    def arrived(self) -> list[int]:
        """The numbers of the datagrams that have arrived and were not read yet."""
        self.there.setblocking(False)
        numbers = []
        while True:
            try:
                numbers.append(NUMBER.unpack_from(self.there.recv(NUMBER.size))[0])
            except BlockingIOError:
                return numbers

    def round_trip(self) -> float:
        """The seconds that a datagram takes there and back."""
        for end in (self.here, self.there):
            end.settimeout(LONGEST)
        began = time.monotonic()
        self.here.send(b"there")
        self.there.recv(10)
        self.there.send(b"back")
        self.here.recv(10)
        return time.monotonic() - began

    def _lost(self) -> int:
        towards = self.cable.counts()[self.to]
        return towards.lost + towards.overflowed + towards.unasked


@contextmanager
def datagrams(here: Host, there: Host, cable: Cable) -> Iterator[Datagrams]:
    """Datagrams from one host to another, in the lab's family, on a cable that both are on and that has a line."""
    with here.socket(socket.SOCK_DGRAM) as sending, there.socket(socket.SOCK_DGRAM) as receiving:
        for host, end in ((here, sending), (there, receiving)):
            end.bind((host.ip, 0))
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
            with suppress(PermissionError):
                end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        sending.connect(receiving.getsockname())
        receiving.connect(sending.getsockname())
        yield Datagrams(sending, receiving, cable, there.name)
