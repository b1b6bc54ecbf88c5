"""The firewall of the incidents: a router that keeps track of connections, and drops what belongs to none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.instruments.connection_table import ConnectionTable
from harness.lab.topologies import behind_router

if TYPE_CHECKING:
    from harness.lab import BehindNat, Host, Lab

RULES = """
table inet firewall {
    chain forwarded {
        type filter hook forward priority 0;
        ct state invalid drop
    }
}
"""
TRACKING = "net.netfilter.nf_conntrack_tcp_"


def rules(host: Host, text: str) -> None:
    """Rules of nft for a host, beside those that it has."""
    host.run("nft", "-f", "-", stdin=text)


def build(lab: Lab, clients: int = 1) -> BehindNat:
    """client1 … --- switch --- firewall --- server; the firewall is the `gateway`, and leaves addresses as they are."""
    net = behind_router(lab, clients)
    rules(net.gateway, RULES)
    return net


def let_untracked(firewall: Host, port: int) -> None:
    """Let the firewall not keep track of the connections to a port."""
    prerouting = "type filter hook prerouting priority raw;"
    rules(firewall, f"table inet untracked {{ chain c {{ {prerouting} tcp dport {port} notrack; }}; }}")
    rules(firewall, f"table inet untracked {{ chain d {{ {prerouting} tcp sport {port} notrack; }}; }}")


__all__ = ["RULES", "TRACKING", "ConnectionTable", "build", "let_untracked", "rules"]
