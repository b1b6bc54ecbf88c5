"""A hash table of connections with a few slots, so that each has dozens: does whoever lists them see all?"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from harness.instruments.slabs import CHILD_EHASH

if TYPE_CHECKING:
    from harness.lab import Host, Lab

SLOTS = 16


def crowded_host(lab: Lab, name: str, pairs: int) -> Host:
    """A host whose table has 16 slots, with so many connections to itself, both ends open; closed with the lab.

    A namespace gets the table that is wanted where it is made: tcp_child_ehash_entries. UnknownSysctl where the kernel
    has one table for all.
    """
    outside = lab.host(f"outside {name}")
    outside.sysctl[CHILD_EHASH] = SLOTS
    with outside:
        host = lab.host(name)
    host.netlink()  # which brings its loopback up
    with host, socket.socket(host.family) as listening:
        listening.bind(("127.0.0.1" if host.family == socket.AF_INET else "::1", 0))
        listening.listen(pairs)
        for _ in range(pairs):
            end = socket.create_connection(listening.getsockname()[:2])
            lab.on_close(end.close)
            lab.on_close(listening.accept()[0].close)
    return host
