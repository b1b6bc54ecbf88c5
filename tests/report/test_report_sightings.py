"""From a capture to a ladder: who sent what to whom, what was dropped where, and what is drawn of it."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from harness.evidence.types import Phase, PhaseKind
from harness.lab.impairment import Impairment, LineUsed, SegmentMatch
from harness.observe.pcapng import read_pcapng
from harness.report import fates, ladder
from harness.report.arrows import Exchange, Fate
from harness.report.sightings import exchanges
from tests.report.made_evidence import CLIENT, SERVER, START, captured, dropped_ack, frame, row, table

C, S = (CLIENT, 40000), (SERVER, 80)
SYN, SYN_ACK, ACK = frame(C, S, "S", 100), frame(S, C, "SA", 900, 101), frame(C, S, "A", 101, 901)


def listed(**tables: Any) -> Phase:
    """A phase with these hosts' sockets."""
    return Phase(PhaseKind.EFFECT, "e", sockets=tables)


OWNED = [listed(server=table(row("LISTEN")), client=table(row(local=CLIENT, peer=SERVER, ports=(40000, 80))))]


def seen(
    content: bytes,
    phases: list[Phase] | None = None,
    rules: list[Impairment] | None = None,
    lines: tuple[LineUsed, ...] = (),
) -> list[Exchange]:
    return exchanges(read_pcapng(content).packets, OWNED if phases is None else phases, rules or (), lines)


def rule(
    dropped: int, *, since: float = -1, until: float | None = None, kind: str = "drop", host: str = "server",
    **match: Any,
) -> Impairment:  # fmt: skip
    """A rule of a scenario, by default at the server, with times as the captures here have them."""
    ended = None if until is None else START + until
    return Impairment(kind, host, SegmentMatch(**match), START + since, ended, dropped)


def fates_of(exchange: Exchange) -> list[tuple[str, str]]:
    return [(arrow.segment.flags, arrow.fate.value) for arrow in exchange.arrows]


def test_a_handshake_seen_at_the_server() -> None:
    (exchange,) = seen(
        captured((0, "server", "in", SYN), (0.001, "server", "out", SYN_ACK), (0.002, "server", "in", ACK))
    )
    assert exchange.lanes == ["client", "server"]
    assert exchange.service == (SERVER, 80)
    assert [(arrow.source, arrow.target, arrow.seq, arrow.ack) for arrow in exchange.arrows] == [
        ("client", "server", 0, 0),
        ("server", "client", 0, 1),
        ("client", "server", 1, 1),
    ]
    assert {arrow.fate for arrow in exchange.arrows} == {Fate.ARRIVED}


def test_the_last_ack_at_a_full_queue_is_dropped_at_the_server() -> None:
    (exchange,) = seen(dropped_ack(repeats=2))
    assert fates_of(exchange)[:7] == [
        ("S", ""), ("SA", ""), ("A", "dropped"), ("SA", ""), ("A", "dropped"), ("SA", ""), ("A", "")
    ]  # fmt: skip
    assert [arrow.again for arrow in exchange.arrows if arrow.segment.flags == "SA"] == [0, 1, 2]


def test_the_last_ack_of_what_stays_half_open_was_dropped_though_nothing_was_sent_again() -> None:
    half_open = listed(server=table(row("SYN-RECV")))
    content = captured((0, "server", "in", SYN), (0.001, "server", "out", SYN_ACK), (0.002, "server", "in", ACK))
    (exchange,) = seen(content, [half_open])
    assert fates_of(exchange) == [("S", ""), ("SA", ""), ("A", "dropped")]


def test_a_syn_that_is_repeated_without_an_answer_was_dropped_where_it_arrived() -> None:
    (exchange,) = seen(captured((0, "server", "in", SYN), (1, "server", "in", SYN), (3, "server", "in", SYN)))
    assert fates_of(exchange) == [("S", "dropped")] * 3


def test_a_syn_that_left_and_was_repeated_is_unanswered() -> None:
    (exchange,) = seen(captured((0, "client", "out", SYN), (1, "client", "out", SYN), (1.1, "client", "in", SYN_ACK)))
    assert fates_of(exchange) == [("S", "unanswered"), ("S", ""), ("SA", "")]


def test_what_leaves_one_captured_host_and_never_reaches_the_other_is_lost_between_them() -> None:
    (exchange,) = seen(
        captured(
            (0, "client", "out", SYN),
            (1, "client", "out", SYN), (1.0001, "server", "in", SYN),
            (1.0002, "server", "out", SYN_ACK), (1.0003, "client", "in", SYN_ACK),
        )
    )  # fmt: skip
    assert fates_of(exchange) == [("S", "lost"), ("S", ""), ("SA", "")]
    assert exchange.arrows[1].left is not None
    assert exchange.arrows[1].came is not None


