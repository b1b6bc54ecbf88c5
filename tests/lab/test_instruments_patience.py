"""The instruments of waiting in vain: what they say of a peer that falls silent, and of one that does not."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput, NotReady
from harness.instruments.descriptors import AcceptingServer, Opened, connect_up_to, open_sockets
from harness.instruments.patience import SYN_RETRIES, BlockingConnect, Ends, Knock, knock_all
from harness.instruments.retransmissions import FarAway, first_retransmissions, gaps, short_rto, ss_rto, transmissions
from harness.observe import capture, info_of, socket_of
from harness.traffic import answered, connect, drop, echo, listen
from harness.traffic.connection import abort, endpoint, establish

if TYPE_CHECKING:
    from harness.lab import Pair


def test_a_connection_is_known_by_the_host_that_has_it(pair: Pair) -> None:
    ends = establish(pair.client, listen(pair.server))
    assert socket_of(pair.client, ends.client).state == "ESTAB"
    assert socket_of(pair.client, ends.client).remote == endpoint(ends.server)
    assert info_of(pair.server, ends.server).snd_mss > 0
    with pytest.raises(BadInput, match="server has no connection with inode"):
        socket_of(pair.server, ends.client)


def test_an_end_has_its_error_and_its_moment(pair: Pair) -> None:
    ends, refused, lasting = Ends(), *(establish(pair.client, listen(pair.server)) for _ in range(2))
    ends.watch(refused.client, lasting.client)
    began = time.time()
    abort(refused.server)
    ends.wait(refused.client, deadline=20)
    assert ends[refused.client].error == "ECONNRESET"
    assert began <= ends[refused.client].at <= time.time()
    with pytest.raises(NotReady, match=r"1 connections did not end within 0 s"):
        ends.wait(lasting.client, deadline=0)


def test_connect_that_blocks_ends_as_its_application_wants(pair: Pair) -> None:
    listener = listen(pair.server)
    with drop(pair.server, "S", dport=listener.port):
        blocked, patient = BlockingConnect(pair.client, listener, 1), BlockingConnect(pair.client, listener)
        assert blocked.result(deadline=30) == "EINPROGRESS"
        # The kernel's timer is never early; on a busy machine the process is told late.
        assert 1 <= blocked.seconds < 20
        assert blocked.state == "SYN-SENT"
        with pytest.raises(NotReady, match="connect\\(\\) from client still blocks"):
            patient.result(deadline=0)
    assert (patient.result(deadline=30), patient.state) == ("connected", "ESTAB")


def test_knocks_are_seen(pair: Pair) -> None:
    listener = listen(pair.server)
    with capture(pair.server, port=listener.port) as seen, drop(pair.server, "S", dport=listener.port):
        knock = Knock(pair.client, listener, retries=1, linear=0)
        knock_all([knock])
        assert knock.end.error == "ETIMEDOUT"
        assert len(knock.syns(seen)) == len(knock.law) == 2
        assert knock.seconds(seen) == pytest.approx(sum(knock.law), abs=1)
    assert pair.client.sysctl[SYN_RETRIES] == "1"


def test_a_clock_that_is_set_meanwhile_changes_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    listener, told = listen(pair.server), time.time
    with capture(pair.server, port=listener.port) as seen, drop(pair.server, "S", dport=listener.port):
        knock = Knock(pair.client, listener, retries=1, linear=0)
        setting = threading.Timer(1, monkeypatch.setattr, (time, "time", lambda: told() + 34))
        setting.start()
        knock_all([knock])
        setting.join()
        assert time.time() - told() > 30
        assert sum(knock.law) - 0.1 < knock.seconds(seen) < sum(knock.law) + 30


def test_a_route_makes_the_rto_short(pair: Pair) -> None:
    listener = listen(pair.server, answer=echo)
    with short_rto(pair.client, pair.server, 0.05):
        shortest = 1.0
        # A busy machine has a timer late, and never early.
        for _ in range(3):
            near = answered(pair.client, listener)
            assert ss_rto(pair.client, near) == pytest.approx(info_of(pair.client, near).rto, abs=0.001)
            with capture(pair.server, port=endpoint(near)[1]) as seen:
                (gap,) = first_retransmissions(seen, near)
                shortest = min(shortest, gap)
                assert len(transmissions(seen, endpoint(near), b"x")) >= 2
        assert shortest < 0.19
    assert info_of(pair.client, answered(pair.client, listener)).rto >= 0.2
    assert gaps([1.0, 1.5, 3.0]) == [0.5, 1.5]


def test_a_peer_can_seem_far_away(pair: Pair) -> None:
    far = FarAway(listen(pair.server), pair.client, 20)
    assert 20 <= info_of(pair.server, far.server).rto < 119


def test_nobody_answers(pair: Pair) -> None:
    with pytest.raises(NotReady, match=r"did not answer client; results: \{'connected': 1\}"):
        answered(pair.client, listen(pair.server), deadline=0.2)


def test_programs_run_out_of_descriptors(pair: Pair) -> None:
    server = AcceptingServer(pair.server, 8000, descriptors=16, wanted=20)
    client = connect_up_to(pair.client, pair.server.ip, 8000, descriptors=64, wanted=20)
    assert (client.connected, client.error) == (20, None)
    state = server.accepts_no_more()
    assert (state.accepted, state.error) == (16 - state.before, "EMFILE")
    server.go_on(descriptors=64)
    state = server.accepts_no_more()
    assert (state.accepted, state.error, state.read) == (20, None, [""] * 20)
    assert open_sockets(pair.client, 5) == Opened(5)


def test_a_server_that_ends_says_so(pair: Pair) -> None:
    listen(pair.server, port=8000)
    with pytest.raises(NotReady, match=r"(?s)has ended: .*Address already in use"):
        AcceptingServer(pair.server, 8000, descriptors=64, wanted=1)
    assert connect(pair.client, (pair.server.ip, 8000), wait=True).connected == 1
