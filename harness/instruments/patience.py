"""How long connect() and an established connection go on trying when nobody answers."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import NotReady
from harness.instruments.retransmissions import loss_probes, prefer_short_rto, transmissions
from harness.laws import since
from harness.laws.timers import RTO_MAX, RTO_MIN, doubling, syn_waits
from harness.observe import socket_of, states
from harness.traffic import answered, connect
from harness.traffic.connection import endpoint, error_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.lab import Host
    from harness.observe import Capture, Timer
    from harness.observe.counters import Delta
    from harness.observe.sockets import Endpoint
    from harness.traffic import Listener

SYN_RETRIES = "net.ipv4.tcp_syn_retries"
SYN_LINEAR = "net.ipv4.tcp_syn_linear_timeouts"
RETRIES2 = "net.ipv4.tcp_retries2"
RTO_MAX_MS = "net.ipv4.tcp_rto_max_ms"
# include/net/tcp.h, TCP_RETR2.
DEFAULT_RETRIES2 = 15
BYTE = b"x"
NOWHERE: Endpoint = ("", 0)


class End(NamedTuple):
    """How the kernel ended a connection: the name of the errno, and when, in seconds since the epoch.

    By the wall clock as it was before: that it is set meanwhile, as by a machine that was moved, changes nothing.
    `moment` is the same on the monotonic clock.
    """

    error: str
    at: float
    moment: float


NOT_YET = End("", 0.0, 0.0)


class Ends:
    """Sockets that the kernel will end with an error."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._open: dict[int, socket.socket] = {}
        self._ended: dict[socket.socket, End] = {}
        # Begun by packets, which have the wall clock's times, and ended by the kernel's timers, which have not.
        self._ahead = time.time() - time.monotonic()

    def __getitem__(self, connection: socket.socket) -> End:
        """How it ended; KeyError before that."""
        return self._ended[connection]

    def watch(self, *connections: socket.socket) -> None:
        """Look at these from now on."""
        for connection in connections:
            self._poll.register(connection, 0)
            self._open[connection.fileno()] = connection

    def wait(self, *wanted: socket.socket, deadline: float) -> None:
        """Sleep until each of these has its error; NotReady after `deadline` seconds. The others are looked at, too."""
        give_up = time.monotonic() + deadline
        while set(wanted) - self._ended.keys():
            if time.monotonic() > give_up:
                raise NotReady(f"{len(set(wanted) - self._ended.keys())} connections did not end within {deadline:g} s")
            for descriptor, _ in self._poll.poll(1000):
                now = time.monotonic()
                self._poll.unregister(descriptor)
                connection = self._open.pop(descriptor)
                self._ended[connection] = End(error_of(connection), now + self._ahead, now)


def linear_timeouts(host: Host) -> int:
    """tcp_syn_linear_timeouts, 0 where there is none: before syn-retries-linear-at-first."""
    return int(host.sysctl[SYN_LINEAR]) if SYN_LINEAR in host.sysctl else 0


def syn_waits_of(host: Host) -> list[float]:
    """What the kernel's law makes of the knobs of a host: the waits between SYNs, in seconds, and the last one."""
    return syn_waits(int(host.sysctl[SYN_RETRIES]), linear_timeouts(host))


def side_by_side(values: Sequence[int]) -> list[Sequence[int]]:
    """What can be tried at the same time: values of tcp_syn_retries or the like, each on a host of its own.

    All of them where each namespace has the knob, one after the other where it is the machine's.
    """
    return [values] if since("syn-retries-per-namespace") else [[value] for value in values]


@dataclass
class Knock:
    """A connect() from a host with tcp_syn_retries and tcp_syn_linear_timeouts of its own, where nobody answers.

    After knock_all(): the client's `source`, the error, and when it came, in seconds since the epoch.
    """

    host: Host
    listener: Listener
    retries: int
    linear: int
    source: Endpoint = NOWHERE
    end: End = NOT_YET

    @property
    def law(self) -> list[float]:
        """The waits between its SYNs and the last one, in seconds, as the kernel's law has them."""
        return syn_waits(self.retries, self.linear)

    def begin(self) -> socket.socket:
        """Set the knobs, and call connect()."""
        self.host.sysctl[SYN_RETRIES] = self.retries
        if SYN_LINEAR in self.host.sysctl:
            self.host.sysctl[SYN_LINEAR] = self.linear
        connecting = connect(self.host, self.listener)[0].socket
        self.source = endpoint(connecting)
        return connecting

    def syns(self, seen: Capture) -> list[float]:
        """When its SYNs were sent, in seconds since the epoch."""
        return transmissions(seen, self.source)

    def seconds(self, seen: Capture) -> float:
        """How long connect() tried, from the first SYN on."""
        return self.end.at - self.syns(seen)[0]


