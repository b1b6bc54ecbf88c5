"""Workers that share a port with SO_REUSEPORT, of which one may hang, and clients that the kernel deals out to them."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from harness.errors import NotReady
from harness.laws import before
from harness.observe import counting, half_open
from harness.traffic import Attempts, connect, echo, listen
from harness.traffic.connector import CLOSED, CONNECTED, DATA, OPEN, learn
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.lab import Host
    from harness.observe import Counting
    from harness.traffic import Listener

# Of a machine that is ten times as slow. A deadline measures nothing.
DEADLINE = 60.0
RESET = "ECONNRESET"


@dataclass
class Workers:
    """`n` workers at one port of a server; the first of them does not accept, if one `hangs`.

    With SO_REUSEPORT each has a socket and a queue of its own, otherwise (`shared` False) one socket is for all.
    """

    host: Host
    n: int
    backlog: int
    hangs: bool = True
    shared: bool = True
    sockets: list[Listener] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number in range(self.n if self.shared else 1):
            port = self.sockets[0].port if self.sockets else 0
            answer = None if number == 0 and self.hangs and self.shared else echo
            self.sockets.append(listen(self.host, self.backlog, port=port, shared=self.shared, answer=answer))

    @property
    def address(self) -> tuple[str, int]:
        """Where they are."""
        return self.sockets[-1].address

    def longest_queue(self) -> int:
        """How many connections wait at the one at which most do, as `ss -lnt` has it."""
        return max(each.waiting for each in self.sockets)

    def stuck(self) -> int:
        """How many connections wait at the one that hangs."""
        return self.sockets[0].waiting if self.hangs and self.shared else 0

    def restart_first(self) -> None:
        """End the first one, and start another in its place."""
        self.hangs = False
        self.sockets[0].close()
        self.sockets[0] = listen(self.host, self.backlog, port=self.address[1], shared=True, answer=echo)


class Became(NamedTuple):
    """What became of clients: `served` has an answer; `in_vain` are connected, and wait; `outside` are not even
    connected; `reset` were connected.
    """

    served: int
    in_vain: int
    outside: int
    reset: int


class Service(Protocol):
    """Whatever listens at an address of a host."""

    @property
    def host(self) -> Host:
        """Where it runs."""

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""


def nobody() -> int:
    """How many connections wait at a worker that hangs, where none hangs."""
    return 0


class Crowd:
    """n clients that come one after another, each when it is known what became of the one before, and ask.

    So no queue is full but that of a worker that hangs, however busy the machine is; `stuck` says how many connections
    wait there.
    """

    def __init__(
        self, client: Host, service: Service, n: int, *, stuck: Callable[[], int] = nobody, request: bytes = b"?"
    ) -> None:
        self._request, self._service, self._hangs = request, service, stuck is not nobody
        self._clients = Attempts(client)
        # What each that has asked has learned, by its number.
        self._learned: dict[int, str] = {}
        with counting(service.host) as moved:
            for _ in range(n):
                self._clients.each += connect(client, service.address).each
                try:
                    until(lambda: self._is_known(stuck, moved), deadline=DEADLINE, what="what became of a client")
                except NotReady:
                    dropped = moved.TcpExt.ListenDrops
                    raise NotReady(
                        f"a client served, stuck or turned away: {self.seen()}, {stuck()} stuck, {dropped} SYNs "
                        f"dropped; not known within {DEADLINE:g} s"
                    ) from None

    def seen(self) -> Became:
        """What became of the clients up to now."""
        self._clients.results()
        for number, each in enumerate(self._clients):
            if each.result != CONNECTED or self._learned.get(number, OPEN) != OPEN:
                continue
            if number not in self._learned:
                with contextlib.suppress(OSError):
                    each.socket.send(self._request)
            self._learned[number] = learn(each.socket)
        fates = Counter(self._learned.values())
        return Became(fates[DATA], fates[OPEN] + fates[CLOSED], self._clients.pending, fates[RESET])

    def in_the_end(self) -> Became:
        """Wait until each is served, or knows that it is not."""
        until(lambda: not (now := self.seen()).in_vain + now.outside, deadline=DEADLINE, what="each client to know")
        return self.seen()

    def _is_known(self, stuck: Callable[[], int], moved: Counting) -> bool:
        """Whether all that have come are served, or stuck, or were turned away (and come again).

        How many are stuck is asked only if somebody waits: that takes reading tables of the kernel.
        """
        now = self.seen()
        if now.in_vain:
            waiting = stuck()
            if self._hangs and before("accept-queue-full-drops-syns"):
                # A SYN is answered although the queue is full: the client is connected, the server still waits for its
                # ACK.
                waiting += half_open(self._service.host, self._service.address[1])
            # Who has come to be stuck meanwhile is in vain as well: that is asked last.
            now = self.seen()
            if now.in_vain > waiting:
                return False
        return not now.outside or now.outside <= moved.TcpExt.ListenDrops
