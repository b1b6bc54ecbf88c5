"""tcp_tw_reuse_delay: how old a TIME_WAIT must be before connect() takes its port over, where that can be set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds
from harness.instruments.take_over import DELAY, Trial, watch
from harness.laws.ranges import at_least
from harness.traffic import listen
from harness.traffic.ports import give_ports

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lan

REUSE = "net.ipv4.tcp_tw_reuse"
DELAYS = (1, 300, 1700)  # ms


@pytest.mark.slow(8)
@pytest.mark.claim("tw-reuse.delay")
def test_delay(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    server, usual, *clients = lan(5).hosts
    if DELAY not in server.sysctl:
        claim.not_applicable("the kernel has no such knob", shown=server.run("sysctl", DELAY, check=False).stderr)
        return

    def trial(client: Host, delay: int | None) -> Trial:
        client.sysctl[REUSE] = 1
        if delay is not None:
            client.sysctl[DELAY] = delay
        give_ports(client)
        return Trial(client, listen(server), 0.1)

    with claim.effect("tcp_tw_reuse 1, tcp_tw_reuse_delay 1, 300 and 1700") as effect:
        trials = {delay: trial(client, delay) for client, delay in zip(clients, DELAYS, strict=True)}
        watch([*trials.values()])
        for delay, tried in trials.items():
            age = seconds(tried.taken_at)
            effect.compare(f"delay {delay} ms: age when it was taken over", age, document=at_least(delay / 1000))
            effect.compare(f"delay {delay} ms: tries against it", tried.against_the_law(), document=[])
        points = [(delay, seconds(tried.taken_at or 0.0)) for delay, tried in trials.items()]
        effect.series("age when it was taken over", points, x="ms of tcp_tw_reuse_delay", unit="s")
    with claim.control("tcp_tw_reuse_delay as it is by default") as control:
        untouched = trial(usual, None)
        watch([untouched])
        control.expect("tcp_tw_reuse_delay", usual.sysctl[DELAY], "1000")
        control.expect("age when it was taken over", seconds(untouched.taken_at), at_least(1.0))
        control.expect("tries against that", untouched.against_the_law(), [])
