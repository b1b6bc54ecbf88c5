"""What newer kernels let one set: how many timeouts of a SYN are equal, and how long the longest RTO is."""

from __future__ import annotations

import math
import socket
from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds
from harness.instruments.patience import RTO_MAX_MS, SYN_LINEAR, Knock, knock_all
from harness.instruments.retransmissions import gaps, transmissions
from harness.laws.ranges import at_least, between
from harness.laws.timers import about
from harness.traffic import answered, connect, drop, echo, listen
from harness.traffic.connection import endpoint
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lan

# tcp_syn_linear_timeouts, and the waits that it makes of tcp_syn_retries 3, in seconds; connect() fails after the last.
WAITS = {0: [1, 2, 4, 8], 1: [1, 1, 2, 4, 8], 2: [1, 1, 1, 2, 4, 8], 4: [1, 1, 1, 1, 1, 2, 4, 8]}
# include/uapi/linux/tcp.h. Python has no name for it.
TCP_RTO_MAX_MS = 44
# No timer of these is late by a tenth of a second; the machine's share comes on top.
A_SECOND, LONGER = between(0.95, 1.5), at_least(1.55)


def lacks(claim: ClaimRun, host: Host, knob: str) -> bool:
    """Whether the kernel has no such knob; the run is then settled by what it says to that."""
    if knob in host.sysctl:
        return False
    claim.not_applicable(f"the kernel has no {knob}", shown=host.run("sysctl", knob, check=False).stderr)
    return True


@pytest.mark.claim("connect-timeout.linear-timeouts")
@pytest.mark.slow(22)
def test_linear_timeouts(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    server, fresh, *clients = lan(7).hosts
    if lacks(claim, server, SYN_LINEAR):
        return
    listener = listen(server)
    seen = claim.capture(server, port=listener.port)
    none, *some = (Knock(host, listener, 3, linear) for linear, host in zip(WAITS, clients[:4], strict=True))
    few = Knock(clients[4], listener, 1, 4)
    with (
        claim.effect("SYNs vanish: tcp_syn_retries 3, and tcp_syn_linear_timeouts 1, 2, 4") as effect,
        drop(server, "S", dport=listener.port),
    ):
        effect.compare("tcp_syn_linear_timeouts by default", int(fresh.sysctl[SYN_LINEAR]), document=4)
        knock_all([none, *some, few])
        for knock in some:
            n, waits, apart = knock.linear, WAITS[knock.linear], gaps(knock.syns(seen))
            whole = [math.floor(gap + 0.1) for gap in apart]
            effect.compare(f"{n}: whole seconds between two SYNs", whole, document=waits[:-1])
            took = seconds(round(knock.seconds(seen), 2))
            effect.compare(f"{n}: seconds until connect() fails", took, document=about(*waits))
        effect.compare("SYNs sent again with tcp_syn_retries 1 and 4", len(few.syns(seen)) - 1, document=2)
    with claim.control("tried at the same time: tcp_syn_linear_timeouts 0") as control:
        whole = [math.floor(gap + 0.1) for gap in gaps(none.syns(seen))]
        control.expect("whole seconds between two SYNs", whole, WAITS[0][:-1])
        control.expect("seconds until connect() fails", seconds(round(none.seconds(seen), 2)), about(*WAITS[0]))


@pytest.mark.claim("connect-timeout.rto-max-lowered")
@pytest.mark.slow(8)
def test_rto_max_lowered(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    server, usual, lowered, by_option = lan(4).hosts
    if lacks(claim, server, RTO_MAX_MS):
        return
    listener = listen(server, answer=echo)
    seen = claim.capture(server, port=listener.port)
    lowered.sysctl[RTO_MAX_MS] = 1000
    lowered.sysctl[SYN_LINEAR] = usual.sysctl[SYN_LINEAR] = 0
    connections = {host.name: answered(host, listener) for host in (usual, lowered, by_option)}
    connections[by_option.name].setsockopt(socket.IPPROTO_TCP, TCP_RTO_MAX_MS, 1000)
    vanish = [drop(server, flags, dport=listener.port) for flags in ("PA", "S")]
    for connection in connections.values():
        connection.send(b"x")
    syns = {host.name: endpoint(connect(host, listener)[0].socket) for host in (usual, lowered)}

    def apart(host: Host, *, syn: bool = False) -> list[float]:
        """The seconds between two transmissions of a host's byte, or of its SYN."""
        if syn:
            return gaps(transmissions(seen, syns[host.name]))
        return gaps(transmissions(seen, endpoint(connections[host.name]), b"x"))

    until(lambda: all(len(apart(host)) >= 6 for host in (lowered, by_option)), deadline=90, what="retransmissions")
    until(
        lambda: all(len(apart(host, syn=True)) >= 3 for host in (lowered, usual)), deadline=90, what="SYNs sent again"
    )
    with claim.effect("nobody answers: tcp_rto_max_ms 1000, and TCP_RTO_MAX_MS 1000 for a socket") as effect:
        for name, host in (("knob", lowered), ("option", by_option)):
            effect.compare(f"{name}: the last two of six pauses", seconds(max(apart(host)[4:6])), document=A_SECOND)
        effect.compare("knob: the third pause between SYNs", seconds(apart(lowered, syn=True)[2]), document=A_SECOND)
    with claim.control("tried at the same time: tcp_rto_max_ms left at 120000") as control:
        until(lambda: len(apart(usual)) >= 5, deadline=90, what="retransmissions")
        control.expect("the longest of six pauses", seconds(max(apart(usual)[:6])), LONGER)
        control.expect("the third pause between SYNs", seconds(apart(usual, syn=True)[2]), LONGER)
    for lost in vanish:
        lost.lift()
