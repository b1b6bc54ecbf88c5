"""Machines between a client and a server that keep track of connections: a chain of three hosts, or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.lab import Host, Lab

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
