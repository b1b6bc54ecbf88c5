"""SYN cookies against floods: that 1 is enough, and how large a flood may be."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from harness.instruments.syn_flood import answer_to_nobody, besieged
from harness.instruments.syn_queue import SYNCOOKIES, drops
from harness.laws.ranges import at_least, at_most
from harness.traffic import connect, echo, flood, listen
from harness.waiting import until, until_at_least

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from harness.claims.phases import LivePhase
    from harness.claims.record import ClaimRun
    from harness.lab import Pair
    from harness.traffic import Listener

pytestmark = pytest.mark.usefixtures("syn_cookies")

# SYNs a second.
SMALL, LARGE = 1000, 20_000


def service(pair: Pair, cookies: int) -> Listener:
    """A service with room for some four half-open requests: so few stay for a minute (reqsk_timer_handler())."""
    pair.server.sysctl[SYNCOOKIES] = cookies
    return listen(pair.server, 3, answer=echo)


def attacks(pair: Pair, *rates: int) -> Iterator[tuple[str, Listener, AbstractContextManager[object]]]:
    """Floods of crafted SYNs at these rates, and hping3, which has no IPv6: each at a service with tcp_syncookies 1."""
    for rate in rates:
        listener = service(pair, 1)
        attack = flood(pair.server, pair.client, listener, seconds=60, rate=rate, distinct=4096)
        yield f"{rate} SYNs a second", listener, attack
    if pair.server.family == socket.AF_INET:
        answer_to_nobody(pair.server, pair.client)
        listener = service(pair, 1)
        yield "hping3 -S --flood --rand-source", listener, besieged(pair.client, listener, share=1)


def wait_until_full(phase: LivePhase, pair: Pair) -> None:
    """Wait until a flood has filled the SYN queue: SYNs are dropped, or get cookies."""

    def beyond() -> int:
        moved = phase.delta(pair.server).TcpExt
        return drops(moved) + moved.SyncookiesSent

    until(lambda: beyond() >= 100, what="a full SYN queue")


def control_without_cookies(claim: ClaimRun, pair: Pair) -> None:
    """Ten clients that knock twice at a service without cookies."""
    listener = service(pair, 0)
    attack = flood(pair.server, pair.client, listener, seconds=60, rate=LARGE, distinct=4096)
    with attack, claim.control("tcp_syncookies 0: 10 clients during a flood, until each has sent two SYNs") as control:
        wait_until_full(control, pair)
        clients = connect(pair.client, listener, 10)
        until_at_least(
            lambda: control.delta(pair.client).TcpExt.TCPSynRetrans, 10, what="10 clients to send their SYN again"
        )
        control.expect("clients connected", clients.connected, at_most(1))
        control.expect("SYNs dropped", control.delta(pair.server).TcpExt.ListenDrops, at_least(18))


@pytest.mark.claim("syncookies.value-1-suffices")
def test_value_1_suffices(claim: ClaimRun, pair: Pair) -> None:
    for name, listener, attack in attacks(pair, SMALL):
        with attack, claim.effect(f"tcp_syncookies 1, {name}: 10 clients") as effect:
            wait_until_full(effect, pair)
            served = sum(connect(pair.client, listener, wait=True).ask() for _ in range(10))
            effect.compare("clients served", served, document=10)
            moved = effect.delta(pair.server).TcpExt
            effect.compare("SYNs dropped", drops(moved), document=0)
            effect.compare("clients served by a cookie", moved.SyncookiesRecv, document=10)
    control_without_cookies(claim, pair)


@pytest.mark.claim("syncookies.small-attacks-only")
def test_small_attacks_only(claim: ClaimRun, pair: Pair) -> None:
    for name, listener, attack in attacks(pair, SMALL, LARGE):
        with attack, claim.effect(f"tcp_syncookies 1, {name}: 10 clients") as effect:
            wait_until_full(effect, pair)
            served = sum(connect(pair.client, listener, wait=True).ask() for _ in range(10))
            most = 10 if name.startswith(f"{SMALL} ") else at_most(5)
            effect.compare("clients served", served, document=most, kernel=10)
    control_without_cookies(claim, pair)
