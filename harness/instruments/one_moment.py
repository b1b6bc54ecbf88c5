"""What a program prints of a host's sockets, beside what inet_diag says at the same moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from harness.observe import count, tally
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.lab import Host

T = TypeVar("T")
S = TypeVar("S")
# Of a machine that is ten times as slow.
DEADLINE = 60.0


def beside_states(host: Host, look: Callable[[], T]) -> tuple[T, dict[str, int]]:
    """What a look finds, and how many sockets are in which state, at a moment in which none changes.

    On a busy machine a minute passes, and with it the TIME-WAITs that were made first. NotReady if the states change
    during each look for a minute.
    """
    return _between(lambda: tally(host), look)


def beside_count(host: Host, look: Callable[[], T], wanted: str) -> tuple[T, int]:
    """The same, and how many sockets a filter of ss finds; what others do meanwhile does not matter."""
    return _between(lambda: count(host, wanted), look)


def _between(says: Callable[[], S], look: Callable[[], T]) -> tuple[T, S]:
    def both() -> tuple[T, S] | None:
        before, seen, after = says(), look(), says()
        return (seen, after) if before == after else None

    found = until(both, deadline=DEADLINE, what="a moment in which no socket changes")
    assert found is not None
    return found
