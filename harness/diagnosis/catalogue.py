"""Every diagnosis by its name, with what it needs, causes first; and which findings follow from which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.diagnosis import accept_queue, host, keepalive, ports, syn_queue, tables, timestamps, way
from harness.diagnosis.needs import Need
from harness.incident.sockets import ANYWHERE as ANYWHERE_HERE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.diagnosis.findings import Finding
    from harness.diagnosis.view import View
    from harness.evidence.types import Endpoint


@dataclass(frozen=True)
class Entry:
    """A diagnosis: the names of its findings, the function that makes them, and what it cannot be whole without."""

    names: tuple[str, ...]
    find: Callable[[View], Iterator[Finding]]
    needs: tuple[Need, ...]


CATALOGUE = (
    Entry((host.FILES,), host.descriptors, (Need.PROCESSES,)),
    Entry((accept_queue.HUNG,), accept_queue.worker_hangs, (Need.LISTENERS,)),
    Entry((tables.CONNTRACK,), tables.conntrack, (Need.CONNTRACK,)),
    Entry((ports.GATEWAY,), ports.gateway_ports, (Need.TRACKED,)),
    Entry(
        (syn_queue.FLOOD, syn_queue.TOO_SHORT, syn_queue.SYNS),
        syn_queue.syn_queue,
        (Need.RATES, Need.SOCKETS, Need.LISTENERS, Need.KERNEL, Need.SYSCTLS),
    ),
    Entry((accept_queue.FULL,), accept_queue.accept_queue, (Need.LISTENERS, Need.RATES)),
    Entry((ports.USED_UP,), ports.ports_used_up, (Need.SOCKETS, Need.SYSCTLS)),
    Entry((timestamps.RECYCLE,), timestamps.tw_recycle, (Need.SYSCTLS, Need.RATES, Need.KERNEL)),
    Entry((tables.MEMORY,), tables.tcp_memory, (Need.SOCKSTAT, Need.SYSCTLS)),
    Entry((tables.ORPHANS,), tables.orphans, (Need.SOCKSTAT, Need.SYSCTLS)),
    Entry((tables.TIME_WAIT,), tables.time_wait, (Need.RATES, Need.SOCKSTAT, Need.SYSCTLS)),
    Entry((host.SOFTNET,), host.softnet, (Need.SOFTNET,)),
    Entry((host.BACKLOG,), host.dropped_at_sockets, (Need.RATES,)),
    Entry((host.REVERSE,), host.reverse_path, (Need.RATES,)),
    Entry((host.NEIGHBOURS,), host.neighbours, (Need.LOG,)),
    Entry((way.FORGOTTEN,), way.flow_forgotten, (Need.SOCKETS, Need.TIMERS)),
    Entry((way.UNANSWERED,), way.connect_unanswered, (Need.SOCKETS, Need.TIMERS)),
    Entry((way.SILENT,), way.silent_peer, (Need.SOCKETS, Need.TIMERS)),
    Entry((keepalive.KEEPALIVE,), keepalive.keepalive, (Need.RATES, Need.SOCKETS)),
    Entry((timestamps.REFUSED,), timestamps.timestamps_refused, (Need.RATES,)),
    Entry((way.LOSS,), way.loss, (Need.RATES,)),
    Entry((syn_queue.UNEXPLAINED,), syn_queue.unexplained, (Need.RATES,)),
)
NAMES = tuple(name for entry in CATALOGUE for name in entry.names)

# A cause and what follows from it: at the same place, or wherever the consequence is seen.
AT_THE_SAME_PLACE = {
    host.FILES: (accept_queue.FULL,),
    accept_queue.HUNG: (accept_queue.FULL, syn_queue.SYNS, syn_queue.TOO_SHORT),
    accept_queue.FULL: (syn_queue.SYNS, syn_queue.TOO_SHORT),
    ports.GATEWAY: (way.UNANSWERED,),
    way.FORGOTTEN: (way.SILENT,),
}
ANYWHERE = {
    tables.CONNTRACK: (way.UNANSWERED, way.LOSS, way.SILENT),
    host.SOFTNET: (way.LOSS, host.BACKLOG),
    host.BACKLOG: (way.LOSS,),
    host.REVERSE: (way.UNANSWERED,),
    way.FORGOTTEN: (way.LOSS,),
    way.SILENT: (way.LOSS,),
    tables.ORPHANS: (tables.MEMORY,),
    timestamps.RECYCLE: (syn_queue.UNEXPLAINED,),
    syn_queue.FLOOD: (tables.CONNTRACK,),
}


# A client in another network namespace of the same machine (a container) meets what is wrong with a listener.
AT_A_LISTENER = (host.FILES, accept_queue.HUNG, accept_queue.FULL, syn_queue.FLOOD, syn_queue.TOO_SHORT, syn_queue.SYNS)


def causes(cause: Finding, consequence: Finding) -> bool:
    """Whether one finding is the cause of another, in the same network namespace or at a client of the listener."""
    if cause.diagnosis in AT_A_LISTENER and consequence.diagnosis == way.UNANSWERED:
        return _takes(cause.place.endpoint, consequence.place.endpoint)
    if cause.place.namespace != consequence.place.namespace:
        return False
    if consequence.diagnosis in ANYWHERE.get(cause.diagnosis, ()):
        return True
    same = cause.place.endpoint is not None and cause.place.endpoint == consequence.place.endpoint
    return same and consequence.diagnosis in AT_THE_SAME_PLACE.get(cause.diagnosis, ())


def _takes(listener: Endpoint | None, destination: Endpoint | None) -> bool:
    """Whether who connects to a destination comes to a listener."""
    if listener is None or destination is None or listener.port != destination.port:
        return False
    return listener.address in (destination.address, *ANYWHERE_HERE)
