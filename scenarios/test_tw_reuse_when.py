"""tcp_tw_reuse: what it is by default, and how old a TIME_WAIT must be before connect() takes its port over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import Unsupported
from harness.evidence import seconds
from harness.instruments.take_over import (
    CABLE,
    DELAY,
    LOOPBACK,
    OWN_ADDRESS,
    EachWay,
    RarerWays,
    Trial,
    grow_old,
    law_at,
    watch,
)
from harness.laws import before, since
from harness.laws.kernel import running
from harness.laws.ranges import at_least, one_of
from harness.traffic import listen
from harness.traffic.ports import give_ports

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lan
    from harness.traffic import Listener

REUSE = "net.ipv4.tcp_tw_reuse"
PHASES = (0.05, 0.35, 0.65, 0.9)
EVERY_WAY, NO_WAY = (dict.fromkeys((CABLE, LOOPBACK, OWN_ADDRESS), taken) for taken in (True, False))


@pytest.mark.claim("tw-reuse.default")
def test_default(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    compare_the_default(claim, lan)


@pytest.mark.claim("tw-reuse.off-on-older-kernels")
def test_off_on_older_kernels(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    if since("tw-reuse-on-loopback"):
        claim.not_applicable("the document says so of older kernels", shown="{}.{}.{}".format(*running().release))
        return
    compare_the_default(claim, lan)


def compare_the_default(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    """What tcp_tw_reuse is where nobody has set it, and which TIME_WAITs it takes over, beside a document's 0."""
    server, *clients = lan(4).hosts
    on_loopback = since("tw-reuse-on-loopback")
    ways = [EachWay(client, server) for client in clients]
    with claim.effect("a fresh network namespace") as effect:
        default = clients[0].sysctl[REUSE]
        effect.compare("tcp_tw_reuse", default, document="0", kernel="2" if on_loopback else "0")
    grow_old()
    with claim.effect("what the default does with a TIME_WAIT of 2 s") as effect:
        # tcp_twsk_unique() looks at the addresses and at what the socket was bound to, not at the route.
        kernel = NO_WAY | {LOOPBACK: on_loopback}
        effect.compare("which connect() takes over", ways[0].taken_over(), document=NO_WAY, kernel=kernel)
    with claim.control("set to 0, and to 1") as control:
        for way, value, wanted in zip(ways[1:], (0, 1), (NO_WAY, EVERY_WAY), strict=True):
            server.lab.set_all(REUSE, value)
            control.expect(f"taken over with {value}", way.taken_over(), wanted)


