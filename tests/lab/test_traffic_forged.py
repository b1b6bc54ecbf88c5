"""Forged segments: they arrive as the sender's would, with the number and the timestamp that they were given."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest

from harness.observe import capture
from harness.traffic import connect, listen, raw
from harness.traffic.forged import checksummed, forge
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair


def test_the_server_reads_a_forged_segment(pair: Pair) -> None:
    listener = listen(pair.server)
    with capture(pair.server) as packets:
        connect(pair.client, listener, wait=True)
        (server,) = listener.accept()
        last = until(lambda: packets.segments(dport=listener.port, flags="A"), what="the handshake's ACK")[-1]
        raw.deliver(pair.server, forge(pair.server, last, "PA", seq=last.next_seq, tsval=last.tsval, payload=b"forged"))
        raw.deliver(pair.server, forge(pair.server, last, "PA", seq=last.next_seq, tsval=None, payload=b"bare"))
        until(lambda: len(packets.segments(dport=listener.port, flags="PA")) == 2, what="both segments")
    forged, bare = packets.segments(dport=listener.port, flags="PA")
    assert server.recv(100) == b"forged"
    assert (forged.src, forged.sport, forged.ack, forged.tsval) == (last.src, last.sport, last.ack, last.tsval)
    assert forged.tsecr == last.tsecr
    assert bare.tsval is None


def test_the_number_behind_a_segment(pair: Pair) -> None:
    listener = listen(pair.server)
    with capture(pair.server) as packets:
        (client,) = connect(pair.client, listener, wait=True).sockets
        client.send(b"four")
        client.close()
        until(lambda: packets.segments(dport=listener.port, flags="FA"), what="the FIN")
    sent = {segment.flags: segment for segment in packets.segments(dport=listener.port)}
    assert sent["S"].next_seq == sent["PA"].seq
    assert sent["PA"].next_seq == sent["FA"].seq
    assert sent["FA"].next_seq == (sent["FA"].seq + 1) % 2**32


def test_a_checksum_is_filled_in(pair: Pair) -> None:
    listener = listen(pair.server)
    with capture(pair.server) as packets:
        connect(pair.client, listener, wait=True)
    frame = next(p.frame for p in packets.packets() if (s := p.segment()) and s.flags == "S")
    at = {socket.AF_INET: 50, socket.AF_INET6: 70}[pair.client.family]
    assert checksummed(frame[:at] + b"\0\0" + frame[at + 2 :]) == frame


def test_a_frame_that_finds_no_room_is_put_on_the_cable_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = listen(pair.server)
    refused: list[bytes] = []

    def full_once(cable: socket.socket, frame: bytes) -> bool:
        if not refused:
            refused.append(frame)
            return False
        return bool(cable.send(frame))

    monkeypatch.setattr(raw, "_has_room", full_once)
    with capture(pair.server) as packets:
        connect(pair.client, listener, wait=True)
        (syn,) = packets.segments(flags="S", dport=listener.port)
        raw.deliver(pair.server, forge(pair.server, syn, "S", seq=syn.seq, tsval=7))
        until(lambda: [s for s in packets.segments(flags="S") if s.tsval == 7], what="the forged SYN")
    assert len(refused) == 1


def test_what_is_too_long_for_the_cable_is_an_error(pair: Pair) -> None:
    with pytest.raises(OSError, match="too long") as error:
        raw.deliver(pair.server, bytes(70_000))
    assert error.value.errno == errno.EMSGSIZE
