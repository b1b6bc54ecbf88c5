"""TCP timestamps: which old segments they keep out (PAWS), where sequence numbers come round, and that RSTs pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import state
from harness.instruments.timestamp_clock import switch_timestamps
from harness.instruments.wrap import stream_after_wrap, wrap_by_data, wrap_by_repair
from harness.lab import pair as make_pair
from harness.laws.timestamps import TOLERATED, TOO_OLD
from harness.observe import states_at
from harness.observe.paws import rejected
from harness.traffic import RawPeer, listen
from harness.traffic.clocks import ask, come_and_go, shake_hands
from harness.traffic.connection import peek
from harness.traffic.connector import learn
from harness.traffic.timestamps import stamp
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.phases import Phase
    from harness.claims.record import ClaimRun
    from harness.evidence.kinds import State
    from harness.instruments.wrap import Wrap
    from harness.lab import Lab, Pair
    from harness.traffic import RawConnection

CLOCK = 3_000_000_000


@pytest.mark.claim("timestamps.paws-drops-older")
def test_paws_drops_older(claim: ClaimRun, pair: Pair) -> None:
    listener, peer = listen(pair.server), RawPeer(pair.server, pair.client)
    connection = peer.connection(listener)
    theirs = shake_hands(connection, CLOCK)
    (server,) = listener.accept()

    def say(phase: Phase, value: int) -> bytes:
        """Send data that is in turn, with this timestamp; what the application can then read."""
        connection.send("PA", b"data", seq=connection.seq, options=stamp(value, theirs))
        until(lambda: peek(server) or rejected(phase.delta(pair.server)), what="the segment to be taken or rejected")
        return peek(server)

    def nstat() -> int:
        return int(pair.server.run("nstat", "-asz", "TcpExtPAWSEstab").stdout.split()[-2])

    for age in TOO_OLD:
        before = nstat()
        with claim.effect(f"data in turn, its timestamp {age} older than the last") as effect:
            effect.compare("what the application can read", say(effect, CLOCK - age), document=b"")
            effect.compare("PAWSEstab", effect.delta(pair.server).TcpExt.PAWSEstab, document=1)
            effect.compare("nstat TcpExtPAWSEstab", nstat() - before, document=1)
    with claim.effect("an acknowledgement out of turn, its timestamp older than the last") as effect:
        connection.send("A", seq=connection.seq - 1, options=stamp(CLOCK - 1000, theirs))
        until(lambda: rejected(effect.delta(pair.server)), what="the segment to be rejected")
        effect.compare("rejected", rejected(effect.delta(pair.server)), document=1)
    last = CLOCK
    for age in (TOLERATED, 0, -1, -1000, 2**31):
        with claim.control(f"data in turn, its timestamp {age} older than the last") as control:
            control.expect("what the application can read", say(control, last - age), b"data")
            control.expect("rejected", rejected(control.delta(pair.server)), 0)
        server.recv(100)
        connection.seq += 4
        last -= 0 if age == TOLERATED else age


def check_wrap(claim: ClaimRun, pair: Pair, wrap: Wrap, note: str) -> None:
    """A segment of one wrap ago arrives where its bytes are expected: with timestamps, and without."""
    with claim.effect("with timestamps: a segment of one wrap ago arrives where its bytes are expected") as effect:
        effect.note("how the sequence numbers wrapped", note)
        effect.compare("the application reads", stream_after_wrap(pair, wrap), document=b"hellonew data")
        effect.compare("PAWSEstab", effect.delta(pair.server).TcpExt.PAWSEstab, document=1)
    with claim.control("without timestamps: the same") as control:
        control.note("how the sequence numbers wrapped", note)
        switch_timestamps(pair, 0)
        control.expect("the application reads", stream_after_wrap(pair, wrap), b"helloold data")
        control.expect("PAWSEstab", control.delta(pair.server).TcpExt.PAWSEstab, 0)


@pytest.mark.claim("timestamps.paws-guards-wrap")
def test_paws_guards_wrap(claim: ClaimRun, pair: Pair) -> None:
    check_wrap(claim, pair, wrap_by_repair, "both ends were placed 2^32 bytes further with TCP_REPAIR")


@pytest.mark.full_size("4 GiB pass through each of two connections")
@pytest.mark.claim("timestamps.paws-guards-wrap")
def test_paws_guards_wrap_really(claim: ClaimRun, lab: Lab) -> None:
    check_wrap(claim, make_pair(lab, offloads=True), wrap_by_data, "2^32 bytes were sent")


@pytest.mark.claim("timestamps.paws-ignores-rst")
def test_paws_ignores_rst(claim: ClaimRun, pair: Pair) -> None:
    listener, peer = listen(pair.server), RawPeer(pair.server, pair.client)

    def states(connection: RawConnection) -> list[State]:
        return state(states_at(pair.server, connection.port))

    def send(phase: Phase, connection: RawConnection, flags: str, age: int, payload: bytes = b"") -> None:
        """A segment in turn whose timestamp is so much older than the last: rejected, or the connection ends."""
        connection.send(flags, payload, seq=connection.seq, options=stamp(CLOCK - age))
        until(
            lambda: rejected(phase.delta(pair.server)) or not states(connection), what="the segment to have its effect"
        )

    for age in TOO_OLD:
        connection = peer.connection(listener)
        shake_hands(connection, CLOCK)
        (server,) = listener.accept()
        with claim.control(f"data in turn, its timestamp {age} older than the last") as control:
            send(control, connection, "PA", age, b"data")
            control.expect("what the application learns", learn(server), "open")
            control.expect("PAWSEstab", control.delta(pair.server).TcpExt.PAWSEstab, 1)
        with claim.effect(f"an RST in its place, its timestamp {age} older than the last") as effect:
            send(effect, connection, "RA", age)
            effect.compare("what the application learns", learn(server), document="ECONNRESET")
            effect.compare("rejected", rejected(effect.delta(pair.server)), document=0)
            effect.compare("the connection at the server", states(connection), document=[])

    # Before and after the connection it is looked at, for a minute: tcp_paws_reject(…, rst), TCP_PAWS_MSL.
    half, gone = peer.connection(listener), peer.connection(listener)
    ask(half, CLOCK)
    half.expect_syn_ack()
    come_and_go(gone, listener, CLOCK)
    for connection, before in ((half, "SYN-RECV"), (gone, "TIME-WAIT")):
        with claim.effect(f"the same RST in {before}") as effect:
            send(effect, connection, "R", 1000)
            effect.premise("the server's state", states(connection), [before])
            effect.premise("rejected", rejected(effect.delta(pair.server)), 1)
        with claim.control(f"an RST with the last timestamp in {before}") as control:
            send(control, connection, "R", 0)
            control.expect("the server's state", states(connection), [])
            control.expect("rejected", rejected(control.delta(pair.server)), 0)
