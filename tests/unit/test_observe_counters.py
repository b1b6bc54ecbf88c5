"""Counters from the kernel's files: every group, exact deltas, and no name that silently counts as nothing."""

from __future__ import annotations

import copy
import pickle

import pytest

from harness.errors import CounterMissing
from harness.observe import Counters
from harness.observe.proc_net import Snapshot, parse_snmp6

SNMP = b"""\
Ip: Forwarding DefaultTTL InReceives
Ip: 2 64 7
IcmpMsg: OutType3
IcmpMsg: 2
Tcp: RtoAlgorithm MaxConn ActiveOpens InSegs
Tcp: 1 -1 3 18446744073709551615
"""
NETSTAT = b"""\
TcpExt: SyncookiesSent ListenOverflows ListenDrops
TcpExt: 0 11 12
IpExt: InOctets
IpExt: 4096
"""
SNMP6 = b"""\
Ip6InReceives                   \t5
Ip6OutMcastPkts                 \t3
Icmp6InMsgs                     \t1
Icmp6OutType143                 \t2
Udp6InDatagrams                 \t9
UdpLite6InDatagrams             \t8
"""


def snapshot(*texts: bytes) -> Counters:
    return Counters(Snapshot(("snmp", text) for text in texts))


def test_names_and_values_are_paired_by_position() -> None:
    counters = snapshot(SNMP, NETSTAT)
    assert counters.TcpExt.ListenOverflows == 11
    assert counters["TcpExt.ListenDrops"] == 12
    assert counters.Tcp.MaxConn == -1
    assert counters.Tcp.InSegs == 2**64 - 1
    assert list(counters)[:3] == ["Ip.Forwarding", "Ip.DefaultTTL", "Ip.InReceives"]
    assert len(counters) == len(counters.as_dict()) == 12


def test_snmp6_names_are_split_into_groups() -> None:
    assert parse_snmp6(SNMP6) == {
        "Ip6": {"InReceives": 5, "OutMcastPkts": 3},
        "Icmp6": {"InMsgs": 1, "OutType143": 2},
        "Udp6": {"InDatagrams": 9},
        "UdpLite6": {"InDatagrams": 8},
    }


def test_a_header_with_another_number_of_values_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        snapshot(b"Tcp: ActiveOpens PassiveOpens\nTcp: 1\n").as_dict()


def test_deltas_are_differences_of_what_moved() -> None:
    before = snapshot(SNMP, NETSTAT)
    after = snapshot(SNMP.replace(b"Ip: 2 64 7", b"Ip: 2 64 9"), NETSTAT.replace(b"11 12", b"22 13"))
    delta = after - before
    assert delta.nonzero() == {"Ip.InReceives": 2, "TcpExt.ListenOverflows": 11, "TcpExt.ListenDrops": 1}
    assert delta.TcpExt.ListenOverflows == 11
    assert delta.Tcp.ActiveOpens == 0
    assert "ListenOverflows +11" in repr(delta)


def test_a_row_that_appeared_in_between_counts_from_zero() -> None:
    before = snapshot(SNMP.replace(b"IcmpMsg: OutType3\nIcmpMsg: 2\n", b""))
    assert (snapshot(SNMP) - before).nonzero() == {"IcmpMsg.OutType3": 2}


def test_a_delta_is_true_when_something_moved() -> None:
    counters = snapshot(SNMP)
    assert not counters - counters
    assert snapshot(SNMP) - Counters({})


def test_parts_of_a_delta() -> None:
    delta = snapshot(SNMP, NETSTAT) - Counters({})
    assert delta.only("TcpExt.Listen*").nonzero() == {"TcpExt.ListenOverflows": 11, "TcpExt.ListenDrops": 12}
    assert delta.only("TcpExt.*", "Ip.In*").without("TcpExt.Listen*").nonzero() == {"Ip.InReceives": 7}
    assert "TcpExt.ListenDrops" not in delta.without("TcpExt.ListenDrops")


@pytest.mark.parametrize("pattern", ["TcpExt.Listn*", "Tcp.ListenOverflows", "ListenOverflows"])
def test_a_pattern_that_matches_nothing_is_an_error(pattern: str) -> None:
    delta = snapshot(SNMP, NETSTAT) - Counters({})
    with pytest.raises(CounterMissing):
        delta.only(pattern)
    with pytest.raises(CounterMissing):
        delta.without(pattern)


def test_an_unknown_counter_is_an_error_that_names_its_neighbours() -> None:
    counters = snapshot(SNMP, NETSTAT)
    with pytest.raises(CounterMissing, match=r"TcpExt\.ListenOverflow: Linux .* near: TcpExt\.ListenOverflows"):
        _ = counters.TcpExt.ListenOverflow
    with pytest.raises(CounterMissing, match=r"near: TcpExt\.ListenDrops"):
        _ = counters["Tcp.ListenDrops"]
    with pytest.raises(CounterMissing, match="MPTcpExt"):
        _ = counters.MPTcpExt


def test_snapshots_can_be_kept() -> None:
    counters = snapshot(SNMP, NETSTAT)
    for other in (copy.deepcopy(counters), pickle.loads(pickle.dumps(counters))):
        assert other.as_dict() == counters.as_dict()
