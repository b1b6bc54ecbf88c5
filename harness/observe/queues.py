"""The two queues of a listener: who waits for accept(), and who is half-open."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness.errors import BadInput
from harness.observe.sockets import count, sockets

if TYPE_CHECKING:
    from harness.lab.host import Host


class AcceptQueue(NamedTuple):
    """Connections that wait for accept(), and the limit that listen() set: Recv-Q and Send-Q of `ss -lnt`."""

    waiting: int
    limit: int


def accept_queue(host: Host, port: int) -> AcceptQueue:
    """The accept queue of the listener on a port (net/ipv4/tcp_diag.c, tcp_diag_get_info()).

    BadInput if nobody, or more than one socket, listens there.
    """
    found = sockets(host, f"state listening sport = :{port}")
    if len(found) != 1:
        raise BadInput(f"{len(found)} sockets of {host.name} listen on port {port}, not one")
    return AcceptQueue(found[0].recv_q, found[0].send_q)


def half_open(host: Host, port: int) -> int:
    """How many connections to a port are in SYN-RECV."""
    return count(host, f"state syn-recv sport = :{port}")