def knock_all(knocks: Sequence[Knock]) -> None:
    """Let all knock, side by side where the kernel lets them, until connect() has failed."""
    for together in side_by_side([knock.retries for knock in knocks]):
        ends, begun = Ends(), [knock for knock in knocks if knock.retries in together]
        connecting = [knock.begin() for knock in begun]
        ends.watch(*connecting)
        ends.wait(*connecting, deadline=2 * max(sum(knock.law) for knock in begun) + 60)
        for knock, connection in zip(begun, connecting, strict=True):
            knock.end = ends[connection]


class BlockingConnect(threading.Thread):
    """A connect() that blocks, of an application that has set SO_SNDTIMEO to so many seconds, or not (None).

    When it is over, `seconds` is how long it took, and `state` what the kernel makes of the connection then.
    """

    def __init__(self, host: Host, to: Listener, patience: int | None = None) -> None:
        super().__init__(daemon=True)
        self.host = host
        self.patience = patience
        self.socket = host.socket()
        self._address = to.address
        self._error = -1
        self.seconds = 0.0
        self.state = ""
        host.lab.on_close(self._give_up)
        if patience is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", patience, 0))
        self.start()

    def run(self) -> None:
        """Connect, and take the time."""
        began = time.monotonic()
        self._error = self.socket.connect_ex(self._address)
        self.seconds = round(time.monotonic() - began, 2)
        # Not by inet_diag, which takes its time on a busy machine: tcpi_state of struct tcp_info.
        self.state = states.printed(self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0])

    def result(self, deadline: float) -> str:
        """The name of the errno, or "connected"; NotReady after `deadline` seconds."""
        self.join(deadline)
        if self.is_alive():
            raise NotReady(f"connect() from {self.host.name} still blocks after {deadline:g} s")
        return errno.errorcode[self._error] if self._error else "connected"

    def _give_up(self) -> None:
        """End a connect() that still blocks: a descriptor is not closed under the thread that is in it."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.join(30)
        self.socket.close()


def last_timer(host: Host, connecting: socket.socket, retransmits: int) -> Timer | None:
    """The timer of a SYN once it has been sent again so often."""
    timer = socket_of(host, connecting).timer
    return timer if timer and timer.retransmits >= retransmits else None


@dataclass
class Stranded:
    """An established connection whose peer will fall silent, of a host with tcp_retries2 `retries` (None: the default).

    `rto_min` and `rto_max`, in seconds, are other bounds of its RTO than the kernel's. After give_up(): how the kernel
    `end`ed it.
    """

    name: str
    host: Host
    listener: Listener
    retries: int | None = None
    rto_min: float | None = None
    rto_max: float | None = None
    socket: socket.socket = field(init=False)
    source: Endpoint = NOWHERE
    end: End = NOT_YET

    def __post_init__(self) -> None:
        if self.retries is not None:
            self.host.sysctl[RETRIES2] = self.retries
        if self.rto_max is not None:
            self.host.sysctl[RTO_MAX_MS] = round(1000 * self.rto_max)
        if self.rto_min is not None:
            prefer_short_rto(self.host, self.listener.host, self.rto_min)
        self.socket = answered(self.host, self.listener)
        self.source = endpoint(self.socket)

    @property
    def patience(self) -> float:
        """For how many seconds the kernel goes on at least (Documentation/networking/ip-sysctl.rst, tcp_retries2)."""
        retries = DEFAULT_RETRIES2 if self.retries is None else self.retries
        return sum(doubling(RTO_MIN, retries, longest=RTO_MAX if self.rto_max is None else self.rto_max))

    def speak(self) -> None:
        """Send a byte."""
        self.socket.send(BYTE)

    def transmissions(self, seen: Capture) -> list[float]:
        """When the byte was sent that nobody acknowledged, first and again, in seconds since the epoch."""
        return transmissions(seen, self.source, BYTE)

    def seconds(self, seen: Capture) -> float:
        """How long the kernel tried, from the first transmission on."""
        return self.end.at - self.transmissions(seen)[0]

    def first_by_rto(self, seen: Capture, moved: Delta) -> float:
        """When the RTO first sent the byte again; `moved` are the host's counters, which know the tail loss probes."""
        return self.transmissions(seen)[1 + loss_probes(moved)]


def give_up(stranded: Sequence[Stranded]) -> None:
    """Let all speak to the peer that has fallen silent, and wait until the kernel has ended each connection."""
    ends = Ends()
    for connection in stranded:
        ends.watch(connection.socket)
        connection.speak()
    longest = max(connection.patience for connection in stranded)
    ends.wait(*(connection.socket for connection in stranded), deadline=4 * longest + 60)
    for connection in stranded:
        connection.end = ends[connection.socket]
