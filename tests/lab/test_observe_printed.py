"""What ss and netstat print of real hosts, read as rows, against inet_diag and the counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput, MissingProgram
from harness.lab import program
from harness.observe import count, counters, netstat, shell, sockets, ss
from harness.traffic import RawPeer, connect, listen
from harness.traffic.closing import leave_time_wait
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair
    from harness.traffic import Listener


def busy(pair: Pair) -> Listener:
    """A listener at which two connections wait and three requests are half-open, and a TIME-WAIT of its port."""
    listener = listen(pair.server, 10)
    leave_time_wait(pair.client, listener, closer="server")
    RawPeer(pair.server, pair.client).half_open(listener, 3)
    connect(pair.client, listener, 2, wait=True)
    until(lambda: (listener.waiting, listener.half_open) == (2, 3), what="two waiting, three half-open")
    return listener


def test_ss_prints_what_inet_diag_says(pair: Pair) -> None:
    listener, server = busy(pair), pair.server
    assert sorted(ss.rows(server, "-tan")) == sorted(map(ss.expected, sockets(server)))
    assert len(ss.rows(server, "-tan", "state", "syn-recv")) == 3
    assert ss.listener(server, listener.port).queues == (listener.waiting, listener.limit) == (2, 10)
    timer = ss.row(server, "-tano", "state", "time-wait").timer
    assert timer is not None
    assert timer.kind == "timewait"
    assert 50 < timer.expires <= 60
    with pytest.raises(BadInput, match="ss -tan state syn-recv on server: 3 rows, not one"):
        ss.row(server, "-tan", "state", "syn-recv")
    assert any(word.startswith("rto:") for word in ss.rows(server, "-tin")[0].details)


def test_netstat_prints_as_many(pair: Pair) -> None:
    busy(pair)
    rows = netstat.rows(pair.server, "-tan")
    assert len(rows) == count(pair.server)
    assert sum(row.state == "SYN_RECV" for row in rows) == 3


def test_sentences_follow_counters(pair: Pair) -> None:
    listener = listen(pair.server, 1)
    assert netstat.statistic(pair.server, netstat.OVERFLOWED) == 0
    assert shell.number(pair.server, "netstat -s | grep overflowed") == 0
    connect(pair.client, listener, 2, wait=True)
    RawPeer(pair.server, pair.client).half_open(listener, 5)
    refused = until(lambda: counters(pair.server).TcpExt.ListenOverflows >= 3, what="SYNs at a full queue") and (
        counters(pair.server).TcpExt.ListenOverflows
    )
    assert netstat.statistic(pair.server, netstat.OVERFLOWED) == refused
    assert netstat.statistic(pair.server, netstat.SYNS_TO_LISTEN) == counters(pair.server).TcpExt.ListenDrops
    assert shell.number(pair.server, "netstat -s | grep overflowed") == refused


def test_a_missing_program_is_said(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "SEARCH_PATH", "/nowhere")
    with pytest.raises(MissingProgram, match="netstat"):
        shell.printed(pair.server, "netstat -s | wc -l")


def test_a_listener_knows_what_waits_at_it(pair: Pair) -> None:
    listener = busy(pair)
    assert (listener.waiting, listener.limit, listener.half_open) == (2, 10, 3)
    listener.accept(1)
    listener.listen(7)
    assert (listener.waiting, listener.limit, listener.half_open) == (1, 7, 3)
