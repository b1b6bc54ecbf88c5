"""tcp_tw_reuse: what is left of the old connection - data, RSTs, its other end - and whether it harms anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.instruments.last_ack import OldPeer
from harness.instruments.take_over import grow_old
from harness.instruments.two_lives import OLD_DATA, TwoLives
from harness.laws import since
from harness.laws.serial import distance
from harness.traffic import connect, drop, hold, listen
from harness.traffic.connection import error_of, read
from harness.traffic.forged import inject
from harness.traffic.ports import give_ports
from harness.waiting import until, until_at_least

if TYPE_CHECKING:
    from harness.claims.phases import LivePhase
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair
    from harness.traffic import Attempts

REUSE = "net.ipv4.tcp_tw_reuse"
STAMPS = "net.ipv4.tcp_timestamps"
PORT = 41000


@pytest.mark.claim("tw-reuse.old-data-rejected")
def test_old_data_rejected(claim: ClaimRun, pair: Pair) -> None:
    client, server, listener = pair.client, pair.server, listen(pair.server)
    client.sysctl[REUSE] = 1
    packets = claim.capture(server)
    life, bare_life = (TwoLives(client, listener, packets, port) for port in (PORT, PORT + 1))
    old = life.data.tsval
    grow_old()
    new = life.begin_again()
    with claim.effect("a segment of the old connection arrives at the new one") as effect:
        life.repeat_data()
        until_at_least(lambda: effect.delta(server).TcpExt.PAWSEstab, 1, what="the segment to be judged")
        effect.compare("PAWSEstab", effect.delta(server).TcpExt.PAWSEstab, document=1)
        effect.compare("what the server reads", read(new.server), document=b"")
    with claim.effect("one with the number that is expected next, as after 4 GB, and the old timestamp") as effect:
        ack = packets.segments(flags="A", sport=PORT)[-1]
        effect.premise("its number less the one behind the SYN", distance(life.syn.next_seq, ack.next_seq), 0)
        inject(server, ack, "PA", tsval=old, payload=OLD_DATA)
        until_at_least(lambda: effect.delta(server).TcpExt.PAWSEstab, 1, what="the segment to be judged")
        effect.compare("PAWSEstab", effect.delta(server).TcpExt.PAWSEstab, document=1)
        effect.compare("what the server reads", read(new.server), document=b"")
        new.say(b"new data")
    with claim.control("the same with a timestamp of now") as control:
        inject(server, life.to_server, "PA", tsval=life.to_server.tsval, payload=OLD_DATA)
        control.expect("what the server reads", until(lambda: read(new.server)), OLD_DATA)
        control.expect("PAWSEstab", control.delta(server).TcpExt.PAWSEstab, 0)
    with claim.control("the old timestamp, and a new connection without the option") as control:
        client.sysctl[STAMPS] = 0
        bare = bare_life.begin_again()
        control.expect("timestamps", bare_life.to_server.tsval, None)
        inject(server, bare_life.to_server, "PA", tsval=old, payload=OLD_DATA)
        control.expect("what the server reads", until(lambda: read(bare.server)), OLD_DATA)


@pytest.mark.claim("tw-reuse.stale-rst-kills")
def test_stale_rst_kills(claim: ClaimRun, pair: Pair) -> None:
    client, server, listener = pair.client, pair.server, listen(pair.server)
    client.sysctl[REUSE] = 1
    claim.capture(server)
    packets = claim.capture(client)
    late, to_server, inside, exact, bare, untouched = lives = [
        TwoLives(client, listener, packets, port) for port in range(PORT, PORT + 6)
    ]
    # A segment of the old connection comes to the server again, who knows it no more and sends an RST.
    held = hold(client, "R", dport=late.port)
    late.repeat_data()
    until(lambda: held.count == 1, what="the server's RST")
    grow_old()
    new = {life: life.begin_again() for life in lives}
    with claim.effect("RSTs of the old connection arrive at the new one") as effect:
        held.release()
        effect.compare("the server's, sent in TIME_WAIT", new[late].fate(), document="ECONNRESET", kernel="open")
        inject(server, to_server.old_to_server, "R", tsval=to_server.old_to_server.tsval)
        effect.compare("one from the client's end", new[to_server].fate(), document="ECONNRESET", kernel="open")
        effect.premise("challenge ACKs", challenge_acks(effect, client) + challenge_acks(effect, server), 0)
    with claim.effect("such RSTs, but with the number that is expected next") as effect:
        inject(client, exact.to_client, "R", tsval=exact.old_to_client.tsval)
        effect.compare("with the old timestamp", new[exact].fate(), document="ECONNRESET")
        inject(client, bare.to_client, "R")
        effect.compare("without timestamp", new[bare].fate(), document="ECONNRESET")
        effect.compare("PAWSEstab", effect.delta(client).TcpExt.PAWSEstab, document=0)
    with claim.effect("such an RST, with a number that is in the window but not the next") as effect:
        challenged = since("challenge-ack-answers-rst")
        inject(client, inside.to_client, "R", beyond=1000, tsval=inside.old_to_client.tsval)
        fate = new[inside].fate()
        effect.compare("with the old timestamp", fate, document="ECONNRESET", kernel="open" if challenged else None)
        effect.premise("challenge ACKs", challenge_acks(effect, client), int(challenged))
    with claim.control("no RST, and data with the old timestamp") as control:
        inject(client, untouched.to_client, "PA", tsval=untouched.old_to_client.tsval, payload=OLD_DATA)
        control.expect("the connection", new[untouched].fate(), "open")
        control.expect("PAWSEstab", control.delta(client).TcpExt.PAWSEstab, 1)


def challenge_acks(phase: LivePhase, host: Host) -> int:
    """How many a host has sent; kernels that send none do not count them."""
    return phase.delta(host).TcpExt.TCPChallengeACK if since("challenge-ack-answers-rst") else 0


@pytest.mark.slow(8)
@pytest.mark.claim("tw-reuse.last-ack-peer-reset")
def test_last_ack_peer_reset(claim: ClaimRun, pair: Pair) -> None:
    client, server, listener = pair.client, pair.server, listen(pair.server)
    client.sysctl[REUSE] = 1
    packets = claim.capture(server)
    dialled: list[Attempts] = []

    def old_peer(port: int, *, closes: bool) -> OldPeer:
        return OldPeer(client, listener, packets, port, closes=closes)

    def take_over(peer: OldPeer) -> None:
        give_ports(client, first=peer.port)
        dialled.append(connect(client, listener))

    with claim.control("the port is not reused") as control:
        unharmed = old_peer(PORT, closes=False)
        control.expect("in LAST-ACK", unharmed.in_last_ack, True)
        unharmed.hear_again()
        unharmed.wait_for_end()
        control.expect("RSTs", unharmed.resets(), [])
        control.expect("SO_ERROR", error_of(unharmed.end), "no error")
        control.expect("recv()", read(unharmed.end), b"")
    kept, closed = old_peer(PORT + 1, closes=False), old_peer(PORT + 2, closes=True)
    kept_too, closed_too = old_peer(PORT + 3, closes=False), old_peer(PORT + 4, closes=True)
    grow_old()
    with claim.effect("the port is reused, and the old peer's FIN comes before the new SYN arrives") as effect:
        syns = {peer: drop(server, "S", sport=peer.port) for peer in (kept, closed)}
        for peer in syns:
            take_over(peer)
        for peer, syn in syns.items():
            peer.wait_for_end()
            syn.lift()
            effect.compare("RSTs for the old peer", len(peer.resets()), document=1)
            effect.compare("what the RST answers", peer.reset_answers(), document="FA")
        effect.compare("SO_ERROR of the application that kept the socket", error_of(kept.end), document="ECONNRESET")
        effect.premise("recv()", read(kept.end), b"")
    with claim.effect("the port is reused, and the new SYN arrives before the old peer's FIN") as effect:
        for peer in (kept_too, closed_too):
            take_over(peer)
            peer.wait_for_end()
            effect.compare("RSTs for the old peer", len(peer.resets()), document=1)
        error = error_of(kept_too.end)
        effect.compare("SO_ERROR of the application that kept the socket", error, document="ECONNRESET")
        effect.premise("recv()", read(kept_too.end), b"")
    with claim.control("the new connections") as control:
        results = [attempts.wait(deadline=30)[0].result for attempts in dialled]
        control.expect("results", results, ["connected"] * 4)


@pytest.mark.slow(6)
@pytest.mark.claim("tw-reuse.rst-answers-the-fin")
def test_rst_answers_the_fin(claim: ClaimRun, pair: Pair) -> None:
    client, server, listener = pair.client, pair.server, listen(pair.server)
    client.sysctl[REUSE] = 1
    packets = claim.capture(server)
    free, kept_back = (OldPeer(client, listener, packets, port, closes=False) for port in (PORT, PORT + 1))
    grow_old()

    def answered(peer: OldPeer) -> str:
        """What the RST answers that the old peer gets when its port is reused."""
        give_ports(client, first=peer.port)
        connect(client, listener)
        peer.wait_for_end()
        return peer.reset_answers()

    with claim.effect("the port is reused, and nothing is lost") as effect:
        # A SYN in LAST-ACK is answered with an ACK of the old numbers, which the new connection's end resets.
        effect.compare("what the RST answers", answered(free), document="FA", kernel="A")
        effect.compare("RSTs for the old peer", len(free.resets()), document=1)
    with (
        claim.control("the new SYN is lost until the FIN has come") as control,
        drop(server, "S", sport=kept_back.port),
    ):
        control.expect("what the RST answers", answered(kept_back), "FA")
