"""Machines between a client and a server that keep track of connections: a chain of three hosts, or several."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import BadInput, renamed
from harness.observe import counters
from harness.traffic import connect
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Host, Lab
    from harness.traffic import Attempts, Listener

TRACKING = "net.netfilter.nf_conntrack_tcp_"
RULE = re.compile(
    r"(?:masquerade(?: to )?|snat to (?P<address>\[.*\]|[^\[\]]*?))(?::(?P<first>\d+)-(?P<last>\d+))?", re.ASCII
)


@dataclass(frozen=True)
class Chain:
    """client --- between --- server."""

    client: Host
    between: Host
    server: Host


def chains(lab: Lab, n: int, *, masquerade: bool = False) -> list[Chain]:
    """n of them, side by side; `between` forwards, and gives the client its own address outside, or leaves it."""
    built = []
    for number in range(1, n + 1):
        client, between, server = lab.hosts(*(f"{name}{number}" for name in ("client", "between", "server")))
        inside, outside = lab.link(client, between), lab.link(between, server)
        lab.gateway(between, inside=inside, outside=outside, masquerade=masquerade)
        built.append(Chain(client, between, server))
    lab.ready()
    return built


def watch(host: Host, *, remembers: int, loose: int = 0) -> None:
    """Let a host be a firewall that forgets what was idle for so many seconds, and drops what it does not know.

    With `loose` 1 it takes up connections that it does not know (nf_conntrack_tcp_loose).
    """
    host.firewall.drop(state="invalid")
    host.conntrack.timeouts["established"] = remembers
    host.conntrack.loose = bool(loose)


def leave(gateway: Host, how: str) -> None:
    """The old name of gateway.nat.masquerade() and gateway.nat.snat(), in the words of a rule of nft."""
    renamed("harness.instruments.between.leave()", "gateway.nat.masquerade() or gateway.nat.snat()")
    rule = RULE.fullmatch(how)
    if rule is None:
        raise BadInput(f'a gateway lets others leave by "masquerade" or "snat to ADDRESS", not by {how!r}')
    ports = (int(rule["first"]), int(rule["last"])) if rule["first"] else None
    if rule["address"]:
        gateway.nat.snat(rule["address"].strip("[]"), ports=ports)
    else:
        gateway.nat.masquerade(ports=ports)


def let_untracked(firewall: Host, port: int) -> None:
    """The old name of firewall.firewall.keep_no_track()."""
    renamed("harness.instruments.between.let_untracked()", "host.firewall.keep_no_track()")
    firewall.firewall.keep_no_track(port)


def knock(client: Host, listener: Listener, n: int) -> Attempts:
    """n connect() calls at once; returns when each is connected, or has sent its SYN again."""
    calls = connect(client, listener, n)
    wait_for_knocks(1, calls)
    return calls


def wait_for_knocks(times: int, *calls: Attempts) -> None:
    """Wait until those that are not connected have sent their SYNs again, so many times each on average from now on.

    Where all are let in nobody knocks, and nobody is waited for.
    """
    before = {each.host: counters(each.host) for each in calls}

    def knocked() -> bool:
        again = sum((counters(host) - then).TcpExt.TCPSynRetrans for host, then in before.items())
        return again >= times * sum(each.pending for each in calls)

    until(knocked, deadline=60, what="those that are outside let in, or their next SYN")
