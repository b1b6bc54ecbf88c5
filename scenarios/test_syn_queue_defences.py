"""A flood at the SYN queue: which of the documents' defences let clients through, and up to which flood."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.instruments.syn_flood import Defence, Services
from harness.laws.queues import Knobs
from harness.laws.ranges import at_least

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import Lan

UNDEFENDED = Knobs(backlog=200, somaxconn=200, tcp_max_syn_backlog=512, tcp_syncookies=0)
LONGER = Knobs(backlog=1024, somaxconn=1024, tcp_max_syn_backlog=1024, tcp_syncookies=0)
DEFENCES = {
    "none": Defence(UNDEFENDED),
    "a longer queue": Defence(LONGER),
    "cookies": Defence(Knobs(200, 200, 512, tcp_syncookies=1)),
    "fewer retries": Defence(UNDEFENDED, synack_retries=1),
    "all three": Defence(Knobs(1024, 1024, 1024, tcp_syncookies=1), synack_retries=1),
}
DEFENDED = sorted(set(DEFENCES) - {"none"})
COOKIES = ("cookies", "all three")


@pytest.mark.slow(20)
@pytest.mark.claim("syn-queue.defences-compared")
def test_defences_compared(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    services = Services(lan, DEFENCES)
    # Until a request is 7 s old none leaves a full queue, which is when the kernel begins to give up requests early
    # (net/ipv4/inet_connection_sock.c, reqsk_timer_handler()); at this rate a queue of 200 is full after 5 s. With one
    # retry a request leaves after 3 s, and no more than 140 are there at a time.
    with claim.effect("40 SYNs a second that are never acknowledged, until queues of 200 are full") as effect:
        services.open()
        with services.flooded(rate=40, distinct=400):
            services.wait_until_full(["none", "cookies"])
            served = services.serve(10, through=DEFENDED)
            for name in DEFENDED:
                moved = effect.delta(services.hosts[name]).TcpExt
                effect.compare(f"clients of 10 served, {name}", served[name], document=10)
                effect.premise(f"dropped, {name}", moved.ListenDrops, 0)
                effect.premise(f"of them by a cookie, {name}", moved.SyncookiesRecv, 10 if name == "cookies" else 0)
            effect.note("half-open", services.half_open())
        effect.series("served under the flood", list(served.items()), x="defence", unit="clients of 10")
    with claim.control("the same flood without a defence") as control:
        control.expect("clients of 10 served", served["none"], 0)
    with claim.control("no flood and no defence") as control:
        services.open()
        control.expect("clients of 10 served", services.serve(10)["none"], 10)
    with claim.control(
        "1000 SYNs at once: more than the longer queue holds, and sooner than a request leaves"
    ) as control:
        services.open()
        services.burst(1000)
        before = services.dropped()
        served = services.serve(10, through=COOKIES)
        for name, dropped in services.dropped().items():
            helped = name in COOKIES
            control.expect(f"clients of 10 served, {name}", served[name], 10 if helped else 0)
            control.expect(f"SYNs of clients dropped, {name}", dropped - before[name], 0 if helped else at_least(10))
