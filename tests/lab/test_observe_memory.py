"""The caches of the kernel, and the totals of its memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from harness.errors import Forbidden, Unsupported
from harness.observe.memory import PAGE, SLABINFO, cache, parse_cache, total
from harness.traffic import connect, listen

if TYPE_CHECKING:
    from harness.lab import Pair


def test_a_line_of_slabinfo() -> None:
    line = "tw_sock_TCP 144 224 248 16 1 : tunables 0 0 0 : slabdata 14 15 0"
    tw = parse_cache(line)
    assert (tw.name, tw.objects, tw.size, tw.each, tw.taken) == ("tw_sock_TCP", 144, 248, PAGE / 16, 15 * PAGE)


def test_sockets_are_counted(pair: Pair) -> None:
    if not os.access(SLABINFO, os.R_OK):
        with pytest.raises(Forbidden, match="root"):
            cache("TCP")
        return
    connections = connect(pair.client, listen(pair.server, 200), 100, wait=True)
    name = "TCPv6" if ":" in pair.client.ip else "TCP"
    assert cache(name).objects >= 2 * connections.connected
    with pytest.raises(Unsupported, match="no_such_cache"):
        cache("no_such_cache")


def test_totals() -> None:
    assert total("SUnreclaim") > 1 << 20
    with pytest.raises(Unsupported, match="NoSuchTotal"):
        total("NoSuchTotal")
