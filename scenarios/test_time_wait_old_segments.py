"""What is late by more than TIME-WAIT, data and RSTs: who keeps it out, and what an RST does to TIME-WAIT."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds, state
from harness.instruments.inbound import CLOCK, NONE, Answer, Door, reach
from harness.instruments.late_reset import LateReset
from harness.instruments.lifetimes import seconds_left, timer_read
from harness.instruments.old_data import OLD, delay_data, delay_open_data
from harness.laws import before
from harness.laws.ranges import at_least, at_most
from harness.laws.timers import TIME_WAIT
from harness.observe import states_between
from harness.traffic import connect, listen
from harness.waiting import let_pass, until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

TIMESTAMPS = "net.ipv4.tcp_timestamps"
RFC1337 = "net.ipv4.tcp_rfc1337"
# Half of TIME-WAIT is the MSL of the documents.
MSL = TIME_WAIT / 2
GONE = 90.0
# Where the kernel has knobs for the machine only, of the two hosts it is the server that has them: so the server is
# the side that closes first, and connects.


@pytest.mark.slow(68)
@pytest.mark.claim("time-wait.msl-bounds-segments")
def test_msl_bounds_segments(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    with claim.control("a data segment that is late by a second") as control:
        data = delay_open_data(closer, listen(peer))
        let_pass(1.0, what="a segment to be late")
        control.expect("read", data.arrive()[0], OLD)
    with claim.effect("data segments that are late by more than 2 MSL, of open and of closed connections") as effect:
        begun = time.monotonic()
        data, stamped = delay_open_data(closer, listen(peer)), delay_data(closer, listen(peer))
        closer.sysctl[TIMESTAMPS] = 0
        bare = delay_data(closer, listen(peer))

        def closed() -> bool:
            return not any(states_between(closer, old.local, old.remote) for old in (stamped, bare))

        until(closed, deadline=GONE, what="TIME-WAIT to be over")
        effect.premise("seconds that they were on their way", seconds(time.monotonic() - begun), at_least(2 * MSL))
        effect.compare("of an open connection: read", data.arrive()[0], document=b"", kernel=OLD)
        new = bare.connect_again()
        effect.note("placed by TCP_REPAIR", "the new connection, both ends of which are real sockets")
        fits = "of a closed connection, at a new one where it fits: read"
        effect.compare(fits, bare.arrive_behind_new(new), document=b"", kernel=OLD)
    with claim.control("the same at a new connection, but with timestamps: PAWS keeps it out") as control:
        control.expect("read", stamped.arrive_behind_new(stamped.connect_again()), b"")
        control.expect("PAWSEstab", control.delta(peer).TcpExt.PAWSEstab, 1)


@pytest.mark.slow(66)
@pytest.mark.claim("time-wait.old-rst-cannot-arrive")
def test_old_rst_cannot_arrive(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    packets = claim.capture(closer)
    with claim.control("an RST whose timestamp is older, at TIME-WAIT") as control:
        control.expect("left", state(Door(closer, peer).reset(0, CLOCK - 1)), ["TIME-WAIT"])
    closer.sysctl[TIMESTAMPS] = 0
    late, lost = (LateReset(closer, listen(peer), packets) for _ in range(2))
    with claim.effect("an RST with the number that is next reaches TIME-WAIT, tcp_rfc1337 0 as by default") as effect:
        old_reset = LateReset(closer, listen(peer), packets)
        effect.premise("tcp_rfc1337", closer.sysctl[RFC1337], "0")
        effect.premise("before", state(old_reset.states), ["TIME-WAIT"])
        old_reset.arrive()
        effect.compare("left", state(old_reset.states), document=["TIME-WAIT"], kernel=[])
        result = connect(closer, old_reset.remote, source=old_reset.local, wait=True)[0].result
        effect.compare("connect() of the same four-tuple", result, document="EADDRNOTAVAIL", kernel="connected")
    with claim.control("the same with tcp_rfc1337 1") as control:
        closer.sysctl[RFC1337] = 1
        old_reset = LateReset(closer, listen(peer), packets)
        old_reset.arrive()
        control.expect("left", state(old_reset.states), ["TIME-WAIT"])
        result = connect(closer, old_reset.remote, source=old_reset.local, wait=True)[0].result
        control.expect("connect() of the same four-tuple", result, "EADDRNOTAVAIL")
    with claim.effect("an RST that is late by more than TIME-WAIT, at a connection where its number is next") as effect:
        until(lambda: not late.states and not lost.states, deadline=GONE, what="TIME-WAIT to be over")
        new = late.connect_again()
        age = seconds(late.arrive())
        effect.premise("seconds that it was on its way", age, at_least(TIME_WAIT))
        effect.compare("the new connection", new.fate(), document="open", kernel="ECONNRESET")
    with claim.control("such a connection whose RST is lost") as control:
        control.expect("the new connection", lost.connect_again().fate(), "open")


@pytest.mark.claim("time-wait.rfc1337-keeps-it")
def test_rfc1337_keeps_it(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    packets = claim.capture(closer)
    with claim.effect("an RST with the number that is next, tcp_rfc1337 1") as effect:
        closer.sysctl[RFC1337] = 1
        reset = LateReset(closer, listen(peer), packets)
        port = reset.remote[1]
        until(lambda: seconds_left(closer, port) < 59, deadline=30, what="the timer to run for a second")
        earlier = seconds(seconds_left(closer, port))
        reset.arrive()
        effect.compare("left", state(reset.states), document=["TIME-WAIT"])
        later = seconds(seconds_left(closer, port))
        effect.premise("its timer begins anew", later > earlier, before("rst-leaves-the-timer"))
        effect.note("timer before and after", (earlier, later))
    with claim.control("the same, tcp_rfc1337 0") as control:
        closer.sysctl[RFC1337] = 0
        reset = LateReset(closer, listen(peer), packets)
        reset.arrive()
        control.expect("left", state(reset.states), [])


@pytest.mark.claim("time-wait.rst-assassinates")
def test_rst_assassinates(claim: ClaimRun, pair: Pair) -> None:
    door = Door(pair.server, pair.client)
    with claim.effect("RSTs at TIME-WAIT, tcp_rfc1337 0 as by default") as effect:
        effect.premise("tcp_rfc1337", pair.server.sysctl[RFC1337], "0")
        for what, clock in (("no timestamp", None), ("the last timestamp", CLOCK), ("a newer one", CLOCK + 1)):
            effect.compare(f"with the number that is next, {what}: left", state(door.reset(0, clock)), document=[])
        for beyond in (-1, 1, 10_000):
            left = state(door.reset(beyond, None))
            effect.compare(f"{beyond} beyond it, no timestamp: left", left, document=["TIME-WAIT"])
        effect.compare("an older timestamp: left", state(door.reset(0, CLOCK - 1)), document=["TIME-WAIT"])
    with claim.control("the same with tcp_rfc1337 1") as control:
        pair.server.sysctl[RFC1337] = 1
        for clock in (None, CLOCK, CLOCK + 1):
            control.expect("with the number that is next: left", state(door.reset(0, clock)), ["TIME-WAIT"])


# What arrives at TIME-WAIT: flags, how far beyond the number that is next, data; what answers, whether 60 s begin anew.
AT_TIME_WAIT = (
    ("the FIN again", ("FA", -1, b""), "A", True),
    ("data", ("PA", 0, b"more"), "A", True),
    ("an ACK that is beyond", ("A", 1000, b""), "A", True),
    ("the next ACK", ("A", 0, b""), NONE, True),
    ("an RST that is beyond", ("R", 1000, b""), NONE, False),
    ("a SYN that is below", ("S", -1000, b""), "A", False),
)


@pytest.mark.claim("time-wait.what-prolongs-it")
def test_what_prolongs_it(claim: ClaimRun, pair: Pair) -> None:
    door = Door(pair.server, pair.client)
    left = [door.leave_behind(None) for _ in AT_TIME_WAIT]
    untouched = door.leave_behind(None).port

    def timer(port: int) -> float:
        return seconds_left(pair.server, port)

    until(lambda: timer(untouched) < 59, deadline=30, what="all timers to run for a second")
    for connection, (what, segment, answer, anew) in zip(left, AT_TIME_WAIT, strict=True):
        with claim.effect(f"a segment at a TIME-WAIT of a second: {what}") as effect:
            earlier = timer_read(pair.server, connection.port)
            effect.compare("what answers it", reach(connection, *segment), document=Answer(answer, "TIME-WAIT"))
            later = timer_read(pair.server, connection.port)
            effect.compare("its 60 s begin anew", later.began_anew_after(earlier), document=anew)
            effect.compare("seconds left", seconds(later.left), document=at_most(TIME_WAIT + 0.5))
            effect.note("timer before and after", seconds([earlier.left, later.left]))
    with claim.control("a TIME-WAIT that nothing reaches") as control:
        control.expect("timer", seconds(timer(untouched)), at_most(59))
