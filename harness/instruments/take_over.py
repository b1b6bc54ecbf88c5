"""Taking over the ports of connections in TIME-WAIT (tcp_tw_reuse): try it, watch when it succeeds."""

from __future__ import annotations

import math
import socket
import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from harness.errors import BadInput, NotReady
from harness.instruments.port_choice import IP_BIND_ADDRESS_NO_PORT
from harness.laws import take_over
from harness.laws.serial import distance
from harness.observe import count
from harness.traffic import connect, listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.connection import establish, wait_for_end
from harness.traffic.ports import give_ports
from harness.waiting import PAUSE, let_pass, until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.lab import Host
    from harness.laws.take_over import TakeOver
    from harness.observe import Capture, Segment
    from harness.traffic import Listener

T = TypeVar("T")

DELAY = "net.ipv4.tcp_tw_reuse_delay"
NO_PORT = "EADDRNOTAVAIL"
# The ways from a host to a listener, by which tcp_tw_reuse 2 tells TIME-WAITs apart.
CABLE, LOOPBACK, OWN_ADDRESS = "cable", "loopback address", "own address, through lo"
ONE_LOOPBACK, BOUND_TO_LO = "from its own address to a loopback address", "bound to lo"
MAPPED = "IPv4's loopback address, by a socket of IPv6"
_LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
# An address that lo has: from a socket that is bound to lo, those of other interfaces are not reached.
_ON_LO = {socket.AF_INET: "10.200.0.1", socket.AF_INET6: "fd00:200::1"}
# How long a trial goes on, in seconds, when nothing is taken over.
PATIENCE = 6.0
# For so many seconds, from its beginning on, the phase of a second counts as that phase.
WIDTH_OF_PHASE = 0.05
# Near the moment at which a TIME-WAIT is old enough the tries follow each other at once, in nanoseconds before it.
NEAR = 30_000_000


def grow_old(seconds: float = take_over.OLD_ENOUGH) -> None:
    """Let what is in TIME-WAIT grow older by so many seconds: so old that every kernel lets it be taken over."""
    let_pass(seconds, what="TIME-WAIT to grow old")


def takes_over(client: Host, listener: Listener) -> bool:
    """Whether connect() from a host gets a port, where the only one that it may have is in TIME-WAIT."""
    (attempt,) = connect(client, listener)
    if attempt.result == NO_PORT:
        attempt.socket.close()
    return attempt.result != NO_PORT


def comes_back(client: Host, listener: Listener, port: int) -> str:
    """What connect() says to a client that binds the port itself, with SO_REUSEADDR, which is in TIME-WAIT."""
    (attempt,) = connect(client, listener, source=(client.ip, port), wait=True)
    listener.accept_all()
    return attempt.result


class EachWay:
    """A client with one port, which is in TIME-WAIT towards a server, and towards itself on both ways of lo."""

    def __init__(self, client: Host, server: Host) -> None:
        self._client = client
        give_ports(client)
        own = _LOOPBACK[socket.AddressFamily(client.family)]
        self._listeners = {
            CABLE: listen(server),
            LOOPBACK: listen(client, port=8001, address=own),
            OWN_ADDRESS: listen(client, port=8002),
        }
        for listener in self._listeners.values():
            leave_time_wait(client, listener)

    def taken_over(self) -> dict[str, bool]:
        """Which of the TIME-WAITs connect() takes over now."""
        return {way: takes_over(self._client, listener) for way, listener in self._listeners.items()}


class RarerWays:
    """A client with one port, which is in TIME-WAIT towards itself by ways of lo that few connections take.

    These are what tcp_tw_reuse 2 knows besides two loopback addresses (net/ipv4/tcp_ipv4.c, tcp_twsk_unique()).
    """

    def __init__(self, client: Host) -> None:
        self._client = client
        give_ports(client)
        own = _LOOPBACK[socket.AddressFamily(client.family)]
        on_lo = _ON_LO[socket.AddressFamily(client.family)]
        client.add_address(on_lo)
        near, named = listen(client, port=8003, address=own), listen(client, port=8004, address=on_lo)
        self._ways: dict[str, tuple[Listener, tuple[str, int], Callable[[socket.socket], None] | None]] = {
            ONE_LOOPBACK: (near, near.address, self._from_own_address),
            BOUND_TO_LO: (named, named.address, _bind_to_lo),
        }
        if client.family == socket.AF_INET6:
            old = listen(client, port=8005, address=_LOOPBACK[socket.AF_INET])
            self._ways[MAPPED] = (old, (f"::ffff:{old.address[0]}", old.port), None)
        for listener, address, options in self._ways.values():
            (attempt,) = connect(client, address, options=options, wait=True)
            (accepted,) = listener.accept()
            attempt.socket.close()
            wait_for_end(accepted)
            accepted.close()
            time_wait = f"state time-wait dport = :{listener.port}"
            until(lambda left=time_wait: count(client, left) == 1, what="TIME-WAIT")  # type: ignore[misc]

    def taken_over(self) -> dict[str, bool]:
        """Which of the TIME-WAITs connect() takes over now."""
        results = {
            way: connect(self._client, address, options=options)[0].result
            for way, (_, address, options) in self._ways.items()
        }
        return {way: result != NO_PORT for way, result in results.items()}

    def _from_own_address(self, connecting: socket.socket) -> None:
        """Give a socket the host's address, and leave its port to connect()."""
        connecting.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        connecting.bind((self._client.ip, 0))


def _bind_to_lo(connecting: socket.socket) -> None:
    connecting.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")


