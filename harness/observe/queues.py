"""The two queues of a listener: who waits for accept(), and who is half-open."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import BadInput
from harness.observe import diag, states
from harness.observe.sockets import sockets

if TYPE_CHECKING:
    from harness.lab.host import Host


class AcceptQueue(NamedTuple):
    """Connections that wait for accept(), and the limit that listen() set: Recv-Q and Send-Q of `ss -lnt`."""

    waiting: int
    limit: int


def accept_queue(host: Host, port: int, *, inode: int | None = None) -> AcceptQueue:
    """The accept queue of the listener on a port (net/ipv4/tcp_diag.c, tcp_diag_get_info()).

    `inode` is that of its socket, where several share the port. BadInput if no such socket, or more than one, listens
    there.
    """
    listening = sockets(host, f"state listening sport = :{port}")
    queues = [AcceptQueue(each.recv_q, each.send_q) for each in listening if inode in (None, each.inode)]
    if len(queues) != 1:
        raise BadInput(f"{len(queues)} sockets of {host.name} listen on port {port}, not one")
    return queues[0]


def half_open(host: Host, port: int) -> int:
    """How many connections to a port are in SYN-RECV."""
    return diag.tally(host, socket.AF_UNSPEC, states.bits("syn-recv"), port=port).total()
