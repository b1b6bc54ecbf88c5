"""Connections that wait for accept(): a full queue, and a worker of several that does not take its share."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from harness.diagnosis.findings import Certainty, Finding, reason
from harness.diagnosis.view import reasons_of
from harness.incident.counters import NEAREST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.diagnosis.findings import Reason
    from harness.diagnosis.view import Counted, View
    from harness.evidence.types import Endpoint
    from harness.incident.sockets import Listener, Look

FULL, HUNG = "accept-queue-full", "worker-hangs"
OVERFLOWS = "TcpExt.ListenOverflows"


def accept_queue(view: View) -> Iterator[Finding]:
    """A listener whose accept queue is full, or was; or an overflow of which the files do not show where."""
    overflows = view.rose(OVERFLOWS)
    moved = view.moved(OVERFLOWS)
    full = [listener for listener in view.space.listeners if fullest(view, listener)]
    for listener in full:
        yield _full(view, listener, overflows, quiet=moved is not None and moved.amount == 0)
    if overflows and not full:
        yield from _overflowing(view, overflows)


def fullest(view: View, listener: Listener) -> Look | None:
    """The look at which most waited, if the queue was full then: longer than its limit, or than somaxconn."""
    known = [look for look in listener.looks if look.limit is not None]
    if not known:
        # netstat and /proc/net/tcp know no limit: a queue that is as long as somaxconn allows is full.
        most = view.sysctl("net.core.somaxconn")
        known = [look for look in listener.looks if most is not None and look.waiting == most + 1]
        return known[0] if known else None
    return max((look for look in known if look.is_full), key=lambda look: look.waiting, default=None)


def _full(view: View, listener: Listener, overflows: Counted | None, *, quiet: bool) -> Finding:
    """A queue that was seen full; `quiet`: nobody was turned away between two samples."""
    look = fullest(view, listener)
    assert look is not None
    limit = look.limit if look.limit is not None else look.waiting - 1
    often = sum(each.is_full for each in listener.looks)
    reasons = [
        reason(f"{look.waiting} connections wait where {limit} are allowed: full is more than that", look.source)
    ]
    seen = sum(each.limit is not None for each in listener.looks)
    if seen > 1:
        reasons.append(reason(f"it was full at {often} of {seen} looks", listener.last.source))
    reasons += [*_dropped(listener), *reasons_of(overflows), *_narrowest(view, limit)]
    what = f"The accept queue of {listener} is full: connections that are complete find no room, and are dropped"
    if quiet:
        reasons.append(reason("nobody was turned away between the two samples: ListenOverflows did not rise"))
    return Finding(FULL, what, Certainty.LIKELY if quiet else Certainty.CERTAIN, view.at(listener), tuple(reasons))


def _dropped(listener: Listener) -> list[Reason]:
    """What the socket itself has counted."""
    seen = [look for look in listener.looks if look.drops is not None]
    if len(seen) > 1 and (seen[-1].drops or 0) > (seen[0].drops or 0):
        by = (seen[-1].drops or 0) - (seen[0].drops or 0)
        return [reason(f"the socket's own count of drops rose by {by}", seen[0].source, seen[-1].source)]
    if seen and seen[-1].drops:
        return [reason(f"the socket has counted {seen[-1].drops} drops since it was made", seen[-1].source)]
    return []


def _narrowest(view: View, limit: int) -> list[Reason]:
    """What makes the queue as short as it is."""
    found = view.sysctls("net.core.somaxconn")
    if found is None:
        return []
    most, source = found[0][0], found[1]
    if limit == most:
        return [reason(f"its limit is that of somaxconn, {most}: the program may have asked for more", source)]
    if limit < most:
        return [reason(f"the program itself asked for {limit}: somaxconn would allow {most}", source)]
    return [reason(f"somaxconn is {most}, and was more when the program called listen()", source)]


def _overflowing(view: View, overflows: Counted) -> Iterator[Finding]:
    """An overflow that no look has seen: the listener is the one whose own drops rose, if one is."""
    dropping = [listener for listener in view.space.listeners if rose_by(listener)]
    sure = Certainty.CERTAIN if overflows.now else Certainty.POSSIBLE
    for listener in dropping if overflows.now else ():
        what = f"The accept queue of {listener} overflows for moments: connections find no room, and are dropped"
        reasons = (*reasons_of(overflows), *_dropped(listener))
        certain = sure if len(dropping) == 1 else Certainty.LIKELY
        yield Finding(FULL, what, certain, view.at(listener), reasons)
    if not (dropping and overflows.now):
        when = "overflows" if overflows.now else "has overflowed at some time since boot"
        place = view.somewhere("a listener that the files do not show")
        yield Finding(
            FULL, f"An accept queue {when}; which one, the files do not show", sure, place, (overflows.reason,)
        )


def rose_by(listener: Listener) -> int:
    """How far the socket's own count of drops rose between the first look and the last."""
    seen = [look.drops for look in listener.looks if look.drops is not None]
    return max(seen[-1] - seen[0], 0) if seen else 0


def worker_hangs(view: View) -> Iterator[Finding]:
    """Of several sockets that share a port (SO_REUSEPORT) one is full and the others are not: who holds it hangs."""
    ports: dict[tuple[Endpoint, bool], list[Listener]] = defaultdict(list)
    for listener in view.space.listeners:
        ports[listener.local, _is_identified(listener)].append(listener)
    for together in ports.values():
        full = [listener for listener in together if fullest(view, listener)]
        idle = [listener for listener in together if _known(listener) and all(map(_has_room, _known(listener)))]
        if full and idle and len(full) <= len(idle):
            for listener in full:
                yield _hung(view, listener, idle)


def _is_identified(listener: Listener) -> bool:
    """Whether its output names sockets: what has no name there may be any of those that have one elsewhere."""
    return bool(listener.mark) and not listener.mark.startswith("#")


def _known(listener: Listener) -> list[Look]:
    return [look for look in listener.looks if look.limit is not None]


def _has_room(look: Look) -> bool:
    return look.waiting * 2 <= (look.limit or 0)


def _are_apart(looks: list[Look]) -> bool:
    """Whether there was time to take a connection between the first look and the last: of a file and its copy, none."""
    timed = [look.taken for look in looks if look.taken]
    if len(timed) < 2:
        return False
    first, last = timed[0], timed[-1]
    return last.epoch - first.epoch >= max(NEAREST[first.basis], NEAREST[last.basis])


def _socket(listener: Listener) -> str:
    """What tells a socket from the others of its port, where the files have it."""
    return f"socket {listener.mark}" if listener.mark else "one socket"


def _hung(view: View, listener: Listener, others: list[Listener]) -> Finding:
    look = fullest(view, listener)
    assert look is not None
    whose = [f"{process.program}, process {process.number}" for process in view.processes_of(listener)]
    who = " ".join(whose) or _socket(listener)
    looks = [each for each in listener.looks if each.limit is not None]
    never = all(each.is_full for each in looks) and _are_apart(looks)
    reasons = [
        reason(f"{look.waiting} wait at {_socket(listener)}, where {look.limit} are allowed", look.source),
        *(
            reason(f"at {_socket(other)} of the same port {other.last.waiting} wait", other.last.source)
            for other in others[:3]
        ),
    ]
    if never:
        reasons.append(reason("it was full at every look, so nobody took from it between them", listener.last.source))
    what = (
        f"Of {len(others) + 1} sockets at {listener.local} one is not served ({who}): "
        f"the connections that the kernel gives to it wait in vain"
    )
    return Finding(HUNG, what, Certainty.CERTAIN if never else Certainty.LIKELY, view.at(listener), tuple(reasons))
