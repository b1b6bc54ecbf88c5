"""What cables that are like real ones do, measured: round trips, rates, losses that come again, how much a box moves.

    python -m bench.links                              # on the running kernel
    pytest bench/links.py --tcp-kernel 6.12 -rP            # on another one, in simulated time

Exits with 1 if a bound is not met. On a machine with other work to do the box is late, and says how much.
"""

from __future__ import annotations

import os
import socket
import statistics
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from harness.lab import Lab, netem, pair
from harness.observe import capture
from harness.simulated import is_simulated
from harness.traffic.datagrams import HEADERS, datagrams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lab.line import By
    from harness.observe import Capture

SIZE = 1200
TRIPS, LOST_OF, FLOOD = 30, 3000, 20_000
# So many frames wait at most: a cable has room for 10,000 to each host.
TRAIN = 8_000


def off() -> float:
    """How far a round trip may be from what was asked for, in seconds."""
    return 0.002 if is_simulated() else 0.005


class Row(NamedTuple):
    """What was measured, by whom, and whether it is as it must be."""

    what: str
    by: str
    measured: str
    bound: str
    met: bool


def round_trips(by: By, delay: float) -> Row:
    """The median and the worst of what the cable takes there and back, by the kernel's stamps at both of its ends."""
    with Lab() as lab:
        made = pair(lab, delay=delay, by=by)
        with (
            capture(made.client, snap=64) as near,
            capture(made.server, snap=64) as far,
            datagrams(made.client, made.server, made.cable) as sent,
        ):
            for _ in range(TRIPS):
                sent.round_trip()
            stamps = [
                moments(seen, direction) for seen, direction in ((near, "out"), (far, "in"), (far, "out"), (near, "in"))
            ]
    taken = [there - left + (back - answered) for left, there, answered, back in zip(*stamps, strict=True)]
    middle = statistics.median(taken)
    measured = f"median {1000 * middle:.2f} ms, {1000 * min(taken):.2f} to {1000 * max(taken):.2f}"
    within = 2 * delay <= middle <= 2 * delay + off()
    return Row(
        f"round trip, {1000 * delay:g} ms each way", by, measured, f"{2000 * delay:g} + {1000 * off():g} ms", within
    )


def rate(by: By, wanted: float, seconds: float = 2.0) -> Row:
    """The rate at which frames arrive, by the stamps of a capture."""
    frame = SIZE + HEADERS[socket.AF_INET]
    n = min(TRAIN, max(20, round(wanted * seconds / 8 / frame)))
    with Lab() as lab:
        made = pair(lab, rate=wanted, queue=n, delay=0.01, by=by)
        with (
            capture(made.server, limit=2 * n, snap=64) as seen,
            datagrams(made.client, made.server, made.cable) as sent,
        ):
            sent.send(n, SIZE)
            stamps = moments(seen, "in")
            counts = made.cable.counts()["server"]
    got = (len(stamps) - 1) * 8 * frame / (stamps[-1] - stamps[0])
    off = 100 * (got / wanted - 1)
    measured = f"{got / 1e6:.3f} Mbit/s ({off:+.2f} %), {counts.passed} of {n} frames{told(counts.late)}"
    return Row(f"rate {wanted / 1e6:g} Mbit/s", by, measured, "within 2 %", abs(off) <= 2)


def moments(seen: Capture, direction: str) -> list[float]:
    """When the datagrams of IPv4 passed, in seconds."""
    return [
        packet.time_ns / 1e9
        for packet in seen.packets()
        if packet.direction == direction and packet.frame[12:14] == b"\x08\x00"
    ]


def repeated(by: By) -> Row:
    """Which frames 1 % loss takes, twice with one seed and once with another."""
    runs = []
    for seed in (1, 1, 2):
        with Lab() as lab:
            made = pair(lab, loss=1, seed=seed, by=by)
            with datagrams(made.client, made.server, made.cable) as sent:
                came = set(sent.send(LOST_OF))
            runs.append([number for number in range(1, LOST_OF + 1) if number not in came])
    same, others = runs[0] == runs[1], runs[0] != runs[2]
    measured = f"{len(runs[0])} of {LOST_OF} lost, {'the same' if same else 'NOT the same'} again: {runs[0][:4]} …"
    return Row("1 % loss, a seed twice and another one", by, measured, "the same, and others", same and others)


def most(by: By) -> Row:
    """How many frames a second pass when as many are sent as can be."""
    with Lab() as lab:
        made = pair(lab, by=by, delay=0.001)
        with datagrams(made.client, made.server, made.cable) as sent:
            began = time.monotonic()
            sent.send(FLOOD, SIZE)
            took = time.monotonic() - began
        counts = made.cable.counts()["server"]
    measured = f"{counts.passed / took:,.0f} a second, {counts.unasked} of {FLOOD} lost unasked{told(counts.late)}"
    return Row("frames as fast as they are sent", by, measured, "-", True)


def until_ready(by: By | None) -> Row:
    """How long a pair takes until it is ready."""

    def built() -> float:
        began = time.monotonic()
        with Lab() as lab:
            if by is None:
                pair(lab)
            else:
                pair(lab, delay=0.05, by=by)
            return time.monotonic() - began

    built()
    taken = statistics.median(built() for _ in range(5))
    return Row("a pair is ready", by or "a plain cable", f"{1000 * taken:.0f} ms", "-", True)


def told(late: float | None) -> str:
    """How late a box was, in words."""
    return "" if late is None else f", up to {1000 * late:.1f} ms late"


def rows() -> Iterator[Row]:
    """All measurements, with netem where the kernel has it and with the box."""
    yield until_ready(None)
    ability = netem.ability()
    both: list[By] = ["netem", "box"] if ability.exists else ["box"]
    for by in both:
        yield until_ready(by)
        for delay in (0.001, 0.05, 0.15):
            yield round_trips(by, delay)
        for wanted in (1e6, 10e6, 50e6):
            yield rate(by, wanted)
        if by == "box" or ability.takes_seed:
            yield repeated(by)
        yield most(by)


def table() -> list[Row]:
    """Print a Markdown table, row by row; the rows."""
    print(f"Linux {os.uname().release}, {os.cpu_count()} CPUs, {'simulated' if is_simulated() else 'real'} time\n")
    print("| what | by | measured | must be | met |\n|---|---|---|---|---|")
    measured = []
    for row in rows():
        print(f"| {row.what} | {row.by} | {row.measured} | {row.bound} | {'yes' if row.met else 'NO'} |", flush=True)
        measured.append(row)
    return measured


def test_links() -> None:
    """The same as a test, for other kernels: pytest -rP shows what it printed."""
    assert [row.what for row in table() if not row.met] == []


if __name__ == "__main__":
    sys.exit(0 if all(row.met for row in table()) else 1)
