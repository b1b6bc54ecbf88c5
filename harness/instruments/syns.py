"""SYNs that are sent to a listener, and what became of each: by the sender, and by the kernel that got them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness.errors import NotReady
from harness.instruments.syn_queue import drops
from harness.observe import counters
from harness.traffic import connect, drop, establish, listen
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from harness.lab import Host
    from harness.traffic import Listener, RawConnection, RawPeer


class Answers(NamedTuple):
    """What the sender of SYNs got: how many SYN-ACKs; and how many SYNs the kernel says that it dropped."""

    answered: int
    dropped: int


class Fates(NamedTuple):
    """What the kernel made of SYNs: kept as half-open requests, answered with a cookie, or dropped."""

    kept: int
    cookies: int
    dropped: int


class Filled(NamedTuple):
    """How many SYNs were kept half-open, and what became of the first that was not."""

    kept: int
    next: Fates


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
    return fates_of(peer, listener, lambda: peer.half_open(listener, n))


def fates_of(peer: RawPeer, listener: Listener, send: Callable[[], Collection[RawConnection]]) -> Fates:
    """What became of the SYNs that `send` sends to a listener, when the kernel has seen to all.

    It returns the peer's connections that they belong to. A SYN is kept if it is answered, and not with a cookie; the
    half-open requests are not counted, for old ones may end meanwhile.
    """
    known, before = len(peer.poll()), counters(listener.host)
    ports = {connection.port for connection in send()}

    def fates() -> Fates:
        answered = ports & {reply.dport for reply in peer.poll()[known:] if str(reply.flags) == "SA"}
        moved = (counters(listener.host) - before).TcpExt
        return Fates(len(answered) - moved.SyncookiesSent, moved.SyncookiesSent, drops(moved))

    until(lambda: sum(fates()) >= len(ports), what=f"{len(ports)} SYNs answered or dropped")
    return fates()


def fill_up(peer: RawPeer, listener: Listener, *, most: int = 1000) -> Filled:
    """Send SYNs one after another until one is not kept; NotReady if so many are."""
    for kept in range(most):
        fates = send_syns(peer, listener, 1)
        if not fates.kept:
            return Filled(kept, fates)
    raise NotReady(f"port {listener.port} of {listener.host.name} keeps {most} SYNs half-open, and no end of it")


def come_again(client: Host, listener: Listener, times: int, *, answered: int = 0) -> None:
    """One real client comes to a queue that is full, until it was turned away so many times; the rest is lost.

    `answered` is how many of its segments are taken before one is turned away: the client then believes to be
    connected, and sends a request. Returns when the first segment was lost that came after all these.
    """
    with drop(listener.host, dport=listener.port, first=answered + times + 1) as lost:
        clients = connect(client, listener)
        if answered:
            clients.wait(connected=1)
            clients[0].socket.send(b"request")
        until(lambda: lost.count, deadline=60, what=f"a client to come {answered + times + 1} times")
        clients.close()


def become_known(client: Host, server: Host) -> None:
    """Let a server measure a round trip to a client, in a connection that ends well."""
    with listen(server) as listener:
        establish(client, listener).close()
    until(lambda: " rtt " in server.run("ip", "tcp_metrics", "show", client.ip).stdout, what="metrics of the client")


def _dropped(listener: Listener) -> int:
    return drops(counters(listener.host).TcpExt)
