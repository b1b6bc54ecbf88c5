"""/proc/net/tcp and tcp6: the oldest list of TCP sockets, and what it says of their queues."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.listing import Listing
from harness.observe import states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lab.host import Host

FILES = {socket.AF_INET: "/proc/net/tcp", socket.AF_INET6: "/proc/net/tcp6"}


@dataclass(frozen=True, slots=True)
class Row:
    """A socket of the list: its state as ss prints it, its ports, and rx_queue and tx_queue under their usual names."""

    state: str
    local_port: int
    remote_port: int
    recv_q: int
    send_q: int


def rows(host: Host) -> list[Row]:
    """The sockets of a host in the lab's family, as `cat` prints them there."""
    return Listing(parse(host.run("cat", FILES[host.family]).stdout))


def parse(printed: str) -> Iterator[Row]:
    """The rows below the header (net/ipv4/tcp_ipv4.c, get_tcp4_sock()): all numbers are hexadecimal."""
    for line in printed.splitlines()[1:]:
        _, local, remote, state, queues = line.split()[:5]
        sent, received = queues.split(":")
        yield Row(
            states.printed(int(state, 16)),
            int(local.rpartition(":")[2], 16),
            int(remote.rpartition(":")[2], 16),
            int(received, 16),
            int(sent, 16),
        )
