"""FIN-WAIT-2 that no application holds: what the other side's segments make of it. And LAST-ACK: what ends it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds
from harness.instruments.inbound import NONE, Answer, leave_in_fin_wait_2, leave_in_last_ack, reach
from harness.instruments.lifetimes import just_begun
from harness.observe import ends_at
from harness.traffic import RawPeer, listen
from harness.traffic.connection import read
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair

FIN_TIMEOUT = "net.ipv4.tcp_fin_timeout"
# What arrives: its flags, how far it is beyond the number that is next, its data; what answers it, and what is left.
AT_AN_ORPHAN = (
    ("the FIN", ("FA", 0, b""), Answer("A", "TIME-WAIT")),
    ("data", ("PA", 0, b"more"), Answer("R", NONE)),
    ("a FIN behind data that is missing", ("FA", 4, b""), Answer("R", NONE)),
    ("a SYN in the window", ("S", 0, b""), Answer("RA", NONE)),
    ("an RST in the window", ("R", 100, b""), Answer(NONE, NONE)),
    ("an RST below the window", ("R", -100, b""), Answer("A", "FIN-WAIT-2")),
    ("data below the window", ("PA", -100, b"more"), Answer("A", "FIN-WAIT-2")),
    ("an ACK", ("A", 0, b""), Answer(NONE, "FIN-WAIT-2")),
)


def left_of_timer(host: Host, port: int) -> float:
    """What the timer of a connection that has one has left, in seconds."""
    (end,) = ends_at(host, port)
    assert end.timer is not None, end
    return seconds(end.timer.expires)


@pytest.mark.claim("time-wait.orphan-in-fin-wait-2")
def test_orphan_in_fin_wait_2(claim: ClaimRun, pair: Pair) -> None:
    server, peer, listener = pair.server, RawPeer(pair.server, pair.client), listen(pair.server)
    server.sysctl[FIN_TIMEOUT] = 30
    with claim.effect("an orphan in FIN-WAIT-2, tcp_fin_timeout 30: what reaches it") as effect:
        for what, segment, document in AT_AN_ORPHAN:
            orphan, _ = leave_in_fin_wait_2(peer, listener)
            effect.compare(
                f"{what}: the answer, and the state that is left", reach(orphan, *segment), document=document
            )
        orphan, _ = leave_in_fin_wait_2(peer, listener)
        until(lambda: left_of_timer(server, orphan.port) < 29, deadline=30, what="the timer to run for a second")
        earlier = left_of_timer(server, orphan.port)
        reach(orphan, "A")
        effect.compare("its timer goes on after an ACK", left_of_timer(server, orphan.port) <= earlier, document=True)
        begun = time.monotonic()
        reach(orphan, "FA")
        left = left_of_timer(server, orphan.port)
        effect.compare("its timer after the FIN", left, document=just_begun(begun))
    with claim.control("an application holds it, and reads on") as control:
        held, end = leave_in_fin_wait_2(peer, listener, held=True)
        (shown,) = ends_at(server, held.port)
        control.expect("its timer", shown.timer, None)
        control.expect(
            "data: the answer, and the state that is left", reach(held, "PA", 0, b"more").state, "FIN-WAIT-2"
        )
        control.expect("what the application reads", read(end), b"more")


@pytest.mark.claim("time-wait.passive-closer-free")
def test_last_ack_waits_for_its_ack(claim: ClaimRun, pair: Pair) -> None:
    peer, listener = RawPeer(pair.server, pair.client), listen(pair.server)
    left = leave_in_last_ack(peer, listener)
    number = left.ack
    with claim.control("an ACK of all but the FIN") as control:
        left.ack = number - 1
        control.expect("the side that closed second", reach(left, "A").state, "LAST-ACK")
    with claim.effect("the ACK of the FIN") as effect:
        left.ack = number
        effect.compare("the side that closed second", reach(left, "A").state, document=NONE)
