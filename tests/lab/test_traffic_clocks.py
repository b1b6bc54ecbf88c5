"""Peers whose clocks differ: the kernel sees the clocks that they were given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.observe import sockets
from harness.traffic import RawPeer, listen
from harness.traffic.clocks import come_and_go, connect_at, shake_hands
from harness.traffic.timestamps import stamp, stamps_of

if TYPE_CHECKING:
    from harness.lab import Pair


def test_raw_connections_with_clocks_of_their_own(pair: Pair) -> None:
    listener, peer = listen(pair.server), RawPeer(pair.server, pair.client)
    early, late = peer.connection(listener), peer.connection(listener)
    shake_hands(late, 2_000_000)
    theirs = shake_hands(early, 1_000)
    listener.accept(2)
    early.send("PA", b"x", options=stamp(1_001, theirs))
    stamps = stamps_of(early.wait("A"))
    assert stamps is not None
    assert stamps.echo == 1_001


def test_who_comes_and_goes_leaves_a_time_wait(pair: Pair) -> None:
    listener, peer = listen(pair.server), RawPeer(pair.server, pair.client)
    come_and_go(peer.connection(listener), listener, 5_000)
    assert [one.state for one in sockets(pair.server, "exclude listening")] == ["TIME-WAIT"]


def test_a_real_client_is_given_a_clock(pair: Pair) -> None:
    listener = listen(pair.server)
    client = connect_at(pair.client, listener, 77_000)
    (server,) = listener.accept()
    client.send(b"x")
    assert server.getpeername()[1] == client.getsockname()[1]
