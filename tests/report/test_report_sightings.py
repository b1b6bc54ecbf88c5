"""From a capture to a ladder: who sent what to whom, what was dropped where, and what is drawn of it."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

from harness.observe.pcapng import read_pcapng
from harness.report import ladder
from harness.report.sightings import Exchange, Fate, exchanges
from tests.report.made_evidence import CLIENT, SERVER, captured, dropped_ack, frame

C, S = (CLIENT, 40000), (SERVER, 80)
SYN, SYN_ACK, ACK = frame(C, S, "S", 100), frame(S, C, "SA", 900, 101), frame(C, S, "A", 101, 901)
OWNED = [
    {"sockets": {"server": {"rows": [["LISTEN", 0, 1, f"{SERVER}:80", "0.0.0.0:0", ""]]},
                 "client": {"rows": [["ESTAB", 0, 0, f"{CLIENT}:40000", f"{SERVER}:80", ""]]}}}
]  # fmt: skip


def told(content: bytes, phases: list[dict[str, Any]] | None = None) -> list[Exchange]:
    return exchanges(read_pcapng(content).packets, OWNED if phases is None else phases)


def fates(exchange: Exchange) -> list[tuple[str, str]]:
    return [(arrow.segment.flags, arrow.fate.value) for arrow in exchange.arrows]


def test_a_handshake_seen_at_the_server() -> None:
    (one,) = told(captured((0, "server", "in", SYN), (0.001, "server", "out", SYN_ACK), (0.002, "server", "in", ACK)))
    assert one.lanes == ["client", "server"]
    assert one.service == (SERVER, 80)
    assert [(arrow.source, arrow.target, arrow.seq, arrow.ack) for arrow in one.arrows] == [
        ("client", "server", 0, 0),
        ("server", "client", 0, 1),
        ("client", "server", 1, 1),
    ]
    assert {arrow.fate for arrow in one.arrows} == {Fate.ARRIVED}


def test_the_last_ack_at_a_full_queue_is_dropped_at_the_server() -> None:
    (one,) = told(dropped_ack(repeats=2))
    assert fates(one)[:7] == [
        ("S", ""), ("SA", ""), ("A", "dropped"), ("SA", ""), ("A", "dropped"), ("SA", ""), ("A", "")
    ]  # fmt: skip
    assert [arrow.again for arrow in one.arrows if arrow.segment.flags == "SA"] == [0, 1, 2]


def test_the_last_ack_of_what_stays_half_open_was_dropped_though_nothing_was_sent_again() -> None:
    half_open = {"sockets": {"server": {"rows": [["SYN-RECV", 0, 0, f"{SERVER}:80", f"{CLIENT}:40000", "on"]]}}}
    content = captured((0, "server", "in", SYN), (0.001, "server", "out", SYN_ACK), (0.002, "server", "in", ACK))
    (one,) = told(content, [half_open])
    assert fates(one) == [("S", ""), ("SA", ""), ("A", "dropped")]


def test_a_syn_that_is_repeated_without_an_answer_was_dropped_where_it_arrived() -> None:
    (one,) = told(captured((0, "server", "in", SYN), (1, "server", "in", SYN), (3, "server", "in", SYN)))
    assert fates(one) == [("S", "dropped")] * 3


def test_a_syn_that_left_and_was_repeated_is_unanswered() -> None:
    (one,) = told(captured((0, "client", "out", SYN), (1, "client", "out", SYN), (1.1, "client", "in", SYN_ACK)))
    assert fates(one) == [("S", "unanswered"), ("S", ""), ("SA", "")]


def test_what_leaves_one_captured_host_and_never_reaches_the_other_is_lost_between_them() -> None:
    (one,) = told(
        captured(
            (0, "client", "out", SYN),
            (1, "client", "out", SYN), (1.0001, "server", "in", SYN),
            (1.0002, "server", "out", SYN_ACK), (1.0003, "client", "in", SYN_ACK),
        )
    )  # fmt: skip
    assert fates(one) == [("S", "lost"), ("S", ""), ("SA", "")]
    assert one.arrows[1].left is not None
    assert one.arrows[1].came is not None


def test_what_a_crafted_peer_takes_no_notice_of_is_not_called_dropped() -> None:
    (one,) = told(
        captured((0, "server", "in", SYN), (0.1, "server", "out", SYN_ACK), (1, "server", "in", SYN)), phases=[]
    )
    assert fates(one)[1] == ("SA", "unanswered")


def test_a_syn_that_meets_a_challenge_ack_was_not_dropped() -> None:
    challenge = frame(S, C, "A", 500, 77)
    (one,) = told(captured((0, "server", "in", SYN), (0.1, "server", "out", challenge), (1, "server", "in", SYN)))
    assert not any(arrow.fate for arrow in one.arrows[:2])


def test_what_is_repeated_after_its_answer_was_acknowledged_lost_nothing() -> None:
    data, fin = frame(C, S, "PA", 101, 901, data=b"old"), frame(S, C, "FA", 901, 104)
    (one,) = told(
        captured(
            (0, "server", "in", data), (0.1, "server", "out", fin), (0.2, "server", "in", frame(C, S, "A", 104, 902)),
            (5, "server", "in", data),
        )
    )  # fmt: skip
    assert not any(arrow.fate for arrow in one.arrows)


def test_through_a_gateway_each_leg_is_an_arrow() -> None:
    outside = ("10.2.0.1", 40000)
    content = captured(
        (0, "gateway", "in", SYN), (0.0001, "gateway", "out", frame(outside, S, "S", 100)),
        (0.001, "gateway", "in", frame(S, outside, "SA", 900, 101)), (0.0011, "gateway", "out", SYN_ACK),
    )  # fmt: skip
    (one,) = told(content)
    assert one.lanes == ["client", "gateway", "server"]
    assert [(arrow.source, arrow.target) for arrow in one.arrows] == [
        ("client", "gateway"), ("gateway", "server"), ("server", "gateway"), ("gateway", "client")
    ]  # fmt: skip
    assert not any(arrow.fate for arrow in one.arrows)


def test_many_clients_are_told_one_by_one() -> None:
    peers = [(f"10.1.0.{n}", 40000) for n in range(10, 16)]
    content = captured(*((float(n), "server", "in", frame(peer, S, "S", n)) for n, peer in enumerate(peers)))
    assert [one.lanes for one in told(content)] == [[peer[0], "server"] for peer in peers]


def test_a_file_that_was_cut_off_gives_what_it_has() -> None:
    whole = read_pcapng(dropped_ack())
    cut = read_pcapng(dropped_ack()[:-50])
    assert (whole.whole, cut.whole) == (True, False)
    assert len(cut.packets) == len(whole.packets) - 1
    assert read_pcapng(b"").whole is False
    assert read_pcapng(b"no capture at all").packets == []


def drawn(content: bytes) -> ET.Element:
    return ET.fromstring(ladder.draw(told(content)[0]))


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
