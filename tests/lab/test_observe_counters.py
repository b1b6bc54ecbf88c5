"""Counters of real hosts: against nstat, one connection's exact deltas, and nothing of other hosts."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import CounterMissing, HarnessError
from harness.lab import Lab, pair
from harness.observe import counters, counting, sockets
from harness.traffic import RawPeer, connect, listen
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair
    from harness.lab.host import Host


def as_nstat_prints(host: Host) -> dict[str, int]:
    """All counters by nstat, absolute, zeros included, without its history file; names as one word (TcpExtTW)."""
    lines = host.run("nstat", "-asz").stdout.splitlines()
    rows = (line.split() for line in lines if not line.startswith("#"))
    return {name: int(value) for name, value, *_ in rows}


def test_every_counter_is_what_nstat_reads(pair: Pair) -> None:
    listener = listen(pair.server, 1)
    connect(pair.client, listener, 2, wait=True)

    def both(host: Host) -> tuple[dict[str, int], dict[str, int]] | None:
        """Ours and theirs, if nothing moved meanwhile (IPv6 reports its multicast groups when it likes)."""
        before, theirs, after = counters(host), as_nstat_prints(host), counters(host)
        return (before.as_dict(), theirs) if not after - before else None

    for host in (pair.client, pair.server):
        ours, theirs = until(partial(both, host), what="two looks at the same") or ({}, {})
        as_one_word = {name.replace(".", ""): value for name, value in ours.items()}
        # A few settings (Tcp.RtoMin) are all that nstat leaves out.
        assert {name: as_one_word.get(name) for name in theirs} == theirs
        assert len(theirs) > 200
        assert theirs["TcpActiveOpens" if host is pair.client else "TcpPassiveOpens"] == 2


def test_one_connection_moves_exactly_its_counters(pair: Pair) -> None:
    listener = listen(pair.server)
    with counting(pair.client) as client, counting(pair.server) as server:
        attempts = connect(pair.client, listener, wait=True)
        until(lambda: server.Tcp.PassiveOpens == 1, what="the last ACK")
    assert attempts.connected == 1
    assert client.only("Tcp.*").nonzero() == {
        "Tcp.ActiveOpens": 1,
        "Tcp.CurrEstab": 1,
        "Tcp.InSegs": 1,
        "Tcp.OutSegs": 2,
    }
    assert server.only("Tcp.*").nonzero() == {
        "Tcp.PassiveOpens": 1,
        "Tcp.CurrEstab": 1,
        "Tcp.InSegs": 2,
        "Tcp.OutSegs": 1,
    }
    assert not server.only("TcpExt.Listen*")


def test_an_overflow_is_counted_to_the_last(pair: Pair) -> None:
    listener = listen(pair.server, 2)
    with counting(pair.server) as delta:
        connect(pair.client, listener, 3).wait(3)
        # A real client sends its SYN again after a second, which a busy machine may take for this.
        RawPeer(pair.server, pair.client).half_open(listener, 4)
        until(lambda: delta.TcpExt.ListenOverflows >= 4, what="four refused SYNs")
    assert delta.only("TcpExt.Listen*").nonzero() == {"TcpExt.ListenOverflows": 4, "TcpExt.ListenDrops": 4}
    (waiting,) = sockets(pair.server, "state listening")
    # The kernel counts a socket's own drops where it has reported them (SK_MEMINFO_DROPS).
    assert (waiting.recv_q, waiting.drops) in ((3, 4), (3, None))


def test_a_delta_is_live_inside_and_frozen_after(pair: Pair) -> None:
    listener = listen(pair.server)
    with counting(pair.server) as delta:
        assert delta["Tcp.PassiveOpens"] == 0
        connect(pair.client, listener, wait=True)
        until(lambda: delta.Tcp.PassiveOpens == 1)
    connect(pair.client, listener, 5, wait=True)
    until(lambda: counters(pair.server).Tcp.PassiveOpens == 6)
    assert delta.Tcp.PassiveOpens == delta.nonzero()["Tcp.PassiveOpens"] == 1


def test_hosts_count_for_themselves(pair: Pair) -> None:
    listener = listen(pair.server)
    aside = pair.client.lab.host("aside")
    before = counters(aside)
    connect(pair.client, listener, 3, wait=True)
    assert not (counters(aside) - before).only("Tcp.*", "TcpExt.*", "Ip.*")


def test_an_unknown_name_is_an_error(pair: Pair) -> None:
    with pytest.raises(CounterMissing, match=r"near: TcpExt\.ListenOverflows"):
        _ = counters(pair.client).TcpExt.ListenOverflow


def open_files() -> list[Path]:
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one of this very directory
            found.append(descriptor.readlink())
    return [path for path in found if path.parent.name == "net" and path.name in ("snmp", "netstat", "snmp6")]


def test_the_files_are_opened_once_and_closed_with_the_lab(family: int) -> None:
    before = len(open_files())
    with Lab(family) as lab:
        made = pair(lab)
        for _ in range(3):
            counters(made.client)
        assert len(open_files()) - before in (2, 3)
    assert len(open_files()) == before
    with pytest.raises(HarnessError, match="client"):
        counters(made.client)
