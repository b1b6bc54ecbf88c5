"""TCP timestamps: which old segments they keep out (PAWS), where sequence numbers come round, and that RSTs pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import state
from harness.instruments.stamped import CLOCK, WORDS, Stamped
from harness.instruments.timestamp_clock import switch_timestamps
from harness.instruments.wrap import no_wrap, stream_after_wrap, wrap_by_data, wrap_by_repair
from harness.lab import pair as make_pair
from harness.laws.timestamps import TOLERATED, TOO_OLD
from harness.observe import states_at
from harness.observe.paws import rejected
from harness.traffic import RawPeer, listen
from harness.traffic.clocks import ask, come_and_go
from harness.traffic.connector import learn
from harness.traffic.timestamps import stamp
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.phases import LivePhase
    from harness.claims.record import ClaimRun
    from harness.evidence.kinds import State
    from harness.instruments.wrap import Wrap
    from harness.lab import Host, Lab, Pair
    from harness.traffic import RawConnection


@pytest.mark.claim("timestamps.paws-drops-older")
def test_paws_drops_older(claim: ClaimRun, pair: Pair) -> None:
    server, peer = pair.server, Stamped(pair.server, pair.client)

    def nstat() -> int:
        return int(server.run("nstat", "-asz", "TcpExtPAWSEstab").stdout.split()[-2])

    for age in TOO_OLD:
        before = nstat()
        with claim.effect(f"data in turn, its timestamp {age} older than the last") as effect:
            effect.compare("what the application can read", peer.say(CLOCK - age), document=b"")
            effect.compare("PAWSEstab", effect.delta(server).TcpExt.PAWSEstab, document=1)
            effect.compare("nstat TcpExtPAWSEstab", nstat() - before, document=1)
    with claim.effect("an acknowledgement out of turn, its timestamp older than the last") as effect:
        peer.raw.send("A", seq=peer.raw.seq - 1, options=stamp(CLOCK - 1000))
        until(lambda: rejected(effect.delta(server)), what="the segment to be rejected")
        effect.compare("rejected", rejected(effect.delta(server)), document=1)
    last = CLOCK
    for newer in (1, 1000, 2**31 - 1):
        last += newer
        with claim.control(f"data in turn, its timestamp {newer} newer than the last") as control:
            control.expect("what the application can read", peer.say(last), WORDS)
            control.expect("rejected", rejected(control.delta(server)), 0)
        peer.take(last)


@pytest.mark.claim("timestamps.not-increasing-dropped")
def test_not_increasing_dropped(claim: ClaimRun, pair: Pair) -> None:
    check_taken(claim, pair, 0)


@pytest.mark.claim("timestamps.a-tick-older-dropped")
def test_a_tick_older_dropped(claim: ClaimRun, pair: Pair) -> None:
    check_taken(claim, pair, TOLERATED)


def check_taken(claim: ClaimRun, pair: Pair, age: int) -> None:
    """A segment whose timestamp is so much older than the last is taken, which the documents deny."""
    peer = Stamped(pair.server, pair.client)
    with claim.effect(f"data in turn, its timestamp {age} older than the last") as effect:
        effect.compare("what the application can read", peer.say(CLOCK - age), document=b"", kernel=WORDS)
        effect.compare("rejected", rejected(effect.delta(pair.server)), document=1, kernel=0)
    peer.take(None)
    with claim.control(f"{TOLERATED + 1} older than the last") as control:
        control.expect("what the application can read", peer.say(CLOCK - TOLERATED - 1), b"")
        control.expect("rejected", rejected(control.delta(pair.server)), 1)
    with claim.control("1 newer than the last") as control:
        control.expect("what the application can read", peer.say(CLOCK + 1), WORDS)
        control.expect("rejected", rejected(control.delta(pair.server)), 0)


@pytest.mark.claim("timestamps.paws-needs-option")
def test_paws_needs_option(claim: ClaimRun, pair: Pair) -> None:
    peer, without = (Stamped(pair.server, pair.client, clock) for clock in (CLOCK, None))
    with claim.effect("data without the option, on a connection that uses it") as effect:
        effect.compare("what the application can read", peer.say(None), document=b"", kernel=WORDS)
        effect.premise("rejected", rejected(effect.delta(pair.server)), 0)
    peer.take(None)
    with claim.control("data with the option, its timestamp older than the last") as control:
        control.expect("what the application can read", peer.say(CLOCK - 1000), b"")
        control.expect("rejected", rejected(control.delta(pair.server)), 1)
    with claim.control("data without the option, on a connection that does not use it") as control:
        control.expect("what the application can read", without.say(None), WORDS)


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
    with claim.control("without timestamps and without a wrap: its number is that of bytes long read") as control:
        control.expect("the application reads", stream_after_wrap(pair, no_wrap), b"hellonew data")
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
    for age in TOO_OLD:
        peer = Stamped(pair.server, pair.client)
        with claim.control(f"data in turn, its timestamp {age} older than the last") as control:
            peer.say(CLOCK - age)
            control.expect("what the application learns", learn(peer.end), "open")
            control.expect("PAWSEstab", control.delta(pair.server).TcpExt.PAWSEstab, 1)
        with claim.effect(f"an RST in its place, its timestamp {age} older than the last") as effect:
            peer.raw.send("RA", seq=peer.raw.seq, options=stamp(CLOCK - age))
            settle(effect, pair.server, peer.raw)
            effect.compare("what the application learns", learn(peer.end), document="ECONNRESET")
            effect.compare("rejected", rejected(effect.delta(pair.server)), document=0)
            effect.compare("the connection at the server", states(pair.server, peer.raw), document=[])


@pytest.mark.claim("timestamps.paws-keeps-rst-from-time-wait")
def test_paws_keeps_rst_from_time_wait(claim: ClaimRun, pair: Pair) -> None:
    listener, peer = listen(pair.server), RawPeer(pair.server, pair.client)
    half, gone = peer.connection(listener), peer.connection(listener)
    ask(half, CLOCK)
    half.expect_syn_ack()
    come_and_go(gone, listener, CLOCK)
    for connection, where in ((half, "SYN-RECV"), (gone, "TIME-WAIT")):
        with claim.effect(f"an RST in {where}, its timestamp older than the last") as effect:
            connection.send("R", seq=connection.seq, options=stamp(CLOCK - 1000))
            settle(effect, pair.server, connection)
            effect.compare("the server's state", states(pair.server, connection), document=[where])
            effect.compare("rejected", rejected(effect.delta(pair.server)), document=1)
        with claim.control(f"an RST in {where} with the last timestamp") as control:
            connection.send("R", seq=connection.seq, options=stamp(CLOCK))
            settle(control, pair.server, connection)
            control.expect("the server's state", states(pair.server, connection), [])
            control.expect("rejected", rejected(control.delta(pair.server)), 0)


def states(server: Host, connection: RawConnection) -> list[State]:
    """The states of the server's end."""
    return state(states_at(server, connection.port))


def settle(phase: LivePhase, server: Host, connection: RawConnection) -> None:
    """Wait until a segment was rejected, or the connection has ended."""
    ended = "the segment to have its effect"
    until(lambda: rejected(phase.delta(server)) or not states(server, connection), what=ended)
