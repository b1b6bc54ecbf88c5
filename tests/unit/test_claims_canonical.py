"""The canonical form of a run: exactly the named stamps are replaced, and nothing else."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.claims.canonical import STAMPS, canonical
from harness.errors import BadInput
from harness.observe.capture import Packet
from harness.observe.pcapng import read_pcapng
from tests.report.made_evidence import captured, frame, phase, run

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENT, SERVER = "10.1.0.1", "10.1.0.2"


def a_run(**parts: Any) -> dict[str, Any]:
    """A run with one phase that has these parts alone."""
    return run(phases=[{"kind": "effect", "title": "t", "comparisons": [], **parts}])


def noted(value: object) -> dict[str, Any]:
    return {"notes": {"seen": value}}


def judged(measured: object, wanted: object, what: str = "it", result: str = "met") -> dict[str, Any]:
    return {"comparisons": [{"what": what, "measured": measured, "wanted": wanted, "result": result}]}


def table(*rows: list[Any], total: int | None = None, **more: Any) -> dict[str, Any]:
    """A server's sockets, as a part of a phase."""
    listed = {"total": total or len(rows), "states": {"ESTAB": len(rows)}, "rows": list(rows)}
    return {"sockets": {"server": listed}, **more}


def row(remote: str, timer: str = "", local: str = f"{SERVER}:80") -> list[Any]:
    return ["ESTAB", 0, 0, local, remote, timer]


def counted(**counters: list[int]) -> dict[str, Any]:
    return {"counters": {"server": {name.replace("_", "."): row for name, row in counters.items()}}}


def ports(value: str) -> dict[str, Any]:
    """The range of ports, as the run set it."""
    return {"knobs": {"server": {"net.ipv4.ip_local_port_range": ["32768\t60999", value]}}}


@pytest.mark.parametrize("part", ["started", "duration"])
def test_when_and_how_long_are_stamps(part: str) -> None:
    assert str(canonical(a_run())) == str(canonical({**a_run(), part: 9.25}))


