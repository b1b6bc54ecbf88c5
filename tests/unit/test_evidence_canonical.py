"""The canonical form of a run: exactly the named stamps are replaced, and nothing else; labels are no part of it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.evidence import address, drawn, output, port, seconds, size, state, ticks
from harness.evidence.canonical import STAMPS, canonical
from harness.evidence.types import (
    Endpoint,
    Knob,
    Moved,
    Note,
    Outcome,
    Phase,
    PhaseKind,
    Run,
    Series,
    SocketRow,
    SocketTable,
    SocketTimer,
    Verdict,
)
from harness.evidence.values import Kind, value_of
from harness.lab.impairment import Impairment, LineUsed, SegmentMatch, Towards
from harness.laws.ranges import at_least, at_most, between
from harness.observe.packet import Packet
from harness.observe.pcapng import read_pcapng
from tests.report.made_evidence import captured, frame
from tests.unit.evidence_of_a_run import a_phase, a_run, checked, noted

CLIENT, SERVER = "10.1.0.1", "10.1.0.2"
TIMER = SocketTimer("on", 1.0, 0)


def form_of_phase(phase: Phase) -> str:
    return str(canonical(a_run(phases=(phase,))))


def row(peer: Endpoint, timer: SocketTimer | None = None, local: Endpoint | None = None) -> SocketRow:
    return SocketRow("ESTAB", 0, 0, local or Endpoint(SERVER, 80), peer, timer)


def table(*rows: SocketRow, total: int | None = None, **parts: Any) -> Phase:
    """An effect at whose end the server has these sockets."""
    listed = SocketTable(len(rows) if total is None else total, {"ESTAB": len(rows)}, rows)
    return a_phase(sockets={"server": listed}, **parts)


def client(number: int, timer: SocketTimer | None = None) -> SocketRow:
    return row(Endpoint(CLIENT, number), timer)


def counted(**counters: tuple[int, int]) -> Phase:
    return a_phase(counters={"server": {name.replace("_", "."): Moved(*both) for name, both in counters.items()}})


def ports(value: str) -> dict[str, Any]:
    """The range of ports, as the run set it."""
    return {"knobs": {"server": {"net.ipv4.ip_local_port_range": Knob("32768\t60999", value)}}}


def drawn_as(name: str, **parts: Any) -> Phase:
    return a_phase(series=(Series(name, **parts),))


def bars(height: int) -> Phase:
    return drawn_as("w", points=(("a", height),), x_kind=Kind.TEXT, kind=Kind.COUNT)


@pytest.mark.parametrize("part", ["started", "duration"])
def test_when_and_how_long_are_stamps(part: str) -> None:
    assert str(canonical(a_run())) == str(canonical(msgspec.structs.replace(a_run(), **{part: 9.25})))


@pytest.mark.parametrize(
    ("stamp", "a", "b"),
    [
        ("date", noted(output("2026/11/21 21:31:59 [emerg]")), noted(output("2026/11/22 01:02:03 [emerg]"))),
        ("process", noted(output("279#279: in /run/lab54/x")), noted(output("33#33: in /run/lab5/x"))),
        ("source", noted(output("from 198.18.4.5:99")), noted(output("from 198.19.7.7:98"))),
        ("port", noted(output("timer 41000 41000")), noted(output("timer 52000 52000"))),
        ("clock", noted(1.25), noted(1.5)),
        ("clock", noted(seconds(1.25)), noted(seconds(1.5))),
        ("clock", noted(ticks(2069)), noted(ticks(2067))),
        ("clock", noted({"newer by": ticks(2069)}), noted({"newer by": ticks(2067)})),
        ("clock", checked(seconds(1.5), at_least(1)), checked(seconds(1.6), at_least(1))),
        ("clock", checked(seconds(1.5), between(1, 1.996)), checked(seconds(1.5), between(1, 1.992))),
        ("clock", checked(ticks(9), between(8, 10)), checked(ticks(11), between(10, 12))),
        ("clock", table(client(41000, TIMER)), table(client(41000, SocketTimer("on", 0.996, 0)))),
        ("number", checked(drawn(3111222333), 3111222333), checked(drawn(911222333), 911222333, met=True)),
        ("number", noted(drawn(7)), noted(drawn(911222333))),
        ("port", table(client(41000)), table(client(52000))),
        ("port", noted([port(41000)]), noted([port(52000)])),
        ("port", noted(address((CLIENT, 41000))), noted(address((CLIENT, 52000)))),
        ("port", table(client(2000), **ports("1024 65535")), table(client(3000), **ports("1024 65535"))),
        ("listed", table(client(1), total=9), table(client(2), total=9)),
        ("source", table(row(Endpoint("198.18.4.5", 99))), table(row(Endpoint("198.19.7.7", 98)))),
        ("source", table(row(Endpoint("2001:2:0:1:2:3:4:5", 99))), table(row(Endpoint("2001:2:0:a:b:c:d:e", 9)))),
        ("counted before", counted(Tcp_InSegs=(1, 4)), counted(Tcp_InSegs=(2, 5))),
        ("multicast report", counted(Ip6_OutRequests=(1, 3), Ip6_OutMcastPkts=(0, 1)), counted(Ip6_OutRequests=(1, 2))),
        ("multicast report", counted(Icmp6_OutMsgs=(0, 1), Icmp6_OutMLDv2Reports=(0, 1)), counted()),
        ("polled", drawn_as("w", points=((0.1, 1),)), drawn_as("w", points=((0.1, 2), (0.2, 3)))),
        ("clock", drawn_as("w", points=(("a", 1.5),), x_kind=Kind.TEXT, kind=Kind.SECONDS),
         drawn_as("w", points=(("a", 2.5),), x_kind=Kind.TEXT, kind=Kind.SECONDS)),
    ],
)  # fmt: skip
def test_what_differs_by_a_stamp_is_the_same(stamp: str, a: Phase, b: Phase) -> None:
    assert a != b
    stamps = [canonical(a_run(phases=(phase,))).stamps[stamp] for phase in (a, b)]
    assert any(stamps)
    if stamp == "multicast report":
        b = msgspec.structs.replace(b, counters=b.counters or {"server": {}})
    assert form_of_phase(a) == form_of_phase(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (noted(129), noted(130)),
        (noted("text 41000"), noted("text 52000")),
        (noted(3111222333), noted(911222333)),
        (noted(41000), noted(52000)),
        (noted(port(80)), noted(port(81))),
        (noted(state("ESTAB")), noted(state("TIME-WAIT"))),
        (noted(size(28504064)), noted(size(29257728))),
        (checked(seconds(10.0), 10.0), checked(seconds(20.0), 20.0)),
        (checked(9, at_least(8)), checked(10, at_least(8))),
        (checked(9, at_least(8)), checked(9, at_least(7))),
        (checked(9, at_least(8)), checked(9, at_most(9))),
        (checked(ticks(9), 9), checked(ticks(10), 10)),
        (checked(seconds(1.5), at_least(1)), checked(seconds(1.5), at_least(1), met=False)),
        (table(client(41000)), table(row(Endpoint(CLIENT, 41000), local=Endpoint(SERVER, 81)))),
        (table(client(41000, TIMER)), table(client(41000, SocketTimer("on", 1.0, 1)))),
        (table(client(1), total=9), table(client(1), total=8)),
        (counted(Tcp_InSegs=(1, 4)), counted(Tcp_InSegs=(1, 5))),
        (counted(Ip6_InReceives=(1, 4), Ip6_InMcastPkts=(0, 1)), counted(Ip6_InReceives=(1, 4))),
        (bars(1), bars(2)),
        (a_phase(**ports("40000 40999")), a_phase(**ports("40000 41999"))),
        (a_phase(), a_phase(interrupted="Broken: x")),
        (a_phase(), a_phase(kind=PhaseKind.CONTROL)),
    ],
)
def test_what_was_measured_stands(a: Phase, b: Phase) -> None:
    assert form_of_phase(a) != form_of_phase(b)


@pytest.mark.parametrize("part", [{"verdict": Verdict.HOLDS}, {"outcome": Outcome.FAILED}, {"params": "ipv6"}])
def test_the_verdict_and_the_test_stand(part: dict[str, Any]) -> None:
    assert str(canonical(a_run())) != str(canonical(a_run(**part)))


def test_an_impairment_stands_but_for_its_times() -> None:
    rule = Impairment("drop", "server", SegmentMatch("A", dport=80), 1.0, 2.0, 1)
    forms = {
        str(canonical(a_run(impairments=(Impairment("drop", "server", match, since, until, dropped),))))
        for match, since, until, dropped in (
            (rule.match, 1.0, 2.0, 1),
            (rule.match, 5.0, 7.0, 1),
            (SegmentMatch("A", dport=80, ack=5), 1.0, 2.0, 1),
            (SegmentMatch("A", dport=80, ack=9), 1.0, 2.0, 1),
            (rule.match, 1.0, None, 1),
            (rule.match, 1.0, 2.0, 2),
        )
    }
    assert len(forms) == 4


def test_a_line_stands_but_for_a_seed_that_was_drawn_and_what_became_of_frames() -> None:
    line = LineUsed(("client", "server"), "box", loss=1.0, seed=7, towards=(Towards("server", 9, 1),))
    forms = [
        str(canonical(a_run(lines=(LineUsed(**{**vars(line), **changed}),))))
        for changed in (
            {},
            {"towards": ()},
            {"seed": 8},
            {"loss": 2.0},
            {"by": "netem"},
            {"seed": 8, "drawn": True},
            {"seed": 9, "drawn": True},
        )
    ]
    assert [form == forms[0] for form in forms] == [True, True, False, False, False, False, False]
    assert forms[5] == forms[6]


def every_label(run: Run, say: str) -> Run:
    """The run with each title, label and name changed."""
    phases = tuple(
        msgspec.structs.replace(
            phase,
            title=f"{say} {phase.title}",
            comparisons=tuple(
                msgspec.structs.replace(comparison, what=f"{say} {comparison.what}") for comparison in phase.comparisons
            ),
            notes=tuple(Note(f"{say} {note.label}", note.value) for note in phase.notes),
            series=tuple(msgspec.structs.replace(series, name=f"{say} {series.name}") for series in phase.series),
        )
        for phase in run.phases
    )
    return msgspec.structs.replace(run, phases=phases)


def test_a_reworded_scenario_has_the_same_form_and_another_kind_has_not() -> None:
    """`ticks` and `seconds` in a label were what told a clock from a count; now nothing in a label tells anything."""
    phases = (checked(9, at_least(8), "waiting"), noted(ticks(7), "age"), drawn_as("w", points=((0.1, 1),)))
    run = a_run(phases=phases)
    for say in ("seconds", "in ticks:", "ports of"):
        assert str(canonical(every_label(run, say))) == str(canonical(run))
    for other in (noted(7, "age"), noted(drawn(7), "age")):
        assert str(canonical(a_run(phases=(phases[0], other, phases[2])))) != str(canonical(run))
    kinds = {str(canonical(a_run(phases=(noted(value_of(mark)),)))) for mark in (7, ticks(7), drawn(7), size(7))}
    assert len(kinds) == 4


def test_rows_that_stand_in_the_order_of_their_ports_are_sorted_without_them() -> None:
    def first_retransmits(sooner: int, later: int) -> str:
        rows = sorted([client(sooner, SocketTimer("on", 1.0, 1)), client(later)], key=lambda row: row.peer.port)
        return form_of_phase(table(*rows))

    assert first_retransmits(41000, 42000) == first_retransmits(42000, 41000)


def handshake(number: int, first: int, start: float, *, ack: int = 1, data: bytes = b"") -> bytes:
    """A capture of a client that connects; `first` is its first sequence number."""
    ours, theirs = (CLIENT, number), (SERVER, 80)
    return captured(
        (start, "server", "in", frame(ours, theirs, "S", first)),
        (start + 0.001, "server", "out", frame(theirs, ours, "SA", 900, first + 1)),
        (start + 0.002, "server", "in", frame(ours, theirs, "A", first + 1, 900 + ack, data=data)),
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
    ours, theirs = (CLIENT, 41000), (SERVER, 80)
    syn, answer = frame(ours, theirs, "S", 100), frame(theirs, ours, "SA", 900, 101)
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
    everything = a_run(phases=(table(client(41000, TIMER)), counted(Tcp_InSegs=(1, 4)), noted(seconds(1.0))))
    assert set(canonical(everything, read_pcapng(handshake(41000, 100, 0.0)).packets).stamps) <= set(STAMPS)


def test_every_stamp_stands_in_the_document() -> None:
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    assert [name for name in STAMPS if f"| {name} | " not in page] == []
