"""Reasons for drops, from real drops; skipped where the kernel or the rights do not give them."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import Forbidden, Unsupported
from harness.observe import DropReasons, counters, counting, drop_reasons
from harness.traffic import RawPeer, connect, listen
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lab import Pair

IPV4, IPV6 = 0x0800, 0x86DD


@pytest.fixture
def drops() -> Iterator[DropReasons]:
    try:
        with drop_reasons() as listening:
            yield listening
    except (Forbidden, Unsupported) as error:
        pytest.skip(str(error))


def protocol(pair: Pair) -> int:
    return IPV4 if pair.client.family == socket.AF_INET else IPV6


def test_datagrams_to_a_closed_port_have_no_socket(pair: Pair, drops: DropReasons) -> None:
    n = 300
    before = time.time()
    with counting(pair.server) as delta, pair.client.socket(socket.SOCK_DGRAM) as datagrams:
        for _ in range(n):
            datagrams.sendto(b"x", (pair.server.ip, 9))
        name = "Udp.NoPorts" if protocol(pair) == IPV4 else "Udp6.NoPorts"
        until(lambda: delta[name] == n, what="the datagrams to arrive")
    found = [drop for drop in drops.events("NO_SOCKET", protocol=protocol(pair)) if _by_udp(drop.function)]
    assert len(found) >= n  # other labs of this machine may drop as well
    assert drops.counts(protocol=protocol(pair))["NO_SOCKET"] >= n
    assert drops.lost == 0
    assert before < found[-1].time
    times = [drop.time for drop in drops.events()]
    assert times == sorted(times)


def _by_udp(function: str | None) -> bool:
    return function is None or "udp" in function


def test_a_handshake_that_finds_the_accept_queue_full(pair: Pair, drops: DropReasons) -> None:
    if "TCP_LISTEN_OVERFLOW" not in drops.reasons():
        pytest.skip("this kernel has no reason TCP_LISTEN_OVERFLOW")
    listener = listen(pair.server, 1)
    late = RawPeer(pair.server, pair.client).connection(listener)
    late.syn()
    connect(pair.client, listener, 2).wait(2)
    late.send("A")
    until(lambda: counters(pair.server).TcpExt.ListenOverflows == 1, what="the overflow")
    (drop,) = drops.events("TCP_LISTEN_OVERFLOW", protocol=protocol(pair))
    assert drop.function is None or "tcp" in drop.function
    assert "TCP_LISTEN_OVERFLOW" in str(drop)


def test_after_the_end_nothing_is_heard(pair: Pair) -> None:
    try:
        with drop_reasons() as drops:
            pass
    except (Forbidden, Unsupported) as error:
        pytest.skip(str(error))
    heard = drops.counts()
    with pair.client.socket(socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(b"x", (pair.server.ip, 9))
    assert drops.counts() == heard


def test_nothing_is_mounted_or_left_open(drops: DropReasons) -> None:
    mounts = Path("/proc/self/mounts").read_text()
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with drop_reasons():
        assert Path("/proc/self/mounts").read_text() == mounts
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208
