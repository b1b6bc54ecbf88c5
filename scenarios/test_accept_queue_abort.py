"""tcp_abort_on_overflow: what a client learns when the accept queue is full, and what an RST tells of the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.instruments.accept_queue import fill, overflow
from harness.laws import before
from harness.laws.ranges import at_least
from harness.traffic import connect, echo, listen
from harness.traffic.connection import peek
from harness.waiting import until, until_at_least

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

ABORT = "net.ipv4.tcp_abort_on_overflow"


@pytest.mark.claim("accept-queue.reset-on-overflow")
def test_reset_on_overflow(claim: ClaimRun, pair: Pair) -> None:
    packets = claim.capture(pair.server)
    with claim.effect("tcp_abort_on_overflow 1: three handshakes end at a full queue") as effect:
        pair.server.sysctl[ABORT] = 1
        clients = overflow(pair.client, pair.server, 3).late
        until(lambda: clients.fates()["open"] == 0, what="the RSTs to arrive")
        effect.compare("what the clients see", dict(clients.fates()), document={"ECONNRESET": 3})
        reset = {s.dport for s in packets.segments() if s.direction == "out" and "R" in s.flags}
        effect.compare("clients that were sent an RST", len(reset), document=3)
    with claim.control("tcp_abort_on_overflow 0: three handshakes end at a full queue") as control:
        pair.server.sysctl[ABORT] = 0
        clients = overflow(pair.client, pair.server, 3).late
        control.expect("what the clients see", dict(clients.fates()), {"open": 3})
        control.expect("RSTs sent by the server", control.delta(pair.server).Tcp.OutRsts, 0)


@pytest.mark.claim("accept-queue.reset-tells-latecomers")
def test_reset_tells_latecomers(claim: ClaimRun, pair: Pair) -> None:
    pair.server.sysctl[ABORT] = 1
    listener = listen(pair.server, 3)
    fill(pair.client, listener)
    with claim.effect("tcp_abort_on_overflow 1: five clients come when the queue is full") as effect:
        clients = connect(pair.client, listener, 5)
        told = 5 if before("accept-queue-full-drops-syns") else 0

        def reset() -> int:
            return clients.results()["ECONNRESET"] + clients.fates()["ECONNRESET"]

        def knocking() -> bool:
            return effect.delta(pair.client).TcpExt.TCPSynRetrans >= 5

        until(lambda: reset() == 5 or (not told and knocking()), what="five clients told, or knocking again")
        effect.compare("clients that see ECONNRESET", reset(), document=5, kernel=told)
        effect.compare("clients that go on knocking", clients.pending, document=0, kernel=5 - told)
        overflows = effect.delta(pair.server).TcpExt.ListenOverflows
        effect.premise("times the queue overflowed", overflows, at_least(5))
    listener.close()
    clients.close()
    with claim.control("tcp_abort_on_overflow 1: five clients that came before it was full") as control:
        clients = overflow(pair.client, pair.server, 5).late
        until(lambda: clients.fates()["open"] == 0, what="the RSTs to arrive")
        control.expect("what the clients see", dict(clients.fates()), {"ECONNRESET": 5})
    with claim.control("tcp_abort_on_overflow 0: the same") as control:
        pair.server.sysctl[ABORT] = 0
        clients = overflow(pair.client, pair.server, 5).late
        control.expect("what the clients see", dict(clients.fates()), {"open": 5})


@pytest.mark.claim("accept-queue.reset-diagnoses-overflow")
def test_reset_diagnoses_overflow(claim: ClaimRun, pair: Pair) -> None:
    pair.server.sysctl[ABORT] = 1
    with claim.control("handshakes that end at a full queue") as control:
        clients = overflow(pair.client, pair.server, 5).late
        until(lambda: clients.fates()["open"] == 0, what="the RSTs to arrive")
        control.expect("what the clients see", dict(clients.fates()), {"ECONNRESET": 5})
    with claim.effect("overflow without resets: a client that comes when the queue is full") as effect:
        listener = listen(pair.server, 3)
        fill(pair.client, listener)
        late = connect(pair.client, listener)
        until_at_least(lambda: effect.delta(pair.server).TcpExt.ListenOverflows, 1, what="the client to be refused")
        # Where such a SYN is still answered, its ACK meets the RST.
        early = before("accept-queue-full-drops-syns")
        reset = late.results()["ECONNRESET"] + late.fates()["ECONNRESET"]
        effect.compare("clients that see ECONNRESET", reset, document=1, kernel=int(early))
    # What its clients still send is to meet no queue any more.
    listener.close()
    late.close()
    with claim.effect("overflow without resets: handshakes that a SYN cookie began") as effect:
        pair.server.sysctl["net.ipv4.tcp_syncookies"] = 2
        full = overflow(pair.client, pair.server, 5)
        effect.premise("cookies that came back", effect.delta(pair.server).TcpExt.SyncookiesRecv, at_least(5))
        effect.compare("RSTs sent", effect.delta(pair.server).Tcp.OutRsts, document=at_least(5), kernel=0)
        reset = full.late.fates()["ECONNRESET"]
        effect.compare("clients of five that see ECONNRESET", reset, document=5, kernel=0)
    full.end()
    with claim.effect("resets without overflow: the application closes with a request unread") as effect:
        listener = listen(pair.server, 10)
        clients = connect(pair.client, listener, 5, wait=True)
        for client, server in zip(clients, listener.accept(5), strict=True):
            client.socket.send(b"request")
            until(lambda: peek(server), what="the request")
            server.close()
        until(lambda: clients.fates()["open"] == 0, what="the RSTs to arrive")
        effect.premise("times the queue overflowed", effect.delta(pair.server).TcpExt.ListenOverflows, 0)
        reset = clients.fates()["ECONNRESET"]
        effect.compare("clients of five that see ECONNRESET all the same", reset, document=0, kernel=5)


@pytest.mark.claim("accept-queue.abort-default")
def test_abort_default(claim: ClaimRun, pair: Pair) -> None:
    with claim.effect("a fresh network namespace: three handshakes end at a full queue") as effect:
        effect.compare("tcp_abort_on_overflow", pair.server.sysctl[ABORT], document="0")
        clients = overflow(pair.client, pair.server, 3).late
        effect.compare("what the clients see", dict(clients.fates()), document={"open": 3})
        effect.compare("RSTs sent by the server", effect.delta(pair.server).Tcp.OutRsts, document=0)
    with claim.control("set to 1") as control:
        pair.server.sysctl[ABORT] = 1
        clients = overflow(pair.client, pair.server, 3).late
        until(lambda: clients.fates()["open"] == 0, what="the RSTs to arrive")
        control.expect("what the clients see", dict(clients.fates()), {"ECONNRESET": 3})


@pytest.mark.claim("accept-queue.drop-survives-bursts")
def test_drop_survives_bursts(claim: ClaimRun, pair: Pair) -> None:
    def served(value: int) -> int:
        """17 clients come at once while the server, which has room for nine, is busy; then it accepts again."""
        pair.server.sysctl[ABORT] = value
        full = overflow(pair.client, pair.server, 8)
        full.listener.start_accepting(None, echo)
        return full.early.ask(b"request", deadline=20) + full.late.ask(b"request", deadline=20)

    with claim.effect("tcp_abort_on_overflow 0, a burst of 17") as effect:
        effect.compare("clients served", served(0), document=17)
    with claim.control("tcp_abort_on_overflow 1, a burst of 17") as control:
        control.expect("clients served", served(1), 9)
