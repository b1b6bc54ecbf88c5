"""Netlink taken apart by ourselves: parts of a dump, and the TCP segment in a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.lab import netlink
from harness.observe import diag
from harness.traffic.frames import segment, segment_in
from harness.traffic.impair import SEGMENT

if TYPE_CHECKING:
    from harness.lab import Host


def one(state: int, extra: int = 0, flags: int = 0, port: int = 0) -> bytes:
    body = bytes([2, state, 0, 0]) + port.to_bytes(2, "big") + bytes(66 + extra)
    return netlink.message(diag.SOCK_DIAG_BY_FAMILY, flags, 1, body)


END = netlink.message(netlink.NLMSG_DONE, 0, 1, bytes(4))


@pytest.mark.parametrize(
    ("answer", "states", "steady", "rest"),
    [
        (one(1) + one(6) + one(6), [1, 6, 6], True, b""),
        (one(1) + one(6) + END, [1, 6], True, END),
        (one(1) + one(6, flags=netlink.NLM_F_DUMP_INTR), [1, 6], False, b""),
        (one(1) + one(6, extra=8), [], True, one(1) + one(6, extra=8)),
        (END, [], True, END),
    ],
    ids=["alike", "end", "interrupted", "unlike", "nothing"],
)
def test_messages_that_are_alike_are_counted_at_once(
    answer: bytes, states: list[int], steady: bool, rest: bytes
) -> None:
    assert diag._alike(answer, b"") == (states, steady, rest)


def test_of_a_port_only_its_own_are_counted() -> None:
    answer = one(1, port=80) + one(6, port=443) + one(3, port=443) + END
    assert diag._alike(answer, (443).to_bytes(2, "big")) == ([6, 3], True, END)
    assert diag._alike(answer, (8080).to_bytes(2, "big")) == ([], True, END)


def test_of_a_port_only_its_own_are_counted_where_messages_differ_in_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """And an interruption that only the second answer tells of makes the whole unsteady."""
    interrupted = one(6, port=443, flags=netlink.NLM_F_DUMP_INTR)
    answers = [
        one(1, port=80) + one(3, extra=8, port=443) + one(3, port=443),
        one(1, extra=8, port=443) + interrupted + END,
    ]
    monkeypatch.setattr(diag, "_converse", lambda _host, _request, take: [take(answer) for answer in answers])
    nobody: Host = None  # type: ignore[assignment]
    counted, _, steady = diag._survey_once(nobody, b"", 0, (443).to_bytes(2, "big"))
    assert counted == {3: 2, 1: 1, 6: 1}
    assert not steady
    assert diag._survey_once(nobody, b"", 0, b"")[0] == {3: 2, 1: 2, 6: 1}


@pytest.mark.parametrize(("family", "addresses"), [(2, ("10.0.0.1", "10.0.0.2")), (10, ("fd00::1", "fd00::2"))])
def test_the_segment_of_a_frame_is_what_scapy_put_there(family: int, addresses: tuple[str, str]) -> None:
    macs = ("02:00:00:00:00:01", "02:00:00:00:00:02")
    frame = segment(family=family, macs=macs, addresses=addresses, ports=(40000, 80), flags="PA", ack=7, payload=b"x")
    found = segment_in(frame)
    assert found is not None
    assert SEGMENT.unpack_from(found) == (40000, 80, 7, 5 << 4, 0x18)
    other = bytearray(frame)
    other[23 if family == 2 else 20] = 17
    assert segment_in(bytes(other)) is None