@pytest.mark.parametrize(
    ("stamp", "a", "b"),
    [
        ("date", noted("2026/11/21 21:31:59 [emerg]"), noted("2026/11/22 01:02:03 [emerg]")),
        ("process", noted("279#279: in /run/lab54/x"), noted("33#33: in /run/lab5/x")),
        ("clock", noted(1.25), noted(1.5)),
        ("clock", {"notes": {"newer by, in ticks": 2069}}, {"notes": {"newer by, in ticks": 2067}}),
        ("clock", judged(1.5, "at least 1"), judged(1.6, "at least 1")),
        ("clock", judged(1.5, "between 1 and 1.996"), judged(1.5, "between 1 and 1.992")),
        ("clock", judged(9, "between 8 and 10", "ticks"), judged(11, "between 10 and 12", "ticks")),
        ("clock", table(row("y", "on 0.996s, 0 retransmits")), table(row("y", "on 1s, 0 retransmits"))),
        ("clock", judged(0, "at most 0", "behind, in ms"), judged(-1, "at most 0", "behind, in ms")),
        ("number", judged(3111222333, 3111222333), judged(911222333, 911222333)),
        ("port", table(row(f"{CLIENT}:41000")), table(row(f"{CLIENT}:52000"))),
        ("port", table(row(f"{CLIENT}:41000"), **noted([41000])), table(row(f"{CLIENT}:52000"), **noted([52000]))),
        ("port", table(row("*:41000"), **ports("41000\t41000")), table(row("*:52000"), **ports("52000\t52000"))),
        ("port", table(row("*:2000"), **ports("1024 65535")), table(row("*:3000"), **ports("1024 65535"))),
        ("listed", table(row(f"{CLIENT}:1"), total=9), table(row(f"{CLIENT}:2"), total=9)),
        ("source", table(row("198.18.4.5:99")), table(row("198.19.7.7:98"))),
        ("source", table(row("[2001:2:0:1:2:3:4:5]:99")), table(row("[2001:2:0:a:b:c:d:e]:9"))),
        ("counted before", counted(Tcp_InSegs=[1, 4, 3]), counted(Tcp_InSegs=[2, 5, 3])),
        ("multicast report", counted(Ip6_OutRequests=[1, 3, 2], Ip6_OutMcastPkts=[0, 1, 1]),
         counted(Ip6_OutRequests=[1, 2, 1])),
        ("multicast report", counted(Icmp6_OutMsgs=[0, 1, 1], Icmp6_OutMLDv2Reports=[0, 1, 1]), counted()),
    ],
)  # fmt: skip
def test_what_differs_by_a_stamp_is_the_same(stamp: str, a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a != b
    assert str(canonical(a_run(**a))) == str(canonical(a_run(**b)))
    assert canonical(a_run(**a)).stamps[stamp]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (noted(129), noted(130)),
        ({"notes": {"bytes that came back": 28504064}}, {"notes": {"bytes that came back": 29257728}}),
        (judged(10.0, 10.0), judged(20.0, 20.0)),
        (judged(9, "at least 8"), judged(10, "at least 8")),
        (judged(9, 9, "ticks"), judged(10, 10, "ticks")),
        (judged(1.5, "at least 1"), judged(1.5, "at least 1", result="not met")),
        (table(row(f"{CLIENT}:41000")), table(row(f"{CLIENT}:41000", local=f"{SERVER}:81"))),
        (table(row("y", "on 1s, 0 retransmits")), table(row("y", "on 1s, 1 retransmits"))),
        (table(row("y"), total=9), table(row("y"), total=8)),
        (counted(Tcp_InSegs=[1, 4, 3]), counted(Tcp_InSegs=[1, 5, 4])),
        (counted(Ip6_InReceives=[1, 4, 3], Ip6_InMcastPkts=[0, 1, 1]), counted(Ip6_InReceives=[1, 4, 3])),
        ({"series": {"w": {"points": [[0.1, 1]]}}}, {"series": {"w": {"points": [[0.1, 2]]}}}),
        (ports("40000 40999"), ports("40000 41999")),
    ],
)  # fmt: skip
def test_what_was_measured_stands(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert str(canonical(a_run(**a))) != str(canonical(a_run(**b)))


def test_the_verdict_stands() -> None:
    assert str(canonical(a_run())) != str(canonical({**a_run(), "verdict": "holds"}))


def test_rows_that_stand_in_the_order_of_their_ports_are_sorted_without_them() -> None:
    def first_retransmits(sooner: int, later: int) -> dict[str, Any]:
        one, other = row(f"{CLIENT}:{sooner}", "on 1s, 1 retransmits"), row(f"{CLIENT}:{later}")
        return a_run(**table(*sorted([one, other])))

    assert str(canonical(first_retransmits(41000, 42000))) == str(canonical(first_retransmits(42000, 41000)))


def handshake(port: int, first: int, start: float, *, ack: int = 1, data: bytes = b"") -> bytes:
    """A capture of a client that connects; `first` is its first sequence number."""
    client, server = (CLIENT, port), (SERVER, 80)
    return captured(
        (start, "server", "in", frame(client, server, "S", first)),
        (start + 0.001, "server", "out", frame(server, client, "SA", 900, first + 1)),
        (start + 0.002, "server", "in", frame(client, server, "A", first + 1, 900 + ack, data=data)),
    )


def form_of(capture: bytes) -> str:
    return str(canonical(a_run(), read_pcapng(capture).packets))


def test_packets_are_the_same_but_for_ports_first_numbers_timestamps_and_times() -> None:
    assert form_of(handshake(41000, 100, 0.0)) == form_of(handshake(52000, 3_000_000_000, 7.5))
    stamps = canonical(a_run(), read_pcapng(handshake(41000, 100, 0.0)).packets).stamps
    assert {"port", "clock", "header"} <= set(stamps)


@pytest.mark.parametrize(
    "other", [handshake(41000, 100, 0.0, ack=2), handshake(41000, 100, 0.0, data=b"x"), captured()]
)
def test_packets_differ_by_relative_numbers_length_and_number(other: bytes) -> None:
    assert form_of(handshake(41000, 100, 0.0)) != form_of(other)


def test_the_order_within_a_connection_is_compared_and_not_that_of_hosts() -> None:
    client, server = (CLIENT, 41000), (SERVER, 80)
    syn, answer = frame(client, server, "S", 100), frame(server, client, "SA", 900, 101)
    first = captured((0.0, "server", "in", syn), (0.1, "server", "out", answer))
    assert form_of(first) != form_of(captured((0.1, "server", "in", syn), (0.0, "server", "out", answer)))

    def at_both(later: float) -> bytes:
        return captured((0.0, "client", "out", syn), (later, "server", "in", syn), (0.1, "client", "in", answer))

    assert form_of(at_both(0.05)) == form_of(at_both(0.2))


def multicast(hop_by_hop: bool = True) -> Packet:
    """What IPv6 says of the groups that it listens to."""
    header = struct.pack("!IHBB", 6 << 28, 0, 0 if hop_by_hop else 58, 1) + bytes(16) + b"\xff\x02" + bytes(14)
    content = b"\2" * 12 + b"\x86\xdd" + header
    return Packet(0, "out", "eth0", len(content), content, True)


def test_multicast_reports_are_no_packets_of_the_run_and_others_are() -> None:
    alone = str(canonical(a_run()))
    assert str(canonical(a_run(), [("server", multicast())])) == alone
    assert str(canonical(a_run(), [("server", multicast(hop_by_hop=False))])) != alone


def test_every_stamp_that_occurs_has_a_name() -> None:
    made = run(phases=[phase("effect", "all of it")])
    assert set(canonical(made, read_pcapng(handshake(41000, 100, 0.0)).packets).stamps) <= set(STAMPS)


def test_every_stamp_stands_in_the_document() -> None:
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    assert [name for name in STAMPS if f"| {name} | " not in page] == []


@pytest.mark.parametrize("spoil", [
    lambda made: made["phases"][0].update(counters=[1]),
    lambda made: made["phases"][0].update(sockets={"server": {"total": "many", "rows": [1]}}),
    lambda made: made["phases"][0].update(comparisons=["one"]),
])  # fmt: skip
def test_what_is_no_run_is_refused(spoil: Callable[[dict[str, Any]], None]) -> None:
    made = a_run()
    spoil(made)
    with pytest.raises(BadInput, match=r"test_limit\[ipv4\]: not a run as the evidence has them"):
        canonical(made)