def leave_behind(client: Host, listener: Listener, port: int, words: bytes) -> None:
    """A connection from a port, over which the client says something, and which it leaves in TIME-WAIT.

    The client's connect() calls have this port alone from then on.
    """
    give_ports(client, first=port)
    connection = establish(client, listener)
    connection.say(words)
    connection.close()
    time_wait = f"state time-wait sport = :{port}"
    until(lambda: count(client, time_wait, family=client.family), what=f"port {port} in TIME-WAIT")


def law_at(host: Host) -> TakeOver:
    """The rule of the running kernel, with the delay that a host has set."""
    return take_over.take_over(int(host.sysctl[DELAY])) if DELAY in host.sysctl else take_over.take_over()


class Call(NamedTuple):
    """Around one system call: the clock of the law in its units, and the time in seconds, before it and after it."""

    units: tuple[int, int]
    seconds: tuple[float, float]

    def units_since(self, earlier: Call) -> tuple[int, int]:
        """At least and at most so many units have passed between what two calls did."""
        return self.units[0] - earlier.units[1], self.units[1] - earlier.units[0]

    def seconds_since(self, earlier: Call) -> tuple[float, float]:
        """At least and at most so many seconds."""
        return self.seconds[0] - earlier.seconds[1], self.seconds[1] - earlier.seconds[0]


class Trial:
    """One TIME-WAIT, entered at a phase of the kernel's second, and the connect() calls that try to take it over.

    `phase` is in seconds, of the clock that the law is about. The connection is made at once, from the only port that
    the client may have. watch() lets the trial come to its end: the port was taken, or `patience` seconds have passed.
    """

    def __init__(self, client: Host, listener: Listener, phase: float, *, patience: float = PATIENCE) -> None:
        self.law = law_at(client)
        self.phase = phase
        self.entered_at = math.nan  # in seconds into the second
        self._client, self._listener, self._patience = client, listener, patience
        self._connection = establish(client, listener)
        self._connection.client.close()
        wait_for_end(self._connection.server)
        self._entered: Call | None = None
        self._refused: list[Call] = []
        self._taken: Call | None = None

    def step(self) -> bool:
        """Enter TIME-WAIT if it is time, or try once more; whether the trial has come to its end."""
        if self._entered is None:
            self._enter_in_phase()
            return False
        self._try()
        while self._taken is None and 0 < self.law.remaining(self._entered.units[1]) < NEAR:
            self._try()
        return self._taken is not None or self._refused[-1].seconds_since(self._entered)[0] > self._patience

    @property
    def taken_at(self) -> float | None:
        """The age, in seconds, at which it was taken over at the latest; None if it was not."""
        return None if self._taken is None else round(self._taken.seconds_since(self._entry)[1], 4)

    def taken_younger_than(self, seconds: float) -> bool:
        """Whether it was taken over when it certainly was younger than so many seconds."""
        return self.taken_at is not None and self.taken_at < seconds

    def refused_older_than(self, seconds: float) -> bool:
        """Whether it was refused when it certainly was older than so many seconds."""
        entered = self._entry
        return any(call.seconds_since(entered)[0] > seconds for call in self._refused)

    def against_the_law(self) -> list[str]:
        """The tries that ended otherwise than the law says; those that may end either way are not among them."""
        entered = self._entry
        tries = [(call, False) for call in self._refused] + ([(self._taken, True)] if self._taken else [])
        ages = [(call.units_since(entered), taken) for call, taken in tries]
        return [
            f"{'taken' if taken else 'refused'} after {age[0]} to {age[1]} units"
            for age, taken in ages
            if self.law.allows(age) is not None and self.law.allows(age) != taken
        ]

    @property
    def _entry(self) -> Call:
        if self._entered is None:
            raise NotReady("the trial has not entered TIME-WAIT: watch() it first")
        return self._entered

    def _enter_in_phase(self) -> None:
        phase = self.law.phase()
        if self.phase <= phase < self.phase + WIDTH_OF_PHASE:
            self.entered_at = phase
            # The server's FIN arrives within the call.
            self._entered, _ = self._timed(self._connection.server.close)

    def _try(self) -> None:
        call, taken = self._timed(lambda: takes_over(self._client, self._listener))
        if taken:
            self._taken = call
        else:
            self._refused.append(call)

    def _timed(self, act: Callable[[], T]) -> tuple[Call, T]:
        units, seconds = self.law.now(), time.monotonic()
        result = act()
        return Call((units, self.law.now()), (seconds, time.monotonic())), result


def watch(trials: Sequence[Trial]) -> None:
    """Let all trials come to their ends, side by side."""
    left = list(trials)

    def all_ended() -> bool:
        left[:] = [trial for trial in left if not trial.step()]
        return not left

    # Sooner than a moment is near: a trial that has slept through it is late.
    until(all_ended, deadline=90, what="every TIME-WAIT to be taken over, or given up", longest_pause=PAUSE)


class Succession(NamedTuple):
    """The last segment of an old connection and the SYN of the new one of the same four-tuple, from the client."""

    last: Segment
    syn: Segment

    @property
    def numbers(self) -> int:
        """How far the new first number is beyond the one that the old connection would have used next."""
        return distance(self.last.next_seq, self.syn.seq)

    @property
    def ticks(self) -> int:
        """By how many ticks of the clock the SYN's timestamp is newer than the last one before."""
        if self.last.tsval is None or self.syn.tsval is None:
            raise BadInput(f"port {self.syn.sport}: one of the two connections has no timestamps")
        return distance(self.last.tsval, self.syn.tsval)


def succession(packets: Capture, port: int) -> Succession:
    """The last two connections from a port, as a capture of the client has seen them."""
    sent = packets.segments(direction="out", sport=port)
    syn = [segment for segment in sent if segment.flags == "S"][-1]
    return Succession([segment for segment in sent if segment.time < syn.time][-1], syn)
