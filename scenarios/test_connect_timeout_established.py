"""When an established connection is given up whose peer has fallen silent: tcp_retries2."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds
from harness.instruments.patience import RTO_MAX_MS, Stranded, give_up, side_by_side
from harness.instruments.retransmissions import gaps
from harness.laws import since
from harness.laws.ranges import at_most, between
from harness.laws.timers import JIFFY, LATE, RTO_MAX, RTO_MIN, doubling
from harness.observe import socket_of
from harness.traffic import answered, drop, echo, listen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.claims.phases import Effect
    from harness.claims.record import ClaimRun
    from harness.lab import Lan
    from harness.observe import Capture

# For how many seconds each value stands: as many doublings of 200 ms, and then 120 s each (ip-sysctl.rst).
STANDS_FOR = {1: 0.6, 2: 1.4, 3: 3.0, 4: 6.2, 5: 12.6, 6: 25.4, 7: 51.0, 8: 102.2, 10: 324.6, 15: 924.6}

# More retransmissions than any of these times has room for.
MANY = 40


@pytest.mark.claim("connect-timeout.retries2")
@pytest.mark.slow(60)
def test_retries2(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    give_up_after(claim, lan, [1, 2, 3, 4, 5, 6, 7])


@pytest.mark.claim("connect-timeout.retries2")
@pytest.mark.full_size("the default of 15 takes more than 924.6 s")
@pytest.mark.slow(1100)
def test_retries2_default(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    give_up_after(claim, lan, [8, 10, 15])


def give_up_after(claim: ClaimRun, lan: Callable[..., Lan], values: Sequence[int]) -> None:
    """Let connections with these values of tcp_retries2 send to a peer that has fallen silent, side by side."""
    server, *ordinary, quick, bounded, untouched = lan(len(values) + 4).hosts
    listener = listen(server, answer=echo)
    seen = claim.capture(server, port=listener.port)
    for together in side_by_side(values):
        with claim.effect(f"the peer falls silent: tcp_retries2 {', '.join(map(str, together))}") as effect:
            by_retries = [Stranded(f"{n}", host, listener, n) for n, host in zip(together, ordinary, strict=False)]
            stranded = [*by_retries]
            if 3 in together:
                # The patience is a time. With an RTO of 50 ms more retransmissions fit into it.
                stranded.append(Stranded("3, rto_min 50ms", quick, listener, 3, rto_min=0.05))
            if RTO_MAX_MS in bounded.sysctl:
                stranded.append(Stranded("15, tcp_rto_max_ms 1000", bounded, listener, rto_max=1.0))
            left = Stranded("left at 15", untouched, listener)
            silence = drop(server, dport=listener.port)
            if since("retries2-per-namespace"):
                left.speak()
            give_up(stranded)
            for connection in stranded:
                compare(effect, connection, seen)
            points = [(float(given.retries or 0), seconds(round(given.seconds(seen), 3))) for given in by_retries]
            effect.series("given up", points, x="tcp_retries2", unit="s")
        with claim.control("tried at the same time: tcp_retries2 left at 15") as control:
            if max(together) < 15 and since("retries2-per-namespace"):
                control.expect("state", socket_of(untouched, left.socket).state, "ESTAB")
                control.expect("bytes that wait for an answer", socket_of(untouched, left.socket).send_q, 1)
        with claim.control("the peer answers again") as control:
            silence.lift()
            alive = answered(ordinary[0], listener)
            control.expect("state", socket_of(ordinary[0], alive).state, "ESTAB")


def compare(effect: Effect, stranded: Stranded, seen: Capture) -> None:
    """retransmits_timed_out() counts from the first retransmission by the RTO, and looks at each RTO."""
    name, times, retries = stranded.name, stranded.transmissions(seen), stranded.retries or 0
    # Where no RTO is longer than a second: 0.2, 0.4, 0.8 s, and 13 times 1 s.
    patience = STANDS_FOR[retries] if stranded.rto_max is None else 14.4
    first = stranded.first_by_rto(seen, effect.delta(stranded.host))
    to_the_last, to_the_end = seconds([round(times[-1] - first, 3), round(stranded.end.at - first, 3)])
    # The end comes with the RTO that follows: at most as long again, and no longer than the longest.
    longest = 2 * patience + LATE if stranded.rto_max is None else patience + stranded.rto_max + LATE
    effect.compare(f"tcp_retries2 {name}: the error", stranded.end.error, document="ETIMEDOUT")
    what = f"tcp_retries2 {name}: seconds from the first retransmission"
    effect.compare(f"{what} to the last", to_the_last, document=at_most(patience + JIFFY))
    effect.compare(f"{what} to the end", to_the_end, document=between(patience - JIFFY, 1.13 * longest))
    # Each wait is twice the one before it: a machine that is late makes them fewer, and nothing makes them more.
    waits = doubling(2 * (stranded.rto_min or RTO_MIN), MANY, stranded.rto_max or RTO_MAX)
    most = 1 + sum(at <= patience + JIFFY for at in accumulate(waits))
    again = sum(at >= first for at in times)
    effect.compare(f"tcp_retries2 {name}: retransmissions by the RTO", again, document=at_most(most))
    effect.note(f"{name}: seconds in all", seconds(round(stranded.seconds(seen), 2)))
    effect.note(f"{name}: sent again after", seconds(gaps(times)))
