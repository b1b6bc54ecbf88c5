"""What stands in the SYN queue, and how one sees how long it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import state
from harness.observe import count, netstat, ss, states_at
from harness.traffic import RawPeer, listen
from harness.waiting import until, until_equal

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair
    from harness.traffic import RawConnection


@pytest.mark.claim("syn-queue.handshake-path")
def test_handshake_path(claim: ClaimRun, pair: Pair) -> None:
    listener, peer = listen(pair.server, 10), RawPeer(pair.server, pair.client)

    def queues() -> tuple[int, int]:
        return listener.half_open, listener.waiting

    with claim.effect("a peer sends its SYN, then its ACK; then the server accepts") as effect:
        connection = peer.connection(listener)
        connection.syn()
        effect.compare("(half-open, waiting) after the SYN", queues(), document=(1, 0))
        at_server = states_at(pair.server, connection.port)
        effect.compare("state after the SYN", state(at_server), document=["SYN-RECV"])
        connection.send("A")
        until(lambda: queues() != (1, 0), what="the ACK to arrive")
        effect.compare("(half-open, waiting) after the ACK", queues(), document=(0, 1))
        at_server = states_at(pair.server, connection.port)
        effect.compare("state after the ACK", state(at_server), document=["ESTAB"])
        accepted = listener.accept()
        effect.compare("connections that accept() returned", len(accepted), document=1)
        effect.compare("(half-open, waiting) after accept()", queues(), document=(0, 0))
        at_server = states_at(pair.server, connection.port)
        effect.compare("state after accept()", state(at_server), document=["ESTAB"])
    with claim.control("a SYN whose ACK does not come, an ACK whose SYN did not come") as control:
        peer.connection(listener).syn()
        control.expect("(half-open, waiting) without the ACK", queues(), (1, 0))
        stray = peer.connection(listener)
        stray.send("A", ack=1)
        stray.wait("R")
        control.expect("(half-open, waiting) after a stray ACK", queues(), (1, 0))
        other = peer.connection(listener)
        other.syn()
        other.send("A", ack=(other.ack + 1) % 2**32)
        control.expect("answer to an ACK of another number", str(other.wait("R").flags), "R")
        control.expect("(half-open, waiting) after that", queues(), (2, 0))
        control.expect("connections to accept", len(listener.accept_all()), 0)


def in_syn_recv(server: Host) -> int:
    """What `netstat -natp | grep SYN_RECV | wc -l` counts."""
    return sum(row.state == "SYN_RECV" for row in netstat.rows(server, "-natp"))


@pytest.mark.claim("syn-queue.length-is-syn-recv")
def test_length_is_syn_recv(claim: ClaimRun, pair: Pair) -> None:
    server, peer = pair.server, RawPeer(pair.server, pair.client)
    listener = listen(server, 50)
    requests: list[RawConnection] = []
    for length in (1, 5, 20):
        with claim.effect(f"{length} requests half-open, backlog 50") as effect:
            for _ in range(length - len(requests)):
                requests.append(peer.connection(listener))
                requests[-1].syn()
            effect.compare("SYN-RECV sockets, inet_diag", count(server, "state syn-recv"), document=length)
            effect.compare("netstat -natp | grep SYN_RECV | wc -l", in_syn_recv(server), document=length)
    with claim.control("the same requests, acknowledged") as control:
        for request in requests:
            request.send("A")
        until_equal(lambda: listener.half_open, 0, what="half-open requests")
        control.expect("SYN-RECV sockets, inet_diag", count(server, "state syn-recv"), 0)
        control.expect("netstat -natp | grep SYN_RECV | wc -l", in_syn_recv(server), 0)
    with claim.control("requests of another listener, which netstat counts as well") as control:
        other = listen(server, 50)
        for _ in range(3):
            peer.connection(other).syn()
        control.expect("half-open at the first listener", listener.half_open, 0)
        control.expect("netstat -natp | grep SYN_RECV | wc -l", in_syn_recv(server), 3)
        other.close()
        left = count(server, "state syn-recv")
        control.note("half-open just after that listener was closed: until their timers run out", left)
        # The timer of the first answer, which takes a second, and not those of all that would be repeated.
        until_equal(lambda: count(server, "state syn-recv"), 0, deadline=15, what="half-open requests")


@pytest.mark.claim("syn-queue.ss-cannot-show-it")
def test_ss_cannot_show_it(claim: ClaimRun, pair: Pair) -> None:
    server, peer = pair.server, RawPeer(pair.server, pair.client)
    listener = listen(server, 50)
    requests: list[RawConnection] = []
    for length in (1, 5, 20):
        with claim.effect(f"{length} requests half-open, backlog 50") as effect:
            for _ in range(length - len(requests)):
                requests.append(peer.connection(listener))
                requests[-1].syn()
            shown = len(ss.rows(server, "-tan", "state", "syn-recv"))
            effect.compare("lines of ss -tan state syn-recv", shown, document=0, kernel=length)
            columns = ss.listener(server, listener.port).queues
            effect.compare("(Recv-Q, Send-Q) of the listener, ss -lnt", columns, document=(0, 50))
    with claim.control("the same requests, acknowledged") as control:
        for request in requests:
            request.send("A")
        until_equal(lambda: listener.half_open, 0, what="half-open requests")
        control.expect("lines of ss -tan state syn-recv", len(ss.rows(server, "-tan", "state", "syn-recv")), 0)
        columns = ss.listener(server, listener.port).queues
        control.expect("(Recv-Q, Send-Q) of the listener, ss -lnt", columns, (20, 50))
