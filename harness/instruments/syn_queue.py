"""The SYN queue of a listener under chosen settings: how many requests fit, and how to fill it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.laws import before, queues
from harness.laws.kernel import running
from harness.observe import counters
from harness.traffic import flood, listen
from harness.waiting import PATIENCE, until_at_least

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.laws.queues import Knobs
    from harness.observe.counters import Counters, Group
    from harness.traffic import Listener
    from harness.traffic.listener import Answer

SOMAXCONN = "net.core.somaxconn"
MAX_SYN_BACKLOG = "net.ipv4.tcp_max_syn_backlog"
SYNCOOKIES = "net.ipv4.tcp_syncookies"
SYNACK_RETRIES = "net.ipv4.tcp_synack_retries"

# SYNs a second: a queue of a thousand is full in a moment, and no packet is lost on the way to it.
PACE = 20_000


def set_knobs(server: Host, knobs: Knobs) -> None:
    """Put the three sysctls in force; the backlog is listen()'s."""
    server.sysctl[SOMAXCONN] = knobs.somaxconn
    server.sysctl[MAX_SYN_BACKLOG] = knobs.tcp_max_syn_backlog
    server.sysctl[SYNCOOKIES] = knobs.tcp_syncookies


def listening(server: Host, knobs: Knobs, *, answer: Answer | None = None) -> Listener:
    """A listener under these settings. Nobody accepts, unless there is an `answer` for each request."""
    set_knobs(server, knobs)
    return listen(server, knobs.backlog, answer=answer)


def ceiling(knobs: Knobs) -> int:
    """How many requests the running kernel leaves half-open under these settings (harness.laws.queues)."""
    return queues.half_open(running(), knobs)


def flooded(near: Host, listener: Listener, n: int) -> int:
    """How many requests are half-open when the kernel has dealt with n SYNs that nobody will acknowledge.

    They come from the end of the cable where `near` is, and are the same n each time: of those that are half-open
    already, a second flood makes no new requests.
    """
    before = counters(listener.host)
    flood(listener.host, near, listener, count=n, rate=PACE).wait()
    wait_for_verdicts(listener, before, n)
    return listener.half_open


def wait_for_verdicts(listener: Listener, before: Counters, n: int, *, deadline: float = PATIENCE) -> None:
    """Wait until n SYNs are half-open, were dropped, or were answered with a cookie, since `before`."""
    until_at_least(lambda: dealt_with(listener, before), n, what="SYNs kept, dropped or answered", deadline=deadline)


def dealt_with(listener: Listener, before: Counters) -> int:
    """How many SYNs are half-open, were dropped, or were answered with a cookie."""
    moved = (counters(listener.host) - before).TcpExt
    return listener.half_open + drops(moved) + moved.SyncookiesSent


def drops(counted: Group) -> int:
    """How many SYNs and third ACKs listeners have dropped: ListenDrops, less the cookies where it counts them too."""
    return counted.ListenDrops - (counted.SyncookiesSent if before("cookies-are-no-drops") else 0)
