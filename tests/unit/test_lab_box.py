"""The box in a cable without any cable: its generator, and what it holds at most."""

from __future__ import annotations

import _socket
from typing import TYPE_CHECKING

import pytest

from harness.lab import box_program
from harness.lab.box_program import Box, Chance, Doing, Port
from harness.lab.line import Line, seeds, share

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def port() -> Iterator[Port]:
    """An end of a cable that nothing is sent to."""
    ends = _socket.socketpair()
    yield Port(ends[0])
    for end in ends:
        end.close()


def test_the_generator_is_the_kernels() -> None:
    # tests/lab/test_lab_links.py holds it against netem's, on kernels whose netem takes a seed.
    assert [Chance(12345).draw() for _ in range(2)] == [688432123] * 2
    chance = Chance(2**63 + 7)
    assert [chance.draw() for _ in range(4)] == [1939502139, 132221476, 1561445307, 2184262020]


def test_no_two_ports_and_no_two_seeds_draw_alike() -> None:
    drawn = [Chance(seed).draw() for number in range(50) for seed in seeds(number, 2)]
    assert len(set(drawn)) == 100
    # Without that near seeds begin alike: small ones with small numbers, which all are "lost".
    assert 30 <= sum(draw < share(50) for draw in drawn) <= 70


def test_a_frame_of_a_hundred_is_lost(port: Port) -> None:
    port.doing = Doing(loss=share(1))
    for _ in range(20_000):
        port.admit(0)
        port.under_way = 0
    assert 150 <= port.done.lost <= 250


def test_no_more_frames_are_under_way_than_there_is_room_for(port: Port) -> None:
    port.doing = Doing(delay=10**9)
    moments = [port.admit(0) for _ in range(box_program.UNDER_WAY + 5)]
    assert (moments[0], moments[-1]) == ([10**9], [])
    assert (port.under_way, port.done.crowded) == (box_program.UNDER_WAY, 5)


def test_the_box_holds_no_more_bytes_than_it_may(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_program, "HELD", 2500)
    box = Box([], 1514)
    for _ in range(4):
        port.under_way += 1
        box._put(10**18, port, bytes(1000))
    assert (port.under_way, port.done.crowded, box._held) == (2, 2, 2000)


def test_a_queue_frees_a_place_whenever_a_frame_has_left(port: Port) -> None:
    port.doing = Doing(rate=1000.0, queue=2)
    assert [port.leave(0, 1000), port.leave(0, 1000), port.leave(0, 1000)] == [10**9, 2 * 10**9, None]
    assert port.leave(10**9, 500) == 2_500_000_000
    assert port.done.overflowed == 1


@pytest.mark.parametrize(
    ("words", "nothing"), [({}, True), ({"loss": 0}, True), ({"loss": 0.1}, False), ({"by": "box"}, False)]
)
def test_a_line_that_does_nothing_is_a_plain_cable(words: dict[str, float], nothing: bool) -> None:
    assert Line(**words).does_nothing is nothing  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pauses", "ahead"), [((0,), 5000), ((400_000, 0), 5000), ((90_000, 60_000, 80_000) * 2, 35_000)]
)
def test_clocks_are_compared_again_where_the_process_was_stopped_between(
    pauses: tuple[int, ...], ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of day is 5 us ahead; a pause before it is read adds half of itself, and the shortest pause counts."""
    now, left = 1_000_000, iter(pauses)

    class Stopped:
        @staticmethod
        def monotonic_ns() -> int:
            return now

        @staticmethod
        def time_ns() -> int:
            nonlocal now
            now += next(left)
            return now + 5000

    monkeypatch.setattr(box_program, "time", Stopped)
    assert box_program._clocks()[1] == ahead
