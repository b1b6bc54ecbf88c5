"""The accept queue: how long it is, who sets its limit, and when a new limit counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.instruments.accept_queue import come_one_by_one, room
from harness.laws import since
from harness.laws.queues import Knobs
from harness.observe import ss
from harness.traffic import connect, listen
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

SOMAXCONN = "net.core.somaxconn"
LIMITS = [(7, 100), (100, 7), (7, 7), (1, 5), (0, 5)]


@pytest.mark.claim("accept-queue.capacity")
def test_capacity(claim: ClaimRun, pair: Pair) -> None:
    law: list[tuple[float, float]] = []
    for somaxconn, backlog in LIMITS:
        pair.server.sysctl[SOMAXCONN] = somaxconn
        limit = min(somaxconn, backlog)
        with claim.effect(f"somaxconn {somaxconn}, backlog {backlog}: nobody accepts, {limit + 5} connect") as effect:
            listener = listen(pair.server, backlog)
            clients = connect(pair.client, listener, limit + 5)
            until(lambda: clients.connected + effect.delta(pair.server).TcpExt.ListenOverflows >= limit + 5)
            measured = listener.waiting
            effect.compare("connections waiting", measured, document=limit, kernel=room(Knobs(backlog, somaxconn)))
            law.append((limit, measured))
            effect.series("waiting", law, x="min(somaxconn, backlog)", unit="connections")
            effect.series("the document", [(n, n) for n, _ in law], x="min(somaxconn, backlog)", unit="connections")
        clients.close()
        with claim.control(f"somaxconn {somaxconn}, backlog {backlog}: each is accepted before the next") as control:
            listener = listen(pair.server, backlog)
            for _ in range(limit + 5):
                connect(pair.client, listener, wait=True)
                listener.accept()
            control.expect("handshakes refused", control.delta(pair.server).TcpExt.ListenOverflows, 0)


def lengths(pair: Pair, somaxconn: int, backlog: int) -> tuple[int, int]:
    """What ss shows as Send-Q of a new listener, and how many connections wait when 30 clients have come."""
    pair.server.sysctl[SOMAXCONN] = somaxconn
    with listen(pair.server, backlog) as listener:
        return ss.listener(pair.server, listener.port).send_q, come_one_by_one(pair.client, listener, 30)


@pytest.mark.claim("accept-queue.smaller-decides")
def test_smaller_decides(claim: ClaimRun, pair: Pair) -> None:
    for smaller, as_it_is, larger_raised, smaller_raised in (
        ("somaxconn", (7, 100), (7, 4096), (20, 100)),
        ("the backlog", (100, 7), (4096, 7), (100, 20)),
    ):
        with claim.effect(f"(somaxconn, backlog) {as_it_is}") as effect:
            before = lengths(pair, *as_it_is)
            effect.compare("Send-Q", before[0], document=7)
        with claim.effect(f"the larger of them raised to 4096: {larger_raised}") as effect:
            after = lengths(pair, *larger_raised)
            effect.compare("(Send-Q, connections waiting of 30)", after, document=before)
        with claim.control(f"the smaller of them, {smaller}, raised from 7 to 20: {smaller_raised}") as control:
            limit, waiting = lengths(pair, *smaller_raised)
            control.expect("Send-Q", limit, 20)
            control.expect("connections waiting of 30, more than before", waiting - before[1], 20 - 7)
    with claim.effect("both far beyond 16 bits: somaxconn 100000, backlog 70000") as effect:
        pair.server.sysctl[SOMAXCONN] = 100_000
        effect.compare("Send-Q", listen(pair.server, 70_000).limit, document=70_000)


@pytest.mark.claim("accept-queue.somaxconn-default")
def test_somaxconn_default(claim: ClaimRun, pair: Pair) -> None:
    default = 4096 if since("somaxconn-default-is-4096") else 128
    with claim.effect("a fresh network namespace") as effect:
        effect.compare("somaxconn", int(pair.server.sysctl[SOMAXCONN]), document=128, kernel=default)
        limit = listen(pair.server, 100_000).limit
        effect.compare("Send-Q of listen(100000)", limit, document=128, kernel=default)
    with claim.control("somaxconn set to 300") as control:
        pair.server.sysctl[SOMAXCONN] = 300
        control.expect("Send-Q of listen(100000)", listen(pair.server, 100_000).limit, 300)


@pytest.mark.claim("accept-queue.resize-needs-listen")
def test_resize_needs_listen(claim: ClaimRun, pair: Pair) -> None:
    pair.server.sysctl[SOMAXCONN] = 5
    usual = come_one_by_one(pair.client, listen(pair.server, 1000), 30)
    listener = listen(pair.server, 1000)
    with claim.effect("somaxconn raised from 5 to 20 while the server listens") as effect:
        pair.server.sysctl[SOMAXCONN] = 20
        effect.compare("Send-Q", listener.limit, document=5)
        effect.compare("connections waiting, of 30", come_one_by_one(pair.client, listener, 30), document=usual)
    with claim.control("listen() called again, and 30 clients more") as control:
        listener.listen(1000)
        control.expect("Send-Q", listener.limit, 20)
        more = come_one_by_one(pair.client, listener, 30) - usual
        control.expect("connections waiting, more than before", more, 20 - 5)
    listener = listen(pair.server, 1000)
    with claim.effect("somaxconn lowered from 20 to 5 while another server listens") as effect:
        pair.server.sysctl[SOMAXCONN] = 5
        effect.compare("Send-Q", listener.limit, document=20)
        left = come_one_by_one(pair.client, listener, 18)
        effect.compare("connections waiting, of 18", left, document=18)
    with claim.control("listen() called again there, and 5 clients more") as control:
        listener.listen(1000)
        control.expect("Send-Q", listener.limit, 5)
        control.expect("connections waiting", come_one_by_one(pair.client, listener, 5), left)
