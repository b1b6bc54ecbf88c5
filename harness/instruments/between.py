"""Machines between a client and a server that keep track of connections: a chain of three hosts, or several."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.observe import counters
from harness.traffic import connect
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Host, Lab
    from harness.traffic import Attempts, Listener

TRACKING = "net.netfilter.nf_conntrack_tcp_"
# What belongs to no connection that it knows, a firewall drops.
FIREWALL = "table inet firewall { chain c { type filter hook forward priority 0; ct state invalid drop; }; }"


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


def rules(host: Host, text: str) -> None:
    """Rules of nft for a host, beside those that it has; MissingProgram where there is no nft."""
    host.run("nft", "-f", "-", stdin=text)


def watch(host: Host, *, remembers: int, loose: int = 0) -> None:
    """Let a host be a firewall that forgets what was idle for so many seconds, and drops what it does not know.

    With `loose` 1 it takes up connections that it does not know (nf_conntrack_tcp_loose).
    """
    rules(host, FIREWALL)
    host.sysctl[f"{TRACKING}timeout_established"] = remembers
    host.sysctl[f"{TRACKING}loose"] = loose


def leave(gateway: Host, how: str) -> None:
    """Let connections leave by the gateway's last interface as a rule of nft says, in place of the one before.

    It comes before the lab's own rule: the first one that gives a connection its port decides.
    """
    family = "ip" if gateway.family == socket.AF_INET else "ip6"
    rule = f"oifname {list(gateway.interfaces)[-1]} meta l4proto tcp {how}"
    chain = f"type nat hook postrouting priority 90; {rule};"
    rules(
        gateway,
        f"table {family} leave {{}}; delete table {family} leave; table {family} leave {{ chain c {{ {chain} }}; }}",
    )


def let_untracked(firewall: Host, port: int) -> None:
    """Let a firewall keep no track of the connections to a port, nor ask whether it knows them."""
    hook = "type filter hook prerouting priority raw;"
    for number, way in enumerate(("dport", "sport")):
        rules(firewall, f"table inet untracked {{ chain c{number} {{ {hook} tcp {way} {port} notrack; }}; }}")


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
