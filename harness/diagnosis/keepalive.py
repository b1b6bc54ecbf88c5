"""A server that closes connections which its clients still want to use: a keep-alive that is shorter than theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.diagnosis.findings import Certainty, Finding, reason
from harness.diagnosis.thresholds import THRESHOLDS
from harness.incident.sockets import Direction, taker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.diagnosis.findings import Reason
    from harness.diagnosis.view import Counted, View
    from harness.incident.sockets import Flow

KEEPALIVE = "keep-alive-too-short"
LATE_DATA = "TcpExt.TCPAbortOnData"
# Of a server that closes first: its own TIME-WAIT, and what comes before it.
CLOSED_HERE = ("TIME-WAIT", "FIN-WAIT-1", "FIN-WAIT-2")


def keepalive(view: View) -> Iterator[Finding]:
    """Requests on connections that the server has closed already: a reset for the client, 502 of a proxy."""
    late = view.rose(LATE_DATA)
    closed = closed_here(view)
    if not (late and late.now and is_often(late) and closed):
        yield from _captured(view)
        return
    reasons = [
        late.reason,
        reason(
            f"{closed.sockets} connections to {closed.local} were closed here first ({closed.state})", closed.source
        ),
        *_resets(view),
    ]
    listener = taker(view.space.listeners, closed.local)
    where = view.at(listener) if listener else view.towards(closed.local)
    what = (
        f"{closed.local} closes connections on which its clients still send: its keep-alive is shorter than theirs, "
        f"they get a reset (a proxy says 502)"
    )
    sure = Certainty.LIKELY if any(_captured(view)) else THRESHOLDS["late-data"].sure
    yield Finding(KEEPALIVE, what, sure, where, tuple(reasons))


def is_often(late: Counted) -> bool:
    """Whether data comes too late more than once, and not just once in a while."""
    return THRESHOLDS["late-data"].reached(late.per_second) and THRESHOLDS["late-data-enough"].reached(late.amount)


def closed_here(view: View) -> Flow | None:
    """The service here that closes most connections itself."""
    flows = view.flows(Direction.IN, *CLOSED_HERE)
    return max(flows, key=lambda flow: flow.sockets, default=None)


def _resets(view: View) -> list[Reason]:
    resets = view.rose("Tcp.OutRsts")
    return [resets.reason] if resets and resets.now else []


def _captured(view: View) -> Iterator[Finding]:
    """What a capture shows: connections that were complete, and were reset."""
    for capture in view.machine.captures if view.is_own else ():
        for tries in capture.attempts:
            share = tries.broken / max(tries.completed, 1)
            if tries.broken and THRESHOLDS["broken-after-complete"].reached(share):
                says = f"{tries.broken} of {tries.completed} complete connections to {tries.service} were reset"
                what = (
                    f"Connections to {tries.service} are reset in use: the server's keep-alive is shorter than its "
                    f"client's, or one of the two has failed"
                )
                place = view.towards(tries.service)
                yield Finding(KEEPALIVE, what, Certainty.POSSIBLE, place, (reason(says, capture.source),))
