"""What ends a connection beside TIME-WAIT: the timers of orphans, and how long a gateway goes on tracking it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds, state
from harness.instruments.lifetimes import (
    Watched,
    watch_fin_wait_1,
    watch_last_ack,
    watch_orphan,
    watch_until_gone,
)
from harness.instruments.patience import side_by_side
from harness.laws.ranges import between
from harness.laws.timers import TIME_WAIT, lasting, orphan_lasting, time_wait_lasting
from harness.observe import states_at, states_between
from harness.observe.conntrack import tracked
from harness.traffic import establish, listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.connection import error_of
from harness.waiting import let_pass, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import BehindNat, Lan, Pair

FIN_TIMEOUT = "net.ipv4.tcp_fin_timeout"
ORPHAN_RETRIES = "net.ipv4.tcp_orphan_retries"


AS_LONG = 7.0


@pytest.mark.slow(15)
@pytest.mark.claim("time-wait.timers-at-the-end")
def test_timers_at_the_end_of_a_fin_without_an_answer(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    client, usual, *servers = lan(4).hosts
    for together in side_by_side((1, 3)):
        shown = " and ".join(map(str, together))
        with claim.effect(f"orphans whose FIN nobody acknowledges, tcp_orphan_retries {shown}") as effect:
            orphans: list[tuple[int, Watched]] = []
            for server, retries in zip(servers, together, strict=False):
                server.sysctl[ORPHAN_RETRIES] = retries
                orphans += [(retries, watch(client, listen(server))) for watch in (watch_last_ack, watch_fin_wait_1)]
            watch_until_gone([orphan for _, orphan in orphans], deadline=60)
            for retries, orphan in orphans:
                what = f"lifetime of {orphan.state}, tcp_orphan_retries {retries}"
                effect.compare(what, seconds(orphan.lifetime), document=orphan_lasting(retries))
    with claim.control("tcp_orphan_retries 0, as by default, which stands for 8") as control:
        usual.sysctl[ORPHAN_RETRIES] = 0
        left = [watch(client, listen(usual)).ends for watch in (watch_last_ack, watch_fin_wait_1)]
        let_pass(AS_LONG, what="orphans to go on")
        states = [word for ends in left for word in states_between(usual, *ends)]
        control.expect("states after 7 s", state(states), ["LAST-ACK", "FIN-WAIT-1"])


@pytest.mark.slow(6)
@pytest.mark.claim("time-wait.timers-at-the-end")
def test_timers_at_the_end_of_fin_wait_2(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    with claim.effect("orphans whose other side does not close") as effect:
        server.sysctl[FIN_TIMEOUT] = 2
        short = watch_orphan(client, listen(server))
        server.sysctl[FIN_TIMEOUT] = 60
        lingering, left = watch_orphan(client, listen(server), linger=4), watch_orphan(client, listen(server))
        watch_until_gone([short, lingering], deadline=60)
        lifetime = seconds(short.lifetime)
        effect.compare("lifetime of FIN-WAIT-2, tcp_fin_timeout 2", lifetime, document=time_wait_lasting(2))
        lifetime = seconds(lingering.lifetime)
        effect.compare("lifetime of FIN-WAIT-2, TCP_LINGER2 4", lifetime, document=time_wait_lasting(4))
        listener = listen(server)
        hasty = establish(client, listener)
        hasty.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, -1)
        hasty.server.close()
        until(lambda: not states_at(server, listener.port), what="the end of that connection")
        effect.compare(
            "TCP_LINGER2 -1: the error that the RST is at the other side, which the FIN has reached before",
            error_of(hasty.client),
            document="EPIPE",
        )
    with claim.control("tcp_fin_timeout 60, as by default, and no TCP_LINGER2") as control:
        control.expect("state", state(states_between(server, *left.ends)), ["FIN-WAIT-2"])


@pytest.mark.slow(10)
@pytest.mark.claim("time-wait.long-fin-timeout-is-short")
def test_long_fin_timeout_is_short(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    left = watch_orphan(client, listen(server))
    for beyond in (1, 3):
        value = round(TIME_WAIT) + beyond
        with claim.effect(f"an orphaned FIN-WAIT-2, tcp_fin_timeout {value}") as effect:
            server.sysctl[FIN_TIMEOUT] = value
            orphan = watch_orphan(client, listen(server))
            watch_until_gone([orphan], deadline=120)
            effect.compare("lifetime", seconds(orphan.lifetime), document=lasting(beyond, beyond))
    with claim.control("begun before them, with tcp_fin_timeout 60") as control:
        control.expect("state", state(states_between(server, *left.ends)), ["FIN-WAIT-2"])


@pytest.mark.slow(70)
@pytest.mark.claim("time-wait.conntrack-keeps-120s")
def test_conntrack_keeps_120s(claim: ClaimRun, behind_nat: Callable[[int], BehindNat]) -> None:
    net = behind_nat(1)
    (client,), gateway, listener = net.clients, net.gateway, listen(net.server)
    with claim.effect("a connection through a gateway, which the client closes first") as effect:
        ((local, remote),) = leave_time_wait(client, listener)
        entry = tracked(gateway, (local[1], remote[1]))
        effect.compare("the gateway's entry", entry and entry.state, document="TIME_WAIT")
        effect.compare("seconds that it has left", seconds(entry and entry.seconds_left), document=between(100, 120))
        until(lambda: not states_between(client, local, remote), deadline=90, what="TIME-WAIT to be over")
        entry = tracked(gateway, (local[1], remote[1]))
        effect.compare("the entry when the client's TIME-WAIT is over", entry and entry.state, document="TIME_WAIT")
        effect.compare("seconds that it has left", seconds(entry and entry.seconds_left), document=between(30, 60))
    with claim.control("nf_conntrack_tcp_timeout_time_wait 5") as control:
        gateway.conntrack.timeouts["time_wait"] = 5
        ((local, remote),) = leave_time_wait(client, listener)
        until(lambda: tracked(gateway, (local[1], remote[1])) is None, deadline=60, what="the entry to expire")
        control.expect("the client", state(states_between(client, local, remote)), ["TIME-WAIT"])
