"""Ready-made networks, each named for what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import renamed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    from harness.lab.cable import Cable, Chosen
    from harness.lab.host import Host
    from harness.lab.lab import Lab
    from harness.lab.line import LineWords


@dataclass(frozen=True)
class Pair:
    """A client and a server on one cable."""

    client: Host
    server: Host
    cable: Cable

    @property
    def segment(self) -> Cable:
        """The old name of `cable`."""
        renamed("pair.segment", "pair.cable")
        return self.cable


@dataclass(frozen=True)
class Lan:
    """Hosts on one switch; the first is the server of the others where a scenario needs one."""

    hosts: list[Host]
    cable: Cable

    @property
    def segment(self) -> Cable:
        """The old name of `cable`."""
        renamed("lan.segment", "lan.cable")
        return self.cable


@dataclass(frozen=True)
class BehindNat:
    """Clients on a switch behind a gateway, which masquerades unless told, and a server outside."""

    clients: list[Host]
    gateway: Host
    server: Host
    inside: Cable
    outside: Cable


def pair(
    lab: Lab,
    *,
    mtu: int = 1500,
    offloads: bool = False,
    addresses: Sequence[Chosen] | None = None,
    **line: Unpack[LineWords],
) -> Pair:
    """client --- server; the cable as Lab.link() has it."""
    client, server = lab.hosts("client", "server")
    cable = lab.link(client, server, mtu=mtu, offloads=offloads, addresses=addresses, **line)
    lab.ready()
    return Pair(client, server, cable)


def lan(
    lab: Lab, n: int, *, mtu: int = 1500, addresses: Sequence[Chosen] | None = None, **line: Unpack[LineWords]
) -> Lan:
    """n hosts, host1 to hostN, on one switch; the switch as Lab.switch() has it."""
    hosts = lab.hosts(*(f"host{i}" for i in range(1, n + 1)))
    cable = lab.switch(*hosts, mtu=mtu, addresses=addresses, **line)
    lab.ready()
    return Lan(hosts, cable)


def behind_nat(lab: Lab, n: int = 2, **line: Unpack[LineWords]) -> BehindNat:
    """client1 … clientN --- switch --- gateway (masquerade) --- server; the last cable as Lab.link() has it."""
    clients = lab.hosts(*(f"client{i}" for i in range(1, n + 1)))
    return _behind(lab, clients, *lab.hosts("gateway", "server"), masquerade=True, **line)


def behind_router(lab: Lab, n: int = 2, **line: Unpack[LineWords]) -> BehindNat:
    """As behind_nat(), beside which it can stand in a lab, but the gateway leaves addresses as they are.

    neighbour1 … neighbourN --- switch --- router --- neighbours-server.
    """
    clients = lab.hosts(*(f"neighbour{i}" for i in range(1, n + 1)))
    return _behind(lab, clients, *lab.hosts("router", "neighbours-server"), masquerade=False, **line)


def _behind(
    lab: Lab, clients: list[Host], gateway: Host, server: Host, *, masquerade: bool, **line: Unpack[LineWords]
) -> BehindNat:
    inside, outside = lab.switch(*clients, gateway), lab.link(gateway, server, **line)
    lab.gateway(gateway, inside=inside, outside=outside, masquerade=masquerade)
    lab.ready()
    return BehindNat(clients, gateway, server, inside, outside)
