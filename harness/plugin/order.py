"""Which tests run here and in which order: those that wait longest first, so that the rest fits beside them."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

# What a test takes that is not marked, or without a number, in seconds: only how it compares with the waits matters.
ORDINARY, SLOW = 2.0, 10.0


def choose(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the forms in full size unless they are asked for, and with --tcp-claim what settles another claim."""
    claims: list[str] = config.getoption("tcp_claim")
    full_size: bool = config.getoption("tcp_full_size")

    def wanted(item: pytest.Item) -> bool:
        if item.get_closest_marker("full_size") and not full_size:
            return False
        marker = item.get_closest_marker("claim")
        name = str(marker.args[0]) if marker and marker.args else ""
        return not claims or name in claims or name.partition(".")[0] in claims

    left = [item for item in items if not wanted(item)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if wanted(item)]


def waiting_time(item: pytest.Item) -> float:
    """How long a test takes, by its marker, in seconds."""
    marker = item.get_closest_marker("slow")
    if marker is None:
        return ORDINARY
    return float(marker.args[0]) if marker.args else SLOW


def balance(seconds: Sequence[float], workers: int) -> list[int]:
    """The order in which equal shares of the tests, cut one after the other for each worker, take equally long.

    pytest-xdist's worksteal begins with such shares: of n tests n // workers each, and one more for the last ones.
    Longest first, each goes to the share that is shortest yet and has room (Graham's LPT rule); so each share begins
    with its longest.
    """
    room = [(len(seconds) + worker) // workers for worker in range(workers)]
    shares: list[list[int]] = [[] for _ in room]
    shortest = [(0.0, worker) for worker in range(workers) if room[worker]]
    for test in sorted(range(len(seconds)), key=lambda test: -seconds[test]):
        length, worker = heapq.heappop(shortest)
        shares[worker].append(test)
        if len(shares[worker]) < room[worker]:
            heapq.heappush(shortest, (length + seconds[test], worker))
    return [test for share in shares for test in share]


def order(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the long waits first, for as many workers as there are; tests without waits stay as they are."""
    seconds = [waiting_time(item) for item in items]
    if any(wait > ORDINARY for wait in seconds):
        workers = getattr(config, "workerinput", {}).get("workercount", 1)
        items[:] = [items[i] for i in balance(seconds, workers)]


def needs_own_kernel(item: pytest.Item) -> bool:
    """Whether the test is marked machine_wide; where the kernel is not ours it is skipped."""
    marker = item.get_closest_marker("machine_wide")
    if marker is None:
        return False
    from harness.lab import machine

    if not machine.is_ours():
        which = ", ".join(marker.args) or "machine-wide knobs"
        pytest.skip(f"needs a kernel of its own (--tcp-own-kernel): {which} would be set for the whole machine")
    return True
