"""How long TIME-WAIT lasts, and what tcp_fin_timeout has to do with it."""

from __future__ import annotations

import math
import socket
import time
from typing import TYPE_CHECKING

import pytest

from harness.evidence import output, seconds, state
from harness.instruments.closing import SimultaneousClose
from harness.instruments.lifetimes import (
    Watched,
    just_begun,
    seconds_left,
    watch_orphan,
    watch_time_wait,
    watch_until_gone,
)
from harness.laws.ranges import OneOf, at_most, one_of
from harness.laws.timers import lasting, time_wait_lasting
from harness.observe import ends_at, ss, states_at
from harness.traffic import establish, listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.connection import wait_for_end
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair

FIN_TIMEOUT = "net.ipv4.tcp_fin_timeout"
VALUES = (60, 30, 5)


def just_begun_in_ss(begun: float) -> OneOf:
    """What a timer of 60 s that has just begun has left, as ss prints it."""
    left = ("1min", *(f"{n}sec" for n in range(math.floor(just_begun(begun).low), 60)))
    return one_of(*(f"timer:(timewait,{each},0)" for each in left))


def grow_old(server: Host, port: int, until_left: float) -> list[tuple[float, float]]:
    """Let a TIME-WAIT grow old until its timer has so many seconds left; (seconds passed, seconds left) meanwhile."""
    course: list[tuple[float, float]] = []
    started = time.monotonic()

    def old_enough() -> bool:
        course.append((time.monotonic() - started, seconds_left(server, port)))
        return course[-1][1] <= until_left

    until(old_enough, deadline=30, what=f"the timer to have {until_left} s left")
    return course


@pytest.mark.slow(66)
@pytest.mark.claim("time-wait.lasts-60s")
def test_lasts_60s(claim: ClaimRun, pair: Pair) -> None:
    server = pair.server
    with claim.effect("two TIME-WAIT, the second begun when the first is 3 s old, until both are gone") as effect:
        begun = time.monotonic()
        first = watch_time_wait(pair.client, listen(server))
        left = seconds(seconds_left(server, first.port))
        effect.compare("its timer at the begin, by inet_diag", left, document=just_begun(begun))
        row = ss.row(server, "-tano", "state", "time-wait", f"sport = :{first.port}")
        (timer,) = (word for word in row.details if word.startswith("timer:"))
        effect.compare("its timer at the begin, by ss -o", output(timer), document=just_begun_in_ss(begun))
        course = grow_old(server, first.port, until_left=57)
        effect.series("timer of the first", [(x, seconds(y)) for x, y in course[::10] + course[-1:]], unit="s")
        second = watch_time_wait(pair.client, listen(server))
        watch_until_gone([first, second], deadline=120)
        lifetimes = {"first": seconds(first.lifetime), "second": seconds(second.lifetime)}
        for name, lifetime in lifetimes.items():
            # The steps of a timer may make a few more of the document's 60 s.
            effect.compare(f"lifetime of the {name}", lifetime, document=lasting(60), kernel=time_wait_lasting(60))
        effect.note("lifetimes", lifetimes)
    with claim.control("the other end of such a connection, the client's") as control:
        listener = listen(server)
        connection = establish(pair.client, listener)
        connection.server.close()
        wait_for_end(connection.client)
        begun = time.monotonic()
        connection.client.close()
        until(lambda: not states_at(pair.client, listener.port), what="the client's end to be gone")
        control.expect("its lifetime in seconds", seconds(time.monotonic() - begun), at_most(5))
        control.expect("states at the server", state(states_at(server, listener.port)), ["TIME-WAIT"])


@pytest.mark.claim("time-wait.lasts-60s")
def test_lasts_60s_after_closing(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    listener = listen(server)
    with claim.effect("both sides close at once: TIME-WAIT comes of CLOSING") as effect:
        closing = SimultaneousClose(client, listener, claim.capture(server, port=listener.port))
        closing.send_fins()
        begun = time.monotonic()
        closing.deliver_fins()
        closing.deliver_acks()
        for host in (client, server):
            left = seconds(seconds_left(host, listener.port))
            effect.compare(f"timer at the {host.name}, by inet_diag", left, document=just_begun(begun))
    with claim.control("one side closes first: TIME-WAIT comes of FIN-WAIT-2") as control:
        listener = listen(server)
        begun = time.monotonic()
        leave_time_wait(client, listener)
        control.expect("timer", seconds(seconds_left(client, listener.port)), just_begun(begun))


@pytest.mark.slow(63)
@pytest.mark.claim("time-wait.fin-timeout-sets-it")
def test_fin_timeout_sets_it(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    with claim.effect("tcp_fin_timeout 60, 30 and 5, a TIME-WAIT and an orphaned FIN-WAIT-2 under each") as effect:
        effect.compare("tcp_fin_timeout by default", server.sysctl[FIN_TIMEOUT], document="60")
        waiting: dict[int, Watched] = {}
        orphans: dict[int, Watched] = {}
        for value in VALUES:
            server.sysctl[FIN_TIMEOUT] = value
            waiting[value] = watch_time_wait(client, listen(server))
            orphans[value] = watch_orphan(client, listen(server))
        watch_until_gone([*waiting.values(), *orphans.values()], deadline=120)
        lifetimes = {value: seconds(watched.lifetime) for value, watched in waiting.items()}
        for value, lifetime in lifetimes.items():
            effect.compare(
                f"lifetime of TIME-WAIT, tcp_fin_timeout {value}",
                lifetime,
                document=lasting(value),
                kernel=time_wait_lasting(60),
            )
        effect.note("lifetimes of TIME-WAIT", lifetimes)
    with claim.control("what the knob does time: the orphans, whose applications have closed them") as control:
        for value, orphan in orphans.items():
            lifetime = seconds(orphan.lifetime)
            control.expect(f"lifetime of FIN-WAIT-2, tcp_fin_timeout {value}", lifetime, time_wait_lasting(value))
        points = [(value, seconds(orphans[value].lifetime[1])) for value in reversed(VALUES)]
        control.series("FIN-WAIT-2", points, x="tcp_fin_timeout", unit="s")
        listener = listen(server)
        establish(client, listener).server.shutdown(socket.SHUT_WR)
        until(lambda: states_at(server, listener.port) == ["FIN-WAIT-2"], what="FIN-WAIT-2")
        (held,) = ends_at(server, listener.port)
        control.expect("timer of a FIN-WAIT-2 whose application holds it", held.timer, None)