@pytest.mark.claim("tw-reuse.boolean")
def test_boolean(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    server, *clients = lan(4).hosts
    on_loopback = since("tw-reuse-on-loopback")
    ways = [EachWay(client, server) for client in clients]
    grow_old()

    def taken_over(value: int) -> dict[str, bool]:
        """Which TIME_WAITs of 2 s connect() takes over with a value; each client has them once."""
        server.lab.set_all(REUSE, value)
        return ways[value].taken_over()

    with claim.effect("tcp_tw_reuse 2") as effect:
        kernel = NO_WAY | {LOOPBACK: True} if on_loopback else EVERY_WAY
        effect.compare("which connect() takes over", taken_over(2), document=one_of(NO_WAY, EVERY_WAY), kernel=kernel)
    with claim.control("the two settings of a switch, 0 and 1") as control:
        control.expect(
            "which connect() takes over with 0 and with 1", [taken_over(0), taken_over(1)], [NO_WAY, EVERY_WAY]
        )


@pytest.mark.claim("tw-reuse.default")
def test_default_by_rarer_ways(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    if before("tw-reuse-on-loopback"):
        raise Unsupported("the default is 0 here, which knows no ways")
    clients = lan(3).hosts
    ways = [RarerWays(client) for client in clients]
    grow_old()
    with claim.effect(
        "the default, and a TIME_WAIT of 2 s: one address is a loopback address, or lo is named"
    ) as effect:
        for way, taken in ways[0].taken_over().items():
            effect.compare(f"connect() takes it over: {way}", taken, document=False, kernel=True)
    with claim.control("set to 0, and to 1") as control:
        for each, client, value in zip(ways[1:], clients[1:], (0, 1), strict=True):
            client.lab.set_all(REUSE, value)
            control.expect(f"taken over with {value}", set(each.taken_over().values()), {bool(value)})


@pytest.mark.claim("tw-reuse.on-by-default")
def test_on_by_default(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    if before("tw-reuse-said-to-be-on"):
        claim.not_applicable("the document says so of later kernels", shown="{}.{}.{}".format(*running().release))
        return
    server, untouched, one = lan(3).hosts
    on_loopback = since("tw-reuse-on-loopback")
    ways = {client: EachWay(client, server) for client in (untouched, one)}
    with claim.effect("a fresh network namespace") as effect:
        default = untouched.sysctl[REUSE]
        effect.compare("tcp_tw_reuse", default, document="1", kernel="2" if on_loopback else "0")
    grow_old()
    with claim.effect("what the default does with a TIME_WAIT of 2 s") as effect:
        kernel = NO_WAY | {LOOPBACK: on_loopback}
        effect.compare("which connect() takes over", ways[untouched].taken_over(), document=EVERY_WAY, kernel=kernel)
    with claim.control("set to 1") as control:
        one.sysctl[REUSE] = 1
        control.expect("which connect() takes over", ways[one].taken_over(), EVERY_WAY)


@pytest.mark.slow(6)
@pytest.mark.claim("tw-reuse.after-one-second")
def test_after_one_second(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    server, *clients = lan(5).hosts
    listener, law = listen(server), law_at(server)
    for client in clients:
        client.sysctl[REUSE] = 1
        give_ports(client)
    with claim.effect("TIME_WAIT entered at four phases of the kernel's second") as effect:
        trials = [Trial(client, listener, phase) for client, phase in zip(clients, PHASES, strict=True)]
        watch(trials)
        for trial in trials:
            where, age = f"entered {trial.phase} s into the second", law.age(trial.phase)
            effect.premise(f"{where}: tries against the kernel's clock", trial.against_the_law(), [])
            too_young = trial.taken_younger_than(1.0)
            effect.compare(f"{where}: taken over before it was 1 s old", too_young, document=False, kernel=age < 1)
            # 1 ms, the unit of the newest kernels' clock, and a tick, of up to 10 ms, of the older ones'.
            too_old = trial.refused_older_than(1.011)
            effect.compare(f"{where}: refused when it was older than 1 s", too_old, document=False, kernel=age > 1.011)
        ages = [(seconds(trial.entered_at), seconds(trial.taken_at or 0.0)) for trial in trials]
        effect.series("age when it was taken over, by the phase in which it was entered", ages, unit="s")
    first, *others = clients
    listener = listen(server)
    with claim.control("without tcp_tw_reuse; and with another tcp_tw_reuse_delay where the kernel has it") as control:
        first.sysctl[REUSE] = 0
        never = Trial(first, listener, 0.9, patience=2.2)
        delays = dict(zip(others, (1, 300, 1700), strict=True)) if DELAY in server.sysctl else {}
        delayed = [delayed_trial(client, listener, delay) for client, delay in delays.items()]
        watch([never, *delayed])
        control.expect("with 0: age when it was taken over", seconds(never.taken_at), None)
        control.expect("with 0: refused older than 2 s", never.refused_older_than(2.0), True)
        for trial, delay in zip(delayed, delays.values(), strict=True):
            control.expect(f"delay {delay} ms: tries against it", trial.against_the_law(), [])
            taken_at = seconds(trial.taken_at)
            control.expect(f"delay {delay} ms: age when it was taken over", taken_at, at_least(delay / 1000))
        ages_by_delay = {delay: seconds(trial.taken_at) for trial, delay in zip(delayed, delays.values(), strict=True)}
        control.note("ages when taken over, by delay in ms", ages_by_delay)


def delayed_trial(client: Host, listener: Listener, delay: int) -> Trial:
    """A trial with another tcp_tw_reuse_delay, in milliseconds."""
    client.sysctl[DELAY] = delay
    return Trial(client, listener, 0.1)
