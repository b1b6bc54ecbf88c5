"""TCP timestamps: that they are on, what the option carries, and whose clock it shows with which mode."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

import pytest

from harness.evidence import drawn, ticks
from harness.instruments.timestamp_clock import (
    TIMESTAMPS,
    advance,
    ask_for_microseconds,
    clock_of,
    different,
    offset_of_answer,
    offset_towards,
    switch_timestamps,
)
from harness.laws import since
from harness.laws.ranges import at_least, between
from harness.laws.serial import distance
from harness.laws.timestamps import MICROSECONDS, offsets_to_one_address, ticks_a_second
from harness.observe import ss
from harness.traffic import RawPeer, establish, listen

if TYPE_CHECKING:
    from harness.claims.phases import Effect
    from harness.claims.record import ClaimRun
    from harness.lab import Pair
    from harness.observe import Capture, Segment
    from harness.traffic import Connection

CLOCK = 3_000_000_000


def talk(pair: Pair, rounds: int = 1) -> Connection:
    """A real connection to a new listener, on which the client asks and the server answers so many times."""
    return establish(pair.client, listen(pair.server)).talk(rounds)


def carry_stamps(packets: Capture, connection: Connection) -> list[bool]:
    """Of each segment of a connection, whether it has the option."""
    return [segment.tsval is not None for segment in packets.segments(ends=connection.ends)]


def with_frames(packets: Capture) -> list[tuple[bytes, Segment]]:
    """Each segment, behind its frame."""
    return [(packet.frame, segment) for packet in packets.packets() if (segment := packet.segment())]


@pytest.mark.claim("timestamps.option-layout")
def test_option_layout(claim: ClaimRun, pair: Pair) -> None:
    packets = claim.capture(pair.server)

    def compare_advance(phase: Effect, connection: Connection, rates: tuple[int, ...]) -> None:
        """By how much TSval advances between two segments, and by how much the clock, which has one of these rates."""
        moved = advance(packets, connection)
        rate = moved.nearest(rates)
        phase.note("ticks a second", rate)
        phase.compare("the first field's advance, in ticks", ticks(moved.ticks), document=moved.expected(rate))

    with claim.effect("a connection that speaks in turns") as effect:
        connection = talk(pair, rounds=4)
        seen = with_frames(packets)
        options = [struct.pack("!BBII", 8, 10, s.tsval or 0, s.tsecr or 0) in frame for frame, s in seen]
        effect.compare("segments with kind 8, length 10, and two fields", options, document=[True] * len(options))
        effect.compare("the SYN's second field", seen[0][1].tsecr, document=0)
        received, behind = {"in": 0, "out": 0}, []
        for _, segment in seen:
            received["out" if segment.direction == "in" else "in"] = segment.tsval or 0
            if segment.flags != "S":
                behind.append(distance(received[segment.direction], segment.tsecr or 0))
        what = "the second field of all others, less the last timestamp received"
        effect.compare(what, ticks(behind), document=[0] * len(behind))
    with claim.effect("two segments, some time apart") as effect:
        compare_advance(effect, connection, ticks_a_second())
    if since("timestamps-in-microseconds-by-route"):
        with claim.effect("the same, by a route that asks for microseconds") as effect:
            for here, there in ((pair.client, pair.server), (pair.server, pair.client)):
                ask_for_microseconds(here, there)
            compare_advance(effect, talk(pair), (MICROSECONDS,))
    with claim.control("net.ipv4.tcp_timestamps 0: the same connection") as control:
        switch_timestamps(pair, 0)
        carried = carry_stamps(packets, talk(pair, rounds=4))
        control.expect("segments", len(carried), at_least(11))
        control.expect("segments with the option", sum(carried), 0)


@pytest.mark.claim("timestamps.default-on")
def test_default_on(claim: ClaimRun, pair: Pair) -> None:
    packets = claim.capture(pair.server)

    def ss_says(connection: Connection) -> bool:
        (_, here), (_, there) = connection.ends
        return "ts" in ss.row(pair.server, "-tinoH", f"sport = :{there} and dport = :{here}").details

    with claim.effect("fresh hosts, nothing set") as effect:
        effect.compare(TIMESTAMPS, pair.server.sysctl[TIMESTAMPS], document="1")
        connection = talk(pair)
        carried = carry_stamps(packets, connection)
        effect.compare("segments with timestamps", carried, document=[True] * len(carried))
        effect.compare("ss -tio shows ts", ss_says(connection), document=True)
    with claim.control("the knob set to 0") as control:
        switch_timestamps(pair, 0)
        connection = talk(pair)
        control.expect("segments with timestamps", any(carry_stamps(packets, connection)), False)
        control.expect("ss -tio shows ts", ss_says(connection), False)


@pytest.mark.claim("timestamps.modes")
def test_modes(claim: ClaimRun, pair: Pair) -> None:
    peers = [RawPeer(pair.client, pair.server) for _ in range(3)]
    listener = listen(pair.client)
    randomised = since("timestamp-offset-is-random")
    with claim.effect("1: four connections to each of three addresses") as effect:
        switch_timestamps(pair, 1)
        offsets = [[offset_towards(peer) for _ in range(4)] for peer in peers]
        effect.note("offsets", [[drawn(offset.ticks) for offset in address] for address in offsets])
        for address in offsets:
            first, others = address[0], between(address[0].slack + 1, 2**32 - 1)
            kernel = others if randomised else between(0, first.slack)
            effect.compare("TSval - kernel's clock, in ticks", drawn(first.ticks), document=others, kernel=kernel)
            effect.premise("different offsets to one address", different(address), offsets_to_one_address(4))
        firsts = [address[0] for address in offsets]
        effect.premise("different offsets to three addresses", different(firsts), 3 if randomised else 1)
        for offset in [offset_of_answer(peer, listener) for peer in peers]:
            beyond = between(offset.slack + 1, 2**32 - 1)
            kernel = beyond if randomised else between(0, offset.slack)
            what = "TSval of a SYN-ACK - kernel's clock, in ticks"
            effect.compare(what, drawn(offset.ticks), document=beyond, kernel=kernel)
    with claim.control("2: a connection to each of the addresses") as control:
        switch_timestamps(pair, 2)
        for offset in [*map(offset_towards, peers), offset_of_answer(peers[0], listener)]:
            control.expect("TSval - kernel's clock, in ticks", ticks(offset.ticks), between(0, offset.slack))


@pytest.mark.claim("timestamps.two-has-no-offset")
def test_two_has_no_offset(claim: ClaimRun, pair: Pair) -> None:
    peers = [RawPeer(pair.client, pair.server) for _ in range(3)]
    listener = listen(pair.client)
    with claim.effect("2: four connections to each of three addresses, and one from each") as effect:
        switch_timestamps(pair, 2)
        answers = [offset_of_answer(peer, listener) for peer in peers]
        for offset in [*answers, *(offset_towards(peer) for peer in peers for _ in range(4))]:
            effect.compare("TSval - kernel's clock, in ticks", ticks(offset.ticks), document=between(0, offset.slack))
        before = time.monotonic_ns() // 1_000_000
        ahead = distance(before, clock_of(pair.client))
        passed = time.monotonic_ns() // 1_000_000 - before
        wanted = between(-1, passed) if since("timestamp-clock-is-monotonic") else between(-(2**32), 2**32)
        effect.premise("the kernel's clock - CLOCK_MONOTONIC in ms", ticks(ahead), wanted)
    if since("timestamp-offset-is-random"):
        with claim.control("1: a connection to each of the addresses") as control:
            switch_timestamps(pair, 1)
            for offset in map(offset_towards, peers):
                beyond = between(offset.slack + 1, 2**32 - 1)
                control.expect("TSval - kernel's clock, in ticks", drawn(offset.ticks), beyond)
    with claim.control("0: a connection with data") as control:
        packets = claim.capture(pair.server)
        switch_timestamps(pair, 0)
        control.expect("segments with the option", sum(carry_stamps(packets, talk(pair))), 0)


@pytest.mark.claim("timestamps.zero-is-off")
def test_zero_is_off(claim: ClaimRun, pair: Pair) -> None:
    packets = claim.capture(pair.server)
    with claim.effect("0: a connection with data") as effect:
        switch_timestamps(pair, 0)
        effect.compare("segments with the option", sum(carry_stamps(packets, talk(pair))), document=0)
    if since("timestamps-per-namespace"):
        for off, on in ((pair.server, pair.client), (pair.client, pair.server)):
            with claim.effect(f"0 at the {off.name} alone: a connection with data") as effect:
                off.sysctl[TIMESTAMPS], on.sysctl[TIMESTAMPS] = 0, 1
                first, *others = carry_stamps(packets, talk(pair))
                effect.compare("the SYN has the option", first, document=off is pair.server)
                effect.compare("other segments with it", sum(others), document=0)
    for mode in (1, 2):
        with claim.control(f"{mode}: a connection with data") as control:
            switch_timestamps(pair, mode)
            carried = carry_stamps(packets, talk(pair))
            control.expect("segments with the option", carried, [True] * len(carried))
