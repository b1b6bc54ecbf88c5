"""Two options of a listener: it may leave silent clients half-open, and take data that comes with a SYN."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds
from harness.laws.timers import about
from harness.observe import half_open, states_at
from harness.traffic import RawPeer, connect, listen
from harness.waiting import until_equal

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair
    from harness.traffic import Listener, RawConnection

# net.ipv4.tcp_fastopen: the server's side, and data without a cookie too (Documentation/networking/ip-sysctl.rst).
FAST_OPEN, WITHOUT_COOKIE = "net.ipv4.tcp_fastopen", 0x202
# The waits for an answer to a SYN-ACK, in seconds; TCP_DEFER_ACCEPT 15 is as long as the four together.
DEFERRED, ITS_TIMEOUTS = 15, (1, 2, 4, 8)
# Seconds that are set, and those that they are rounded up to, the sum of the timeouts that begin before they are over.
ROUNDED = {1: 1, 2: 3, 3: 3, 4: 7, 7: 7, 8: 15, 16: 31}
SHORTER, SHORTER_TIMEOUTS = 4, (1, 2, 4)


@pytest.mark.claim("accept-queue.deferred-until-data")
@pytest.mark.slow(17)
def test_deferred_until_data(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    with claim.effect(f"TCP_DEFER_ACCEPT {DEFERRED}: one client says something, another nothing") as effect:
        listener = listen(server)
        listener.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFERRED)
        shorter = listen(server)
        shorter.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, SHORTER)
        seen, beside = (claim.capture(server, port=each.port) for each in (listener, shorter))
        speaker, silent = connect(client, listener, 2, wait=True)
        until_equal(lambda: effect.delta(server).TcpExt.TCPDeferAcceptDrop, 2, what="two bare ACKs")
        connect(client, shorter, wait=True)
        effect.compare("connected, for the clients", [speaker.result, silent.result], document=["connected"] * 2)
        effect.compare("half-open at the server", half_open(server, listener.port), document=2)
        effect.compare("connections that wait for accept()", listener.waiting, document=0)
        speaker.socket.send(b"hello")
        (accepted,) = listener.accept()
        effect.compare("what the first that is accepted has sent", accepted.recv(100), document=b"hello")
        effect.compare("half-open at the server", half_open(server, listener.port), document=1)
        listener.accept(deadline=60)
        shorter.accept()
        answers = [segment.time for segment in seen.segments(flags="SA") if segment.dport == silent.port]
        effect.compare("SYN-ACKs to the silent one, until it is accepted", len(answers), document=2)
        apart = seconds(round(answers[-1] - answers[0], 2))
        effect.compare("seconds between them", apart, document=about(*ITS_TIMEOUTS))
        first, last = (segment.time for segment in beside.segments(flags="SA"))
        apart = seconds(round(last - first, 2))
        effect.compare(
            f"with TCP_DEFER_ACCEPT {SHORTER}, which is between two", apart, document=about(*SHORTER_TIMEOUTS)
        )
        for given, rounded in ROUNDED.items():
            shorter.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, given)
            taken = shorter.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)
            effect.compare(f"seconds that {given} are rounded up to", taken, document=rounded)
    with claim.control("a listener without the option") as control:
        listener = listen(server)
        connect(client, listener, 2, wait=True)
        control.expect("connections that wait for accept()", listener.waiting, 2)
        control.expect("half-open at the server", half_open(server, listener.port), 0)


@pytest.mark.claim("accept-queue.fast-open-queue")
def test_fast_open_queue(claim: ClaimRun, pair: Pair) -> None:
    server = pair.server
    server.sysctl[FAST_OPEN] = WITHOUT_COOKIE
    peer = RawPeer(server, pair.client)

    def knock_once(connection: RawConnection) -> int:
        """Send a SYN with data; how many of its bytes the SYN-ACK acknowledges beside the SYN."""
        connection.send("S", b"hello")
        return int(connection.expect_syn_ack().ack) - connection.seq + 5

    def knock_with_data(places: int | None) -> tuple[Listener, list[RawConnection], list[int]]:
        """Five SYNs with data at a listener with so many places, or without the option.

        Returns it, and how many bytes of each the SYN-ACK acknowledges beside the SYN.
        """
        listener = listen(server)
        if places is not None:
            listener.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, places)
        connections = [peer.connection(listener) for _ in range(5)]
        return listener, connections, [knock_once(connection) for connection in connections]

    for places in (1, 3):
        with claim.effect(
            f"TCP_FASTOPEN {places}: five clients come with data in their SYNs, and send no ACK"
        ) as effect:
            listener, connections, taken = knock_with_data(places)
            effect.compare("bytes taken with each SYN", taken, document=[5] * places + [0] * (5 - places))
            effect.compare("connections that wait for accept()", listener.waiting, document=places)
            moved = effect.delta(server).TcpExt
            effect.compare("TCPFastOpenListenOverflow", moved.TCPFastOpenListenOverflow, document=5 - places)
            accepted = [connection.recv(100) for connection in listener.accept(places)]
            effect.compare("what the accepted have sent", accepted, document=[b"hello"] * places)
        with claim.effect(f"TCP_FASTOPEN {places}: one of those that were taken ends its handshake") as effect:
            first, *_ = connections
            first.send("A")
            until_equal(lambda: states_at(server, first.port), ["ESTAB"], what="the state")
            taken = [knock_once(peer.connection(listener)) for _ in range(2)]
            effect.compare("bytes taken with the SYN of another, and of one more", taken, document=[5, 0])
    with claim.control("TCP_FASTOPEN 5") as control:
        _, _, taken = knock_with_data(5)
        control.expect("bytes taken with each SYN", taken, [5] * 5)
        control.expect("TCPFastOpenListenOverflow", control.delta(server).TcpExt.TCPFastOpenListenOverflow, 0)
    with claim.control("a listener without the option") as control:
        listener, _, taken = knock_with_data(None)
        control.expect("bytes taken with each SYN", taken, [0] * 5)
        control.expect("connections that wait for accept()", listener.waiting, 0)
