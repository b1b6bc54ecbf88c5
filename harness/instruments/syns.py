"""SYNs that are sent to a listener, and what became of each: by the sender, and by the kernel that got them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness.observe import counters
from harness.traffic import connect
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.traffic import Listener, RawPeer


class Answers(NamedTuple):
    """What the sender of SYNs got: how many SYN-ACKs; and how many SYNs the kernel says that it dropped."""

    answered: int
    dropped: int


class Fates(NamedTuple):
    """What the kernel made of SYNs: kept as half-open requests, answered with a cookie, or dropped."""

    kept: int
    cookies: int
    dropped: int


def knock(peer: RawPeer, listener: Listener, n: int = 1) -> Answers:
    """Send n SYNs, never to be acknowledged, from a peer's fresh ports; returns when each is answered or dropped."""
    before = _dropped(listener)
    ports = {connection.port for connection in peer.half_open(listener, n)}

    def answers() -> Answers:
        answered = ports & {reply.dport for reply in peer.poll() if str(reply.flags) == "SA"}
        return Answers(len(answered), _dropped(listener) - before)

    until(lambda: sum(answers()) >= n, what=f"{n} SYNs answered or dropped")
    return answers()


def call(client: Host, listener: Listener) -> Answers:
    """What became of the SYN of one real client."""
    before, attempt = _dropped(listener), connect(client, listener)

    def answers() -> Answers:
        return Answers(attempt.connected, _dropped(listener) - before)

    until(lambda: sum(answers()), what="a client connected or its SYN dropped")
    return answers()


def send_syns(peer: RawPeer, listener: Listener, n: int) -> Fates:
    """Send n SYNs that will never be acknowledged; returns what became of them when the kernel has seen to all."""
    before = _fates(listener)
    peer.half_open(listener, n)
    until(lambda: sum(_fates(listener)) >= sum(before) + n, what=f"{n} SYNs to be kept, answered or dropped")
    return Fates(*(now - then for now, then in zip(_fates(listener), before, strict=True)))


def _dropped(listener: Listener) -> int:
    return counters(listener.host).TcpExt.ListenDrops


def _fates(listener: Listener) -> Fates:
    """The fates of all SYNs up to now."""
    counted = counters(listener.host).TcpExt
    return Fates(listener.half_open, counted.SyncookiesSent, counted.ListenDrops)
