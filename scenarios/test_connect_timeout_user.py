"""TCP_USER_TIMEOUT: when a connection whose peer is silent is given up, against tcp_retries2 and against keepalive."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds, state
from harness.instruments.patience import BYTE, RETRIES2, Ends
from harness.laws import since
from harness.laws.ranges import at_most, between
from harness.observe import socket_of
from harness.traffic import answered, drop, echo, establish, listen
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lan, Pair
    from harness.traffic import Listener

# Seconds: the silence before the first keepalive probe, and between two.
PROBED_AFTER = 1


@dataclass(eq=False)
class Impatient:
    """A connection, since when it waits by the monotonic clock, and whether it has something to send.

    With something to send it waits from then on. Without, at the earliest from before it was connected.
    """

    name: str
    socket: socket.socket
    begun: float
    speaks: bool

    def lasted(self, ends: Ends) -> float:
        """For how many seconds it has gone on when the kernel ends it."""
        ends.wait(self.socket, deadline=60)
        return seconds(round(ends[self.socket].moment - self.begun, 2))


def impatient(host: Host, listener: Listener, name: str, timeout: int = 0, probes: int = 0) -> Impatient:
    """A connection with TCP_USER_TIMEOUT in seconds, or none; it has so many keepalive probes, or it sends a byte."""
    begun = time.monotonic()
    connection = answered(host, listener)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * timeout)
    if probes:
        for option, value in (("KEEPIDLE", PROBED_AFTER), ("KEEPINTVL", PROBED_AFTER), ("KEEPCNT", probes)):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{option}"), value)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return Impatient(name, connection, begun, not probes)


def fall_silent(connections: Sequence[Impatient]) -> Ends:
    """Let those speak that have something to send; what the kernel will make of all of them."""
    ends = Ends()
    for connection in connections:
        ends.watch(connection.socket)
        if connection.speaks:
            connection.begun = time.monotonic()
            connection.socket.send(BYTE)
    return ends


@pytest.mark.slow(15)
@pytest.mark.claim("connect-timeout.user-timeout")
def test_user_timeout(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    server, usual, hasty = lan(3).hosts
    listener = listen(server, answer=echo)
    # What tcp_retries2 and the probes would make of them lies outside of these ranges.
    wanted = {
        impatient(usual, listener, "data, 2 s against tcp_retries2 15", 2): between(2, 6),
        impatient(usual, listener, "keepalive, 3 s against 30 probes", 3, probes=30): between(3, 9),
        impatient(usual, listener, "keepalive, 9 s against one probe", 9, probes=1): between(9, 15),
    }
    alone = [impatient(usual, listener, "keepalive, one probe", probes=1)]
    if since("retries2-per-namespace"):
        hasty.sysctl[RETRIES2] = 1
        # The RTOs are over after 6.2 and 12.6 s: the last of them is shortened, or is not.
        latest = 11.5 if since("user-timeout-shortens-the-rto") else 24
        wanted[impatient(hasty, listener, "data, 9 s against tcp_retries2 1", 9)] = between(9, latest)
        alone.append(impatient(hasty, listener, "data, tcp_retries2 1"))
    patient = impatient(usual, listener, "data, tcp_retries2 15")
    with drop(server, dport=listener.port):
        ends = fall_silent([*wanted, *alone, patient])
        with claim.control("the peer falls silent, and nobody has set TCP_USER_TIMEOUT") as control:
            for each in alone:
                control.expect(f"{each.name}: seconds", each.lasted(ends), at_most(7))
        with claim.effect("the peer falls silent, and TCP_USER_TIMEOUT is set") as effect:
            for each, when in wanted.items():
                effect.compare(f"{each.name}: seconds", each.lasted(ends), document=when)
                effect.compare(f"{each.name}: the error", ends[each.socket].error, document="ETIMEDOUT")
        with claim.control("as long without it and without keepalive, tcp_retries2 15") as control:
            control.expect("state", state([socket_of(usual, patient.socket).state]), ["ESTAB"])


def stuffed(host: Host, listener: Listener, name: str, timeout: int) -> Impatient:
    """A connection whose peer has closed its window, as it reads nothing; with TCP_USER_TIMEOUT in seconds, or none."""
    connection = establish(host, listener).client
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * timeout)
    begun = time.monotonic()

    def probes() -> bool:
        with contextlib.suppress(BlockingIOError):
            connection.send(bytes(1_000_000))
        timer = socket_of(host, connection).timer
        return timer is not None and timer.kind == "persist"

    until(probes, what="a closed window")
    return Impatient(name, connection, begun, speaks=False)


@pytest.mark.slow(10)
@pytest.mark.claim("connect-timeout.user-timeout")
def test_user_timeout_at_a_closed_window(claim: ClaimRun, pair: Pair) -> None:
    client, listener = pair.client, listen(pair.server)
    waits = stuffed(client, listener, "a closed window, 4 s against tcp_retries2 15", 4)
    patient = stuffed(client, listener, "a closed window, tcp_retries2 15", 0)
    with drop(pair.server, dport=listener.port):
        ends = fall_silent([waits, patient])
        with claim.effect("the peer has closed its window and falls silent, and TCP_USER_TIMEOUT is set") as effect:
            # It counts from the first probe on, and is looked at with each: they come after 0.2, 0.4, 0.8 s and so on.
            effect.compare(f"{waits.name}: seconds", waits.lasted(ends), document=between(4, 14))
            effect.compare(f"{waits.name}: the error", ends[waits.socket].error, document="ETIMEDOUT")
        with claim.control("as long without it, tcp_retries2 15") as control:
            control.expect("state", state([socket_of(client, patient.socket).state]), ["ESTAB"])
