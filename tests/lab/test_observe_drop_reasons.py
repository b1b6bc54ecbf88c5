"""Reasons for drops, from real drops; skipped where the kernel or the rights do not give them."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput, Forbidden, Unsupported
from harness.observe import DropReasons, accept_queue, counters, counting, drop_reasons
from harness.observe.tracepoint import Recorder, read_format
from harness.traffic import RawPeer, connect, listen
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lab import Pair
    from harness.observe.drop_reasons import Dropped

IPV4, IPV6 = 0x0800, 0x86DD


@pytest.fixture
def drops() -> Iterator[DropReasons]:
    """Those two alone: what floods in other labs of the machine lose must not crowd them out."""
    try:
        with drop_reasons("NO_SOCKET") as every:
            known = [name for name in ("NO_SOCKET", "TCP_LISTEN_OVERFLOW") if name in every.reasons()]
        with drop_reasons(*known) as listening:
            yield listening
    except (Forbidden, Unsupported) as error:
        pytest.skip(str(error))


def protocol(pair: Pair) -> int:
    return IPV4 if pair.client.family == socket.AF_INET else IPV6


def test_datagrams_to_a_closed_port_have_no_socket(pair: Pair, drops: DropReasons) -> None:
    n = 300
    before = time.time()
    send(pair, n)

    def ours() -> list[Dropped]:  # other labs of this machine may drop as well
        return [drop for drop in drops.events("NO_SOCKET", protocol=protocol(pair)) if _by_udp(drop.function)]

    until(lambda: len(ours()) >= n, what=f"{n} drops")
    found = ours()
    assert drops.counts(protocol=protocol(pair))["NO_SOCKET"] >= n
    assert drops.lost == 0
    assert before < found[-1].time
    times = [drop.time for drop in drops.events()]
    assert times == sorted(times)
    assert set(drops.counts()) <= {"NO_SOCKET", "TCP_LISTEN_OVERFLOW"}


def test_a_reason_that_the_kernel_does_not_have() -> None:
    try:
        with pytest.raises(BadInput, match=r"NO_SOKET.*near it: NO_SOCKET"), drop_reasons("NO_SOKET"):
            pass
    except (Forbidden, Unsupported) as error:
        pytest.skip(str(error))


def test_only_what_was_asked_for_is_recorded(pair: Pair) -> None:
    try:
        with drop_reasons("TCP_CSUM") as others, drop_reasons("NO_SOCKET") as asked:
            send(pair, 20)
            heard(asked, "NO_SOCKET", 20, pair)
    except (Forbidden, Unsupported) as error:
        pytest.skip(str(error))
    assert asked.counts()["NO_SOCKET"] >= 20
    assert "NO_SOCKET" not in others.counts()


def heard(drops: DropReasons, reason: str, n: int, pair: Pair) -> list[Dropped]:
    """Wait until so many drops of this family were heard of: the kernel counts a packet before it lets go of it."""

    def ours() -> list[Dropped]:  # labs of the other family drop at the same time
        return drops.events(reason, protocol=protocol(pair))

    until(lambda: len(ours()) >= n, what=f"{n} drops for {reason}")
    return ours()


def _by_udp(function: str | None) -> bool:
    return function is None or "udp" in function


def test_a_handshake_that_finds_the_accept_queue_full(pair: Pair, drops: DropReasons) -> None:
    if "TCP_LISTEN_OVERFLOW" not in drops.reasons():
        pytest.skip("this kernel has no reason TCP_LISTEN_OVERFLOW")
    listener = listen(pair.server, 1)
    late = RawPeer(pair.server, pair.client).connection(listener)
    late.syn()
    connect(pair.client, listener, 2).wait(2)
    until(lambda: accept_queue(pair.server, listener.port).waiting == 2, what="a full accept queue")
    late.send("A")
    until(lambda: counters(pair.server).TcpExt.ListenOverflows == 1, what="the overflow")
    drop, *_ = heard(drops, "TCP_LISTEN_OVERFLOW", 1, pair)
    assert drop.function is None or "tcp" in drop.function
    assert "TCP_LISTEN_OVERFLOW" in str(drop)


def send(pair: Pair, n: int) -> None:
    """n datagrams that nobody wants, sent and dropped."""
    name = "Udp.NoPorts" if protocol(pair) == IPV4 else "Udp6.NoPorts"
    with counting(pair.server) as delta, pair.client.socket(socket.SOCK_DGRAM) as datagrams:
        for _ in range(n):
            datagrams.sendto(b"x", (pair.server.ip, 9))
        until(lambda: delta[name] == n, what="the datagrams to arrive")


def test_the_drops_are_kept_after_the_end_and_no_more_come(pair: Pair) -> None:
    try:
        with drop_reasons("NO_SOCKET") as drops:
            send(pair, 20)
            heard(drops, "NO_SOCKET", 20, pair)
    except (Forbidden, Unsupported) as error:
        pytest.skip(str(error))
    at_the_end = drops.counts()
    assert at_the_end["NO_SOCKET"] >= 20
    send(pair, 20)
    assert drops.counts() == at_the_end


@pytest.fixture
def small() -> Iterator[Recorder]:
    """A listener with room for some sixty drops on each CPU."""
    try:
        with Recorder(read_format("skb/kfree_skb"), pages=1) as listening:
            yield listening
    except (Forbidden, Unsupported) as error:
        pytest.skip(str(error))


def test_what_was_read_is_not_read_again(pair: Pair, small: Recorder) -> None:
    heard: set[tuple[int, int]] = set()
    for _ in range(10):  # several times around the ring
        send(pair, 30)
        samples = [(sample.time_ns, sample.cpu) for sample in small.read()]
        assert samples
        assert not heard & set(samples)
        heard.update(samples)
    small.stop()
    assert len(heard) + small.lost >= 300


def test_what_found_no_room_is_counted(pair: Pair, small: Recorder) -> None:
    send(pair, 500)
    small.stop()
    first = small.read()
    assert len(first) < 500
    # The kernel reports a loss with the next record that finds room (perf_output_begin()).
    with Recorder(read_format("skb/kfree_skb"), pages=1) as again:
        send(pair, 500)

        def reported() -> bool:
            again.read()
            send(pair, 1)  # on whichever CPU this thread runs now
            again.read()
            return again.lost > 0

        until(reported, what="the loss to be reported")


def test_nothing_is_mounted_or_left_open(drops: DropReasons) -> None:
    mounts = Path("/proc/self/mounts").read_text()
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with drop_reasons():
        assert Path("/proc/self/mounts").read_text() == mounts
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208
