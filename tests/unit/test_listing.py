"""Many things in an assertion: three are shown, and the others counted."""

from __future__ import annotations

import socket

import pytest

from harness.listing import Listing, first
from harness.observe.packet import Packet
from harness.observe.sockets import Socket
from harness.plugin import asserting
from harness.traffic.connector import Attempt, Attempts


def established(port: int) -> Socket:
    ends = ("10.0.0.1", port), ("10.0.0.2", 80)
    return Socket("ESTAB", socket.AF_INET, *ends, 0, 0, None, 1, 0, 0, 1)


def test_the_first_three_and_how_many_more() -> None:
    assert repr(Listing(range(300))) == "[0, 1, 2, and 297 more]"
    assert repr(Listing([1, 2, 3])) == "[1, 2, 3]"
    assert repr(Listing([])) == "[]"
    assert first(["a", "b", "c", "d"]) == "a, b, c, and 1 more"
    assert Listing([1, 2, 3, 4]) == [1, 2, 3, 4]


def test_each_is_short() -> None:
    assert repr(established(4000)) == "<ESTAB 0 0 10.0.0.1:4000 10.0.0.2:80>"
    assert repr(Packet(1, "in", "eth0", 1500, bytes(432), True)) == "<in eth0: 1500 bytes>"
    with socket.socket() as end:
        end.bind(("127.0.0.1", 0))
        attempt = Attempt(end, 0.0)
        port = end.getsockname()[1]
        assert repr(attempt) == f"<connect() from port {port}: pending>"
        attempt.result, attempt.seconds = "connected", 1.25
        assert repr(attempt) == f"<connect() from port {port}: connected after 1.250 s>"
    # To show it is to read nothing, and to fail at nothing.
    assert repr(attempt) == "<connect() of a socket that is closed: connected after 1.250 s>"


def test_many_are_told_by_their_results() -> None:
    from types import SimpleNamespace

    ended = ["connected"] * 6 + ["pending"] * 294
    attempts = [Attempt(socket.socket(), 0.0, result) for result in ended]
    many = Attempts(SimpleNamespace(name="client"), attempts)  # type: ignore[arg-type]
    assert repr(many) == "<300 connect() calls of client: 294 pending, 6 connected>"
    for attempt in attempts:
        attempt.socket.close()


def test_a_comparison_of_many_tells_where_they_differ() -> None:
    left = [established(port) for port in range(4000, 4300)]
    right = [*left[:10], established(1), *left[11:290]]
    lines = asserting.explain("==", left, right)
    assert lines is not None
    assert lines[0].startswith("[<ESTAB 0 0 10.0.0.1:4000 10.0.0.2:80>, ")
    assert lines[0].count("and 297 more") == 1
    assert lines[1:] == [
        "300 and 290 of them",
        "at 10: <ESTAB 0 0 10.0.0.1:4010 10.0.0.2:80> and <ESTAB 0 0 10.0.0.1:1 10.0.0.2:80>",
    ]
    other = [established(port) for port in range(300)]
    assert (asserting.explain("==", left, other) or [""])[-1] == "and 297 more differ"


@pytest.mark.parametrize(("left", "right"), [([1] * 300, []), ("a" * 300, "b"), ([established(1)], []), ({}, {})])
def test_whatever_else_is_pytest_s_to_explain(left: object, right: object) -> None:
    assert asserting.explain("==", left, right) is None
