"""Several listeners at one port (SO_REUSEPORT): each has a queue of its own, and closes with what waits there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.laws import since
from harness.laws.ranges import at_least
from harness.traffic import RawPeer, connect, echo, listen
from harness.traffic.connection import take
from harness.waiting import until, until_at_least, until_equal

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair
    from harness.traffic import Attempts, Listener, RawConnection

MIGRATE = "net.ipv4.tcp_migrate_req"


@pytest.mark.claim("accept-queue.reuseport-shares")
def test_reuseport_shares(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    with claim.effect("two listeners at one port, with backlogs of 5 and 100: 40 clients come") as effect:
        short = listen(server, 5, shared=True)
        long = listen(server, 100, port=short.port, shared=True)
        clients = connect(client, short, 40)

        def waiting() -> int:
            return short.waiting + long.waiting

        until(
            lambda: waiting() + effect.delta(server).TcpExt.ListenOverflows >= 40, what="40 clients waiting or refused"
        )
        refused = 40 - waiting()
        effect.compare("clients refused", refused, document=at_least(1))
        effect.compare("connections that wait at the short queue", short.waiting, document=6)
        effect.compare("room that the long queue has", long.limit - long.waiting, document=at_least(60))
        # Each gets half of them; that it gets fewer than five of 40 happens once in ten million times.
        effect.compare("connections that wait at the long queue", long.waiting, document=at_least(5))
        until_at_least(lambda: effect.delta(client).TcpExt.TCPSynRetrans, refused, what="those refused to knock again")
        effect.compare("clients let in when they knock again", waiting() - (40 - refused), document=0)
    clients.close()
    with claim.control("one listener with a backlog of 105: 40 clients come") as control:
        alone = listen(server, 105)
        connect(client, alone, 40, wait=True)
        until_equal(lambda: alone.waiting, 40, what="connections waiting")
        control.expect("ListenOverflows", control.delta(server).TcpExt.ListenOverflows, 0)


@pytest.mark.claim("accept-queue.reuseport-close-resets")
def test_reuseport_close_resets(claim: ClaimRun, pair: Pair) -> None:
    with claim.effect("six connections wait at the first of two listeners at one port, and it closes") as effect:
        first = listen(pair.server, 5, shared=True)
        clients = connect(pair.client, first, 6, wait=True)
        until_equal(lambda: first.waiting, 6, what="connections waiting")
        second = listen(pair.server, 100, port=first.port, shared=True)
        first.close()
        until(lambda: clients.fates()["open"] == 0, what="the RSTs to arrive")
        effect.compare("what the clients see", dict(clients.fates()), document={"ECONNRESET": 6})
        effect.compare("connections that wait at the second", second.waiting, document=0)
    with claim.control("the first has accepted them before it closes") as control:
        first = listen(pair.server, 5, shared=True)
        clients = connect(pair.client, first, 6, wait=True)
        accepted = first.accept(6)
        listen(pair.server, 100, port=first.port, shared=True)
        first.socket.close()
        for end, attempt in zip(accepted, clients, strict=True):
            end.send(b"answer")
            control.expect("what a client reads", take(attempt.socket, 6), b"answer")
        control.expect("what the clients see", dict(clients.fates()), {"open": 6})


@pytest.mark.claim("accept-queue.reuseport-migrates")
def test_reuseport_migrates(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    if MIGRATE not in server.sysctl:
        claim.not_applicable("the kernel has no such knob", shown=f"{MIGRATE} is not among its sysctls")
        return
    migrates = since("waiting-connections-migrate")

    def close_the_first() -> tuple[Listener, Attempts, RawConnection]:
        """Three connections and one half-open request are at a listener when it closes; the other that there is."""
        first = listen(server, 10, shared=True)
        clients = connect(client, first, 3, wait=True)
        request = RawPeer(server, client).connection(first)
        request.syn()
        until_equal(lambda: first.waiting, 3, what="connections waiting")
        second = listen(server, 100, port=first.port, shared=True)
        first.close()
        return second, clients, request

    with claim.effect(
        "tcp_migrate_req 1: three connections wait, one is half-open, and their listener closes"
    ) as effect:
        server.sysctl[MIGRATE] = 1
        second, clients, request = close_the_first()
        effect.compare("connections at the other listener", second.waiting, document=3, kernel=3 * migrates)
        request.send("A")
        until(lambda: second.waiting == 4 or request.replies()[-1].flags == "R", what="what becomes of the fourth")
        effect.compare("connections there after the fourth's ACK", second.waiting, document=4, kernel=4 * migrates)
        second.start_accepting(None, echo)
        effect.compare("clients that are answered", clients.ask(), document=3, kernel=3 * migrates)
    second.close()
    with claim.control("tcp_migrate_req 0: the same") as control:
        server.sysctl[MIGRATE] = 0
        second, clients, request = close_the_first()
        until(lambda: clients.fates()["open"] == 0, what="the RSTs to arrive")
        control.expect("what the clients see", dict(clients.fates()), {"ECONNRESET": 3})
        request.send("A")
        control.expect("the answer to the fourth's ACK", str(request.wait("R").flags), "R")
        control.expect("connections at the other listener", second.waiting, 0)
