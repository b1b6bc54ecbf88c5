"""tcp_tw_reuse: what it is by default, and how old a TIME_WAIT must be before connect() takes its port over."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds
from harness.instruments.take_over import DELAY, Trial, grow_old, law_at, takes_over, watch
from harness.laws import since
from harness.laws.ranges import at_least
from harness.traffic import connect, listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.ports import give_ports

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lan
    from harness.traffic import Listener

REUSE = "net.ipv4.tcp_tw_reuse"
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
PHASES = (0.05, 0.35, 0.65, 0.9)


@pytest.mark.claim("tw-reuse.default")
def test_default(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    server, *clients = lan(4).hosts
    default = "2" if since("tw-reuse-on-loopback") else "0"
    listeners = {}
    for client in clients:
        give_ports(client)
        listeners[client] = {
            "cable": listen(server),
            "loopback address": listen(client, port=8001, address=LOOPBACK[server.family]),
            "own address, through lo": listen(client, port=8002),
        }
        for listener in listeners[client].values():
            leave_time_wait(client, listener)
    untouched, one, zero = clients

    def taken_over(client: Host) -> dict[str, bool]:
        return {name: takes_over(client, listener) for name, listener in listeners[client].items()}

    with claim.effect("a fresh network namespace") as effect:
        said = "1" if since("tw-reuse-said-to-be-on") else "0"
        effect.compare("tcp_tw_reuse, said to be 0", untouched.sysctl[REUSE], document="0", kernel=default)
        effect.compare("tcp_tw_reuse, said to be 1 since 3.7", untouched.sysctl[REUSE], document=said, kernel=default)
    grow_old()
    with claim.effect("what the default does with a TIME_WAIT of 2 s") as effect:
        effect.compare(
            "which it lets connect() take over",
            taken_over(untouched),
            document={"cable": False, "loopback address": False, "own address, through lo": False},
            # tcp_twsk_unique() looks at the addresses and at what the socket was bound to, not at the route.
            kernel={"cable": False, "loopback address": default == "2", "own address, through lo": False},
        )
    with claim.control("set to 1, and to 0") as control:
        one.sysctl[REUSE] = 1
        control.expect("taken over with 1", taken_over(one), dict.fromkeys(listeners[one], True))
        zero.sysctl[REUSE] = 0
        control.expect("taken over with 0", taken_over(zero), dict.fromkeys(listeners[zero], False))


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
    with claim.control("a client that binds the port itself is held to neither") as control:
        source, listener = (first.ip, 41001), listen(server)
        leave_time_wait(first, listener, source=source)
        bound = connect(first, listener, source=source, wait=True)[0]
        control.expect("with 0, at once", bound.result, "connected")


def delayed_trial(client: Host, listener: Listener, delay: int) -> Trial:
    """A trial with another tcp_tw_reuse_delay, in milliseconds."""
    client.sysctl[DELAY] = delay
    return Trial(client, listener, 0.1)
