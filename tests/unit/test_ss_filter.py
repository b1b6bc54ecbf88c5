"""The filter language of ss: what is accepted, what it selects, and how it is refused."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BadInput
from harness.observe.diag import Message
from harness.observe.filters import compile_filter
from harness.observe.states import bits, printed

INTERFACES = {"eth0": 2, "eth1": 3}


def no_such_interface(name: str) -> int:
    if name in INTERFACES:
        return INTERFACES[name]
    raise OSError(19, "No such device")


def message(
    source: str = "10.0.0.1", sport: int = 40000, destination: str = "10.0.0.2", dport: int = 80, interface: int = 0
) -> Message:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    return Message(
        family=family,
        state=1,
        timer=0,
        retransmits=0,
        sport=sport.to_bytes(2, "big"),
        dport=dport.to_bytes(2, "big"),
        source=socket.inet_pton(family, source).ljust(16, b"\0"),
        destination=socket.inet_pton(family, destination).ljust(16, b"\0"),
        interface=interface,
        cookie=bytes(8),
        expires=0,
        receive_queue=0,
        send_queue=0,
        uid=0,
        inode=0,
    )


def selects(text: str, asked: Message) -> bool:
    compiled = compile_filter(text, no_such_interface)
    return compiled.condition is None or compiled.condition(asked)


def names(mask: int) -> set[str]:
    return {printed(number) for number in range(1, 14) if mask & 1 << number}


ALL = {"ESTAB", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "UNCONN", "CLOSE-WAIT", "LAST-ACK",
       "LISTEN", "CLOSING"}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ALL),
        ("state all", ALL),
        ("state established", {"ESTAB"}),
        ("state ESTABLISHED", {"ESTAB"}),
        ("state listen", {"LISTEN"}),
        ("state listening state syn-recv", {"LISTEN", "SYN-RECV"}),
        ("state connected", ALL - {"LISTEN", "UNCONN"}),
        ("state synchronized", ALL - {"LISTEN", "UNCONN", "SYN-SENT"}),
        ("state bucket", {"SYN-RECV", "TIME-WAIT"}),
        ("state big", ALL - {"SYN-RECV", "TIME-WAIT"}),
        ("exclude listening", ALL - {"LISTEN"}),
        ("excl listening exclude time-wait", ALL - {"LISTEN", "TIME-WAIT"}),
        ("state connected exclude bucket", ALL - {"LISTEN", "UNCONN", "SYN-RECV", "TIME-WAIT"}),
        ("state syn-recv sport = :80", {"SYN-RECV"}),
    ],
)
def test_states(text: str, expected: set[str]) -> None:
    assert names(compile_filter(text).states) == expected


def test_half_open_requests_are_asked_for_by_both_their_numbers() -> None:
    assert compile_filter("state syn-recv").states == 1 << 3 | 1 << 12


def test_sockets_that_are_only_bound_are_asked_for_by_name_alone() -> None:
    assert compile_filter("state bound-inactive").states == 1 << 13
    assert not bits("all") & 1 << 13


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dport = :80", True),
        ("dport :80", True),
        ("dport 80", True),
        ("dport=:80", True),
        ("dport == 80", True),
        ("dport eq :http", True),
        ("dport = :443", False),
        ("dport != :443", True),
        ("dport ne :80", False),
        ("dport >= :80", True),
        ("dport geq :81", False),
        ("dport > :80", False),
        ("dport gt :79", True),
        ("dport < :81", True),
        ("dport lt :80", False),
        ("dport <= :80", True),
        ("dport leq 79", False),
        ("sport >= :1024", True),
        ("sport < :1024", False),
        ("src 10.0.0.1", True),
        ("src = 10.0.0.1", True),
        ("src != 10.0.0.1", False),
        ("src 10.0.0.1:40000", True),
        ("src 10.0.0.1:40001", False),
        ("src :40000", True),
        ("src *:40000", True),
        ("dst *", True),
        ("dst 10.0.0.0/30", True),
        ("dst 10.0.0.128/25", False),
        ("dst 0.0.0.0/0", True),
        ("dst 10.0.0.0/24:80", True),
        ("dst ::1", False),
        ("dst ::/0", False),
        ("dst [::1]:80", False),
    ],
)
def test_conditions(text: str, expected: bool) -> None:
    assert selects(text, message()) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("src fd00::1", True),
        ("src [fd00::1]", True),
        ("src [fd00::1]:40000", True),
        ("src [fd00::1]:1", False),
        ("dst [fd00::]/64:80", True),
        ("dst [fd00::/64]:80", True),
        ("dst [fd00::/64]:81", False),
        ("dst fd00:0:0:1::/64", False),
        ("dst 10.0.0.0/8", False),
    ],
)
def test_ipv6_conditions(text: str, expected: bool) -> None:
    assert selects(text, message("fd00::1", destination="fd00::2")) is expected


def test_an_ipv4_network_holds_mapped_addresses() -> None:
    mapped = message("::ffff:10.0.0.1", destination="::ffff:10.0.0.2")
    assert selects("src 10.0.0.0/24", mapped)
    assert not selects("src 10.0.1.0/24", mapped)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dport = :80 and sport = :1", False),
        ("dport = :80 sport = :1", False),
        ("dport = :80 or sport = :1", True),
        ("dport = :80 && ! sport = :1", True),
        ("not dport = :80", False),
        ("not not dport = :80", True),
        ("not dport = :80 or dport = :80", True),
        ("sport = :1 and sport = :2 or dport = :80", True),
        ("sport = :1 and ( sport = :2 or dport = :80 )", False),
        ("dport = :80 or sport = :1 and sport = :2", False),  # from left to right
        ("dport = :80 or sport = :1 sport = :2", False),
        ("dport = :80 or ( sport = :1 and sport = :2 )", True),
        ("( dport = :ssh or dport = :http )", True),
        ("(dport=:80|dport=:81)&src 10.0.0.1", True),
        ("'( dport = :80 )'", True),
        (r"\( dport = :80 \)", True),
    ],
)
def test_precedence(text: str, expected: bool) -> None:
    assert selects(text, message()) is expected


def test_devices() -> None:
    assert selects("dev eth1", message(interface=3))
    assert not selects("dev eth1", message(interface=2))
    assert selects("dev != eth1", message(interface=2))
    assert selects("dev = 7", message(interface=7))


@pytest.mark.parametrize(
    ("text", "position", "what"),
    [
        ("state syn-recvd", 7, "no TCP state 'syn-recvd'"),
        ("sport = :65536", 9, "at most 65535"),
        ("sport = :no-such-service", 9, "no TCP service 'no-such-service'"),
        ("src 10.0.0.256", 5, "'10.0.0.256' is not an IPv4 or IPv6 address"),
        ("src 10.0.0.0/33", 5, "up to 32"),
        ("dst [fd00::]/129", 5, "up to 128"),
        ("dst fd00::/x", 5, "up to 128"),
        ("dev eth9", 5, "no interface 'eth9'"),
        ("sport =", 8, "missing"),
        ("( sport = :80", 14, "missing"),
        ("sport = :80 )", 13, "not understood"),
        ("sport = :80 state listening", 13, "not understood"),
        ("autobound", 1, "not understood"),
        ("state", 6, "missing"),
    ],
)
def test_refusals_show_the_place(text: str, position: int, what: str) -> None:
    with pytest.raises(BadInput) as refusal:
        compile_filter(text, no_such_interface)
    said = str(refusal.value)
    assert what in said.splitlines()[0]
    assert f"at character {position}:" in said.splitlines()[0]
    assert said.splitlines()[2].index("^") == position + 1


@given(
    port=st.integers(0, 65535), limit=st.integers(0, 65535), operator=st.sampled_from(("<", "<=", "=", "!=", ">=", ">"))
)
def test_ports_compare_as_numbers(port: int, limit: int, operator: str) -> None:
    verdicts = {
        "<": port < limit,
        "<=": port <= limit,
        "=": port == limit,
        "!=": port != limit,
        ">=": port >= limit,
        ">": port > limit,
    }
    assert selects(f"sport {operator} :{limit}", message(sport=port)) is verdicts[operator]


@given(st.text(alphabet="stateportdn :=()!<>&|/.[]0123456789'", max_size=40))
def test_any_text_compiles_or_is_bad_input(text: str) -> None:
    with suppress(BadInput):
        compile_filter(text, no_such_interface)