SYNS = captured(*((float(n), "server", "in", SYN) for n in range(4)), (3.1, "server", "out", SYN_ACK))


@pytest.mark.parametrize(
    ("impairment", "expected"),
    [
        (rule(3, until=2.5, flags="S"), ["taken", "taken", "taken", "", ""]),
        (rule(3, until=2.5), ["taken", "taken", "taken", "", ""]),
        (rule(2, first=2, count=2, dport=80), ["dropped", "taken", "taken", "", ""]),
        (rule(1, count=1, sport=40000), ["taken", "dropped", "dropped", "", ""]),
        (rule(9, ack=7), ["dropped", "dropped", "dropped", "", ""]),
        (rule(9, flags="A"), ["dropped", "dropped", "dropped", "", ""]),
        (rule(9, dport=81), ["dropped", "dropped", "dropped", "", ""]),
        (rule(2, until=2.5), ["dropped", "dropped", "dropped", "", ""]),  # by its own count it dropped fewer
        (rule(9, flags="S", host="client"), ["dropped", "dropped", "dropped", "", ""]),
    ],
)
def test_what_a_rule_of_the_scenario_dropped_is_known(impairment: Impairment, expected: list[str]) -> None:
    (exchange,) = seen(SYNS, rules=[impairment])
    assert [arrow.fate.value for arrow in exchange.arrows] == expected


def test_what_was_held_and_let_go_is_not_sent_again() -> None:
    content = captured(
        (0, "server", "in", SYN), (5, "server", "in", SYN), (5.1, "server", "out", SYN_ACK), (5.2, "server", "in", ACK)
    )
    (exchange,) = seen(content, rules=[rule(1, until=4, kind="hold", flags="S")])
    assert fates_of(exchange) == [("S", "held"), ("S", ""), ("SA", ""), ("A", "")]
    assert [(arrow.late, arrow.again) for arrow in exchange.arrows[:2]] == [(False, 0), (True, 0)]
    root = ET.fromstring(ladder.draw(exchange))
    words = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "held by the scenario" in words
    assert "SYN seq 0 TSval 100 (let go)" in words


def test_a_rule_where_nobody_captured_is_known_by_when_the_segment_left() -> None:
    content = captured((0, "server", "out", SYN_ACK), (1, "server", "out", SYN_ACK), (1.1, "server", "in", ACK))
    (exchange,) = seen(content, rules=[rule(1, until=0.5, flags="SA", host="client")])
    assert fates_of(exchange) == [("SA", "taken"), ("SA", ""), ("A", "")]


FAR = LineUsed(("client", "server"), "netem", delay=1.5)


@pytest.mark.parametrize(
    ("lines", "came"),
    [((FAR,), [1.5, 2.5, None]), ((), [None, 1.5, 2.5]), ((LineUsed(("a", "b"), "box", delay=9.0),), [None, 1.5, 2.5])],
    ids=["far", "near", "another cable"],
)
def test_on_a_long_cable_a_segment_is_the_one_that_left_long_enough_before(
    lines: tuple[LineUsed, ...], came: list[float | None]
) -> None:
    sent = ((float(n), "client", "out", SYN) for n in range(3))
    content = captured(*sorted((*sent, (1.5, "server", "in", SYN), (2.5, "server", "in", SYN)), key=lambda one: one[0]))
    (exchange,) = seen(content, lines=lines)
    assert [arrow.came and round(arrow.came - START, 3) for arrow in exchange.arrows] == came


def test_what_was_still_under_way_when_it_was_sent_again_is_not_to_blame() -> None:
    data, answer = frame(C, S, "PA", 101, 901, data=b"x"), frame(S, C, "A", 901, 102)
    on_its_way = (
        (0, "client", "out", data), (1.4, "client", "out", data), (1.5, "server", "in", data),
        (1.6, "server", "out", answer), (2.9, "server", "in", data), (3.1, "client", "in", answer),
    )  # fmt: skip
    (exchange,) = seen(captured(*on_its_way), lines=(FAR,))
    assert fates_of(exchange) == [("PA", ""), ("PA", ""), ("A", "")]
    assert [arrow.again for arrow in exchange.arrows] == [0, 1, 0]


def test_a_rule_at_the_far_end_of_a_long_cable_is_known_by_when_the_segment_came() -> None:
    content = captured((0, "client", "out", SYN), (1.5, "server", "in", SYN))
    (exchange,) = seen(content, rules=[rule(1, since=1, flags="S")], lines=(FAR,))
    assert fates_of(exchange) == [("S", "taken")]


def test_what_a_crafted_peer_takes_no_notice_of_is_not_called_dropped() -> None:
    (exchange,) = seen(
        captured((0, "server", "in", SYN), (0.1, "server", "out", SYN_ACK), (1, "server", "in", SYN)), phases=[]
    )
    assert fates_of(exchange)[1] == ("SA", "unanswered")


