"""The packet filter as methods: what it lets through, as whom connections leave, and what it remembers of them."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import BadInput, GlobalSysctl, Renamed
from harness.instruments import between
from harness.instruments.between import chains
from harness.lab import nft
from harness.lab.tracking import TIMEOUTS
from harness.observe.conntrack import tracked
from harness.traffic import connect, echo, listen
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.lab import BehindNat, Lab, Pair
    from harness.lab.firewall import RuleWords


def answer(pair: Pair, port: int, seconds: float = 5.0) -> str:
    """What connect() says to a port of the server: "connected", the error, or "nothing" after so many seconds."""
    with pair.client.socket() as calling:
        calling.settimeout(seconds)
        try:
            calling.connect((pair.server.ip, port))
        except TimeoutError:
            return "nothing"
        except OSError as error:
            return type(error).__name__
        return "connected"


def test_a_rule_drops_until_it_is_lifted(pair: Pair) -> None:
    listener = listen(pair.server)
    rule = pair.server.firewall.drop(dport=listener.port)
    assert answer(pair, listener.port, 0.3) == "nothing"
    assert rule.count >= 1
    dropped = rule.lift()
    assert answer(pair, listener.port) == "connected"
    assert (rule.count, rule.lift()) == (dropped, dropped)


def test_who_is_rejected_is_told(pair: Pair) -> None:
    listener = listen(pair.server)
    with pair.server.firewall.reject(dport=listener.port) as rule:
        assert (answer(pair, listener.port), rule.count) == ("ConnectionRefusedError", 1)
    assert answer(pair, listener.port) == "connected"


def test_a_datagram_that_is_rejected_is_answered_by_icmp(pair: Pair) -> None:
    pair.server.firewall.reject(source=pair.client.ip)
    with pair.server.socket(socket.SOCK_DGRAM) as there, pair.client.socket(socket.SOCK_DGRAM) as here:
        there.bind((pair.server.ip, 0))
        here.connect(there.getsockname())
        here.settimeout(5)
        here.send(b"hello")
        with pytest.raises(ConnectionRefusedError):
            here.recv(10)


def test_the_rule_that_was_added_last_decides(pair: Pair) -> None:
    first, second = listen(pair.server), listen(pair.server)
    pair.server.firewall.reject()
    with pair.server.firewall.accept(dport=second.port):
        assert [answer(pair, each.port) for each in (first, second)] == ["ConnectionRefusedError", "connected"]
    assert answer(pair, second.port) == "ConnectionRefusedError"
    pair.server.firewall.accept(sport=1)
    assert answer(pair, second.port) == "ConnectionRefusedError"


@pytest.mark.parametrize("which", ["source", "destination", "network", "other"])
def test_addresses_and_networks_are_matched(pair: Pair, which: str) -> None:
    listener = listen(pair.server)
    network = "10.1.0.0/16" if pair.server.family == socket.AF_INET else "fd00:1::/64"
    words: dict[str, RuleWords] = {
        "source": {"source": pair.client.ip},
        "destination": {"destination": pair.server.ip},
        "network": {"source": network, "destination": network},
        "other": {"source": pair.server.ip},
    }
    rule = pair.server.firewall.reject(**words[which])
    met = which != "other"
    assert answer(pair, listener.port) == ("ConnectionRefusedError" if met else "connected")
    assert (rule.count > 0) is met


def test_what_a_host_sends_and_what_passes_a_gateway(behind_nat: Callable[..., BehindNat]) -> None:
    net = behind_nat(1)
    (client,), listener = net.clients, listen(net.server, answer=echo)
    with client.firewall.reject(dport=listener.port, hook="output") as rule, client.socket() as calling:
        assert (calling.connect_ex(listener.address), rule.count) != (0, 0)
    with net.gateway.firewall.reject(dport=listener.port), client.socket() as calling:
        with pytest.raises(ConnectionRefusedError):
            calling.connect(listener.address)
    with net.gateway.firewall.reject(dport=listener.port, hook="input"):
        assert connect(client, listener, wait=True).ask() == 1


def test_what_belongs_to_no_connection_is_invalid(lab: Lab) -> None:
    (chain,) = chains(lab, 1)
    listener = listen(chain.server, answer=echo)
    chain.between.conntrack.loose = False
    chain.between.conntrack.timeouts["established"] = 5
    rule = chain.between.firewall.drop(state="invalid")
    with chain.between.firewall.accept(state=("new", "established")) as known:
        clients = connect(chain.client, listener, wait=True)
        assert clients.ask() == 1
        assert known.count >= 4
    ports = (clients[0].port, listener.port)
    until(lambda: tracked(chain.between, ports) is None, what="the connection to be forgotten")
    assert (clients.ask(deadline=0.5), rule.count > 0) == (0, True)
    assert chain.between.conntrack.timeouts["established"] == 5
    assert not chain.between.conntrack.loose


def test_of_a_port_no_track_is_kept(lab: Lab) -> None:
    (chain,) = chains(lab, 1)
    listener, other = (listen(chain.server, answer=echo) for _ in range(2))
    chain.between.firewall.drop(state="invalid")
    rule = chain.between.firewall.keep_no_track(listener.port)
    both = [connect(chain.client, to, wait=True) for to in (listener, other)]
    assert [each.ask() for each in both] == [1, 1]
    known = [tracked(chain.between, (each[0].port, to.port)) for each, to in zip(both, (listener, other), strict=True)]
    assert [entry is not None for entry in known] == [False, True]
    assert chain.between.conntrack.count >= 1
    assert rule.lift() >= 4
    assert both[0].ask() == 1
    assert tracked(chain.between, (both[0][0].port, listener.port)) is not None


def test_connections_leave_by_the_ports_and_the_address_of_choice(behind_nat: Callable[..., BehindNat]) -> None:
    net = behind_nat(1)
    (client,), listener = net.clients, listen(net.server, answer=echo)
    seen: list[tuple[str, int]] = []

    def come() -> None:
        accepted = len(listener.accepted)
        assert connect(client, listener, 3, wait=True).ask() == 3
        until(lambda: len(listener.accepted) == accepted + 3, what="three connections")
        seen[:] = [each.getpeername()[:2] for each in listener.accepted[accepted:]]

    own = net.gateway.address(interface="eth1")
    net.gateway.nat.masquerade(ports=(40000, 40002))
    come()
    assert sorted(seen) == [(own, 40000), (own, 40001), (own, 40002)]
    second = net.outside.address(77, net.gateway.family)
    net.gateway.add_address(second)
    net.server.neighbour("eth0", second, net.outside.mac(1))
    net.gateway.nat.snat(second, ports=(40000, 40009))
    come()
    assert {address for address, _ in seen} == {second}
    assert {port for _, port in seen} <= set(range(40000, 40010))
    net.gateway.nat.snat(second)
    come()
    assert {address for address, _ in seen} == {second}
    net.gateway.nat.as_before()
    come()
    assert {address for address, _ in seen} == {own}


def test_a_gateway_without_a_port_left_lets_nobody_through(behind_nat: Callable[..., BehindNat]) -> None:
    net = behind_nat(1)
    listener = listen(net.server, answer=echo)
    net.gateway.nat.masquerade(ports=(40000, 40001))
    assert connect(net.clients[0], listener, 2, wait=True).ask() == 2
    third = connect(net.clients[0], listener)
    assert third.ask(deadline=0.5) == 0
    net.gateway.nat.masquerade(ports=(40000, 40002))
    third.wait()
    assert third.ask() == 1


def test_each_timeout_of_tcp_is_there(pair: Pair) -> None:
    timeouts = pair.server.conntrack.timeouts
    assert {state: timeouts[state] > 0 for state in timeouts} == dict.fromkeys(TIMEOUTS, True)
    timeouts["time_wait"] = 7
    assert pair.server.sysctl["net.netfilter.nf_conntrack_tcp_timeout_time_wait"] == "7"
    assert pair.client.conntrack.timeouts["time_wait"] != 7


def test_the_limit_of_the_table_is_set_or_refused(pair: Pair) -> None:
    before = pair.server.conntrack.limit
    try:
        pair.server.conntrack.limit = 1000
    except GlobalSysctl:
        assert pair.server.conntrack.limit == before
    else:
        assert pair.server.conntrack.limit == 1000


def test_rules_that_are_none(pair: Pair) -> None:
    firewall, nat, tracking = pair.server.firewall, pair.server.nat, pair.server.conntrack
    half: Any = 0.5
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: firewall.drop(state="old"), "the state of a connection is one of invalid, established, .*, not 'old'"),
        (lambda: firewall.drop(dport=0), "a port is a whole number from 1 to 65535, not 0"),
        (lambda: firewall.drop(source="client"), "'client' is no address and no network"),
        (lambda: firewall.drop(hook="ingress"), "a rule is for input, forward, output, not for 'ingress'"),
        (lambda: firewall.drop(port=80), "a rule has no 'port', only state, source, destination, sport, dport, hook"),  # type: ignore[call-arg]
        (lambda: nat.masquerade(ports=(2, 1)), "ports go from the first to the last: 2 is above 1"),
        (lambda: nat.masquerade(ports=(0, 1)), "a port is a whole number from 1 to 65535, not 0"),
        (lambda: nat.snat("gateway"), "'gateway' is no address to leave as"),
        (lambda: nat.snat("10.9.9.9", interface="eth9"), "host server has no interface 'eth9', only eth0"),
        (lambda: pair.server.conntrack.timeouts["old"], "there is no timeout 'old' of TCP connections, only syn_sent"),
        (lambda: firewall.drop(state=()), r"the state of a connection is one of .*, not \(\)"),
        (lambda: firewall.drop(state=5), "the state of a connection is one of .*, not 5"),  # type: ignore[arg-type]
        (lambda: firewall.drop(source=5), "5 is no address and no network"),  # type: ignore[arg-type]
        (lambda: firewall.drop(hook=""), "a rule is for input, forward, output, not for ''"),
        (
            lambda: firewall.drop(source="10.1.0.0/16", destination="fd00::/8"),
            "no packet is from 10.1.0.0/16 to fd00::/8: a packet is of one family",
        ),
        (lambda: nat.masquerade(ports=40000), "ports are the first and the last, .* not 40000"),  # type: ignore[arg-type]
        (lambda: setattr(tracking, "limit", "many"), "limit is a whole number from 0 to 2147483647 connections"),
        (lambda: setattr(tracking, "loose", "maybe"), "loose is True or False, not 'maybe'"),
        (lambda: tracking.timeouts.__setitem__("close", -3), "a timeout is a whole number from 0 to 2147483 seconds"),
        (lambda: tracking.timeouts.__setitem__("close", half), "a timeout is a whole number .*, not 0.5"),
    ]
    for call, said in refused:
        with pytest.raises(BadInput, match=f"^{said}") as error:
            call()
        assert "\n" not in str(error.value)
    with pytest.raises(AttributeError):  # a word that is none changes nothing
        tracking.limits = 5  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["masquerade to :40000-40000", "snat to {}:40000-40000"])
def test_the_old_names_still_work(behind_nat: Callable[..., BehindNat], how: str) -> None:
    net = behind_nat(1)
    own, listener = net.gateway.address(interface="eth1"), listen(net.server, answer=echo)
    with pytest.warns(Renamed, match=r"keep_no_track\(\) now"):
        between.let_untracked(net.server, 1)
    with pytest.warns(Renamed, match=r"gateway.nat.masquerade\(\) or gateway.nat.snat\(\) now"):
        between.leave(net.gateway, how.format(f"[{own}]" if ":" in own else own))
    assert connect(net.clients[0], listener, wait=True).ask() == 1
    assert listener.accepted[0].getpeername()[:2] == (own, 40000)
    with pytest.warns(Renamed), pytest.raises(BadInput, match=r"a gateway lets others leave by .*, not by 'reject'"):
        between.leave(net.gateway, "reject")


def test_all_tables_of_a_host_go_at_once_whatever_their_family(pair: Pair) -> None:
    """What is done on kernels before 4.5 when a host ends."""
    server, listener = pair.server, listen(pair.server, answer=echo)
    server.firewall.drop(dport=listener.port)
    server.firewall.keep_no_track(listener.port)
    assert connect(pair.client, listener).pending == 1
    nft.remove_all(server.namespace)
    assert connect(pair.client, listener, wait=True).ask() == 1
    nft.remove_all(server.namespace)


@pytest.mark.parametrize(
    ("release", "they_do"),
    [("4.1.52", True), ("4.4.178", True), ("4.5", False), ("4.10.0-rc1", False), ("5.10.0-46-amd64", False)],
)
def test_hooks_outlive_their_namespace_on_old_kernels(
    monkeypatch: pytest.MonkeyPatch, release: str, they_do: bool
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release))
    assert nft.outlive_their_namespace() is they_do
