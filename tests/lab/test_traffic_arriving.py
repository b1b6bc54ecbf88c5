"""Frames that arrive without having been sent: which, how many, where they are seen, and what is left of them."""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.observe import counters, half_open
from harness.traffic import RawPeer, frames, listen
from harness.traffic.arriving import FAR_TOO_SHORT, LASTS, LEAST, MOST, Arriving, can_arrive
from harness.traffic.flood import OnCable, flood
from harness.traffic.raw import ETH_P_ALL, SYN_OPTIONS
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.lab import Host, Lab, Pair

# The package has the function by that name.
FLOODS = sys.modules[flood.__module__]
ARRIVING = sys.modules[Arriving.__module__]
LOCAL_EXPERIMENTAL = "88b5"

pytestmark = pytest.mark.skipif(
    not can_arrive(),
    reason="this kernel has no frames that arrive unsent, or not for us: since 5.18, for root of the machine",
)


def interface(host: Host) -> str:
    return next(iter(host.interfaces))


def ways(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """What floods send with from now on, by kind."""
    seen: list[type] = []
    for name, kind in (("_arriving", Arriving), ("_on_cable", OnCable)):
        made = getattr(FLOODS, name)

        def noted(*given: object, made: Callable[..., object] = made, kind: type = kind) -> object:
            seen.append(kind)
            return made(*given)

        monkeypatch.setattr(FLOODS, name, noted)
    return seen


@pytest.fixture
def seen(pair: Pair) -> Iterator[socket.socket]:
    """A packet socket at the server's interface."""
    with pair.server, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packets:
        packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        packets.bind((interface(pair.server), ETH_P_ALL))
        yield packets


def of_ours(packets: socket.socket, n: int) -> list[bytes]:
    """The next n frames of the experimental kind."""
    found: list[bytes] = []
    while len(found) < n:
        until(lambda: select.select([packets], [], [], 0)[0], what="a frame that arrives")
        frame = packets.recv(2000)
        if frame[12:14].hex() == LOCAL_EXPERIMENTAL:
            found.append(frame)
    return found


@pytest.mark.parametrize("length", [14, 60, 61, 62, 63, 64, 67, 74, 94, 1514])
def test_each_frame_arrives_as_it_was_made_and_in_turn(pair: Pair, seen: socket.socket, length: int) -> None:
    """However many bytes are left over where the program copies eight at a time."""
    mac = pair.server.interfaces[interface(pair.server)].mac.replace(":", "")
    begin = bytes.fromhex(f"{mac} 020000000001 {LOCAL_EXPERIMENTAL}")
    made = [begin[:11] + bytes([k]) + begin[12:] + os.urandom(length - len(begin)) for k in range(5)]
    arriving = Arriving(pair.server, interface(pair.server), made)
    try:
        assert arriving.send(3) == 3
        assert arriving.send(9) == 9
        assert of_ours(seen, 12) == [made[i % 5] for i in range(12)]
    finally:
        arriving.close()


def test_a_flood_of_them_makes_a_request_each(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that is bounded in count none arrives twice before all have arrived, and all are whole."""
    monkeypatch.setattr(FLOODS, "OF_ONE_SENDER", 1)
    made = ways(monkeypatch)
    for name in ("net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog"):
        pair.server.sysctl[name] = 8000
    listener = listen(pair.server, 4000)
    before = counters(pair.server)
    assert flood(pair.server, pair.client, listener, count=3000).wait().sent == 3000
    assert made == [Arriving]
    after = counters(pair.server)
    assert after.Tcp.InSegs - before.Tcp.InSegs == 3000
    assert after.Tcp.InCsumErrors == before.Tcp.InCsumErrors
    assert half_open(pair.server, listener.port) == 3000


def test_large_floods_arrive_and_others_are_sent(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FLOODS, "OF_ONE_SENDER", 2000)
    made = ways(monkeypatch)
    processors = len(os.sched_getaffinity(0))
    two = min(processors, 2)
    listener = listen(pair.server)
    for bounds, expected in (
        ({"count": 2001}, [Arriving]),
        ({"count": 2000}, [OnCable]),
        ({"count": 2001, "rate": 2000}, [OnCable]),
        ({"seconds": 0.1}, [Arriving] * processors),
        ({"seconds": 0.1, "rate": 2001}, [Arriving] * two),
        ({"seconds": 0.1, "rate": 2001, "count": 2001}, [Arriving]),
        ({"seconds": 0.1, "rate": 2000}, [OnCable]),
    ):
        made.clear()
        with flood(pair.server, pair.client, listener, **bounds):
            pass
        assert made == expected, bounds


def test_where_they_cannot_arrive_they_are_sent(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ways(monkeypatch)
    monkeypatch.setattr(FLOODS, "can_arrive", lambda: False)
    with flood(pair.server, pair.client, listen(pair.server), seconds=0.1):
        pass
    assert set(made) == {OnCable}


def test_where_the_kernel_refuses_a_part_of_it_they_are_sent(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ways(monkeypatch)
    monkeypatch.setattr(ARRIVING, "_copies", lambda *_: bytes(8))  # no program that the kernel takes
    with flood(pair.server, pair.client, listen(pair.server), seconds=10) as running:
        until(lambda: running.sent, what="a frame that was sent")
    assert made[-1] is OnCable


def test_what_a_line_holds_back_is_sent(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would get past the line, as nothing else on the cable does."""
    made = ways(monkeypatch)
    server, client = lab.host("server"), lab.host("client")
    lab.link(server, client, rate=100_000, by="box")
    lab.ready()  # until then a line does nothing
    before = counters(server)
    with flood(server, client, listen(server), seconds=0.5):
        pass
    assert set(made) == {OnCable}
    # A SYN has 60 bytes or more: a hundred pass in half a second, where a flood at full speed has far over 100,000.
    assert counters(server).Tcp.InSegs - before.Tcp.InSegs < 1000


def test_a_run_that_is_broken_off_says_how_many_arrived(
    pair: Pair, seen: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the thread is stopped in the middle, and goes on."""
    mac = pair.server.interfaces[interface(pair.server)].mac.replace(":", "")
    made = [bytes.fromhex(f"{mac} 020000000001 {LOCAL_EXPERIMENTAL}") + bytes([k] * 46) for k in range(5)]
    arriving = Arriving(pair.server, interface(pair.server), made)
    run = ARRIVING._run

    def breaks_off(program: int, frame: object, count: int, context: object) -> None:
        run(program, frame, count // 2, context)
        raise OSError(wrong, os.strerror(wrong))

    try:
        assert arriving.send(3) == 3
        with monkeypatch.context() as patched:
            patched.setattr(ARRIVING, "_run", breaks_off)
            for wrong in (errno.EINTR, errno.ENOMEM):  # noqa: B007 - breaks_off() reads it
                assert arriving.send(8) == 4
            wrong = errno.ENODEV
            with pytest.raises(OSError, match="No such device"):
                arriving.send(8)
        assert arriving.send(2) == 2
        assert of_ours(seen, 17) == [made[i % 5] for i in range(17)]
    finally:
        arriving.close()


def test_a_run_is_neither_too_long_to_be_stopped_nor_too_short(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = RawPeer(pair.server, pair.client)
    template = peer.frame(ports=(1024, 9), flags="S", options=SYN_OPTIONS)
    arriving = Arriving(pair.server, interface(pair.server), list(frames.spoofed(template, pair.server.family, 10)))
    lasts = 0.0
    now = iter(range(10**9))

    def clock() -> float:
        """Two looks a run, as far apart as it is to last."""
        return (next(now) % 2) * lasts

    monkeypatch.setattr(ARRIVING, "time", type("Clock", (), {"monotonic": staticmethod(clock)}))
    monkeypatch.setattr(ARRIVING, "_run", lambda *_: None)
    try:
        for lasts, sizes in (  # noqa: B007 - clock() reads it
            (FAR_TOO_SHORT / 2, [LEAST, LEAST * 8, LEAST * 64]),
            (LASTS, [LEAST * 512, LEAST * 512]),
            (LASTS * 3, [LEAST * 512, LEAST * 256, LEAST * 128]),
            (LASTS / 3, [LEAST * 64, LEAST * 128, LEAST * 256]),
            (FAR_TOO_SHORT / 2, [LEAST * 512, MOST, MOST]),
        ):
            assert [arriving.send(10**9) for _ in sizes] == sizes
        assert arriving.send(5) == 5
        lasts = LASTS * 3
        for _ in range(20):
            arriving.send(10**9)
        assert arriving.at_once == LEAST
    finally:
        arriving.close()


def test_nothing_is_left_of_it(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def descriptors() -> set[str]:
        return {file.name for file in Path("/proc/self/fd").iterdir()}

    before = descriptors()
    Arriving(pair.server, interface(pair.server), [bytes(60)] * 4).close()
    assert descriptors() == before
    monkeypatch.setattr(ARRIVING, "_copies", lambda *_: bytes(8))  # no program that the kernel takes
    with pytest.raises(OSError, match="bpf: "):
        Arriving(pair.server, interface(pair.server), [bytes(60)] * 4)
    assert descriptors() == before