def test_a_syn_that_meets_a_challenge_ack_was_not_dropped() -> None:
    challenge = frame(S, C, "A", 500, 77)
    (exchange,) = seen(captured((0, "server", "in", SYN), (0.1, "server", "out", challenge), (1, "server", "in", SYN)))
    assert not any(arrow.fate for arrow in exchange.arrows[:2])


def test_what_is_repeated_after_its_answer_was_acknowledged_lost_nothing() -> None:
    data, fin = frame(C, S, "PA", 101, 901, data=b"old"), frame(S, C, "FA", 901, 104)
    (exchange,) = seen(
        captured(
            (0, "server", "in", data), (0.1, "server", "out", fin), (0.2, "server", "in", frame(C, S, "A", 104, 902)),
            (5, "server", "in", data),
        )
    )  # fmt: skip
    assert not any(arrow.fate for arrow in exchange.arrows)


def test_through_a_gateway_each_leg_is_an_arrow() -> None:
    outside = ("10.2.0.1", 40000)
    content = captured(
        (0, "gateway", "in", SYN), (0.0001, "gateway", "out", frame(outside, S, "S", 100)),
        (0.001, "gateway", "in", frame(S, outside, "SA", 900, 101)), (0.0011, "gateway", "out", SYN_ACK),
    )  # fmt: skip
    (exchange,) = seen(content)
    assert exchange.lanes == ["client", "gateway", "server"]
    assert [(arrow.source, arrow.target) for arrow in exchange.arrows] == [
        ("client", "gateway"), ("gateway", "server"), ("server", "gateway"), ("gateway", "client")
    ]  # fmt: skip
    assert not any(arrow.fate for arrow in exchange.arrows)


def test_many_clients_are_told_one_by_one() -> None:
    peers = [(f"10.1.0.{n}", 40000) for n in range(10, 16)]
    content = captured(*((float(n), "server", "in", frame(peer, S, "S", n)) for n, peer in enumerate(peers)))
    assert [each.lanes for each in seen(content)] == [[peer[0], "server"] for peer in peers]


def test_a_file_that_was_cut_off_gives_what_it_has() -> None:
    whole = read_pcapng(dropped_ack())
    cut = read_pcapng(dropped_ack()[:-50])
    assert (whole.whole, cut.whole) == (True, False)
    assert len(cut.packets) == len(whole.packets) - 1
    assert read_pcapng(b"").whole is False
    assert read_pcapng(dropped_ack()[:3]) == read_pcapng(dropped_ack()[:9]) == ([], False)


def repeated(segments: int) -> bytes:
    """So many segments of data that nobody acknowledges, and then all of them again."""
    return captured(
        *(
            (start + n / 10_000, "server", "in", frame(C, S, "PA", 101 + n, 901, data=b"x"))
            for start in (0, 5)
            for n in range(segments)
        )
    )


def test_a_long_connection_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To follow each segment to the end took 41 s for 8000: twice as many may take twice as many steps, not four."""
    steps = 0
    count = fates._Side.count

    def counted(side: fates._Side, number: int) -> int:
        nonlocal steps
        steps += 1
        return count(side, number)

    monkeypatch.setattr(fates._Side, "count", counted)
    taken = []
    for segments in (500, 1000):
        steps = 0
        (exchange,) = seen(repeated(segments))
        assert [arrow.fate for arrow in exchange.arrows] == [Fate.DROPPED] * segments + [Fate.ARRIVED] * segments
        taken.append(steps)
    assert taken[0] < taken[1] <= 2.5 * taken[0]


def drawn(content: bytes) -> ET.Element:
    return ET.fromstring(ladder.draw(seen(content)[0]))


def test_a_ladder_has_lanes_arrows_times_and_crosses() -> None:
    root = drawn(dropped_ack(repeats=2))
    space = "{http://www.w3.org/2000/svg}"
    texts = ["".join(text.itertext()) for text in root.iter(f"{space}text")]
    assert texts[:2] == ["client", "server"]
    assert len(list(root.iter(f"{space}g"))) == 9
    assert sum("dropped" in (group.get("class") or "") for group in root.iter(f"{space}g")) == 2
    assert sum(line.get("class") == "cross" for line in root.iter(f"{space}line")) == 4
    assert "SYN·ACK seq 0 ack 1 TSval 900 (again, 2.)" in texts
    assert {"0.100 ms", "1.0000 s", "⋮ 1.00 s", "dropped", "40000", "80"} <= set(texts)


def test_a_ladder_tells_each_segment_in_words_too() -> None:
    root = drawn(dropped_ack(repeats=1))
    titles = ["".join(title.itertext()) for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == f"7 segments to and from {SERVER} port 80, 1 of them dropped or lost"
    assert titles[3].endswith(
        "seen when it reached server; it reached server and had no effect there: server sent again"
    )
