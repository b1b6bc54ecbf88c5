"""A cable, or a switch: which hosts are on it, their addresses, and what it does to frames."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.errors import BadInput
from harness.lab.host import IPV4, IPV6, Address, Addresses
from harness.lab.line import Line
from harness.listing import first

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.lab.host import Host
    from harness.lab.hub import Hub
    from harness.lab.impairment import LineUsed, Towards
    from harness.lab.line import By

# What a caller writes for one host: "192.0.2.1/24", or one of each family.
Chosen = str | tuple[str, ...] | list[str]
# The highest number of an address that nobody owns, where the network is as large as a cable's own.
UNOWNED = 0xFF00


@dataclass(repr=False)
class Cable:
    """One layer-2 network: a cable between two hosts, or a switch with any number.

    Addresses are 10.NUMBER.0.0/16 and fd00:NUMBER::/64 unless chosen; the n-th address (n from 1) goes with one MAC,
    whether an interface has it or not. `line` is what it does to frames; `hub` what is in its middle, if anything is.
    """

    number: int
    members: list[tuple[Host, str]] = field(default_factory=list)
    given: int = 0
    mtu: int = 1500
    offloads: bool = False
    switched: bool = False
    line: Line = field(default_factory=Line)
    networks: dict[int, ipaddress.IPv4Network | ipaddress.IPv6Network] = field(default_factory=dict)
    hub: Hub | None = None
    routed: bool = False

    def __repr__(self) -> str:
        return f"<cable {self.number}: {first([f'{host.name}:{name}' for host, name in self.members])}>"

    def address(self, n: int, family: int) -> str:
        """The n-th address of the cable."""
        if family in self.networks:
            return str(self.networks[family][n])
        return f"10.{self.number}.{n >> 8}.{n & 255}" if family == IPV4 else f"fd00:{self.number:x}::{n:x}"

    def unowned(self) -> int:
        """The number of an address that no interface has; another one at each call.

        BadInput, where the caller chose a network that has no more.
        """
        least = min((network.num_addresses for network in self.networks.values()), default=1 << 16)
        taken = {interface for host, name in self.members for interface in host.interfaces[name].addresses.values()}
        while True:
            self.given += 1
            number = min(UNOWNED, least - 1) - self.given
            # The first numbers have the MACs of the hosts.
            if number <= len(self.members):
                networks = ", ".join(str(network) for network in self.networks.values())
                raise BadInput(f"cable {self.number} has no address that nobody owns: {networks} has too few")
            if taken.isdisjoint(self.address(number, family) for family in (IPV4, IPV6)):
                return number

    def mac(self, n: int) -> str:
        """The MAC of the n-th address: locally administered."""
        return f"02:00:00:{self.number:02x}:{n >> 8:02x}:{n & 255:02x}"

    @property
    def has_middle(self) -> bool:
        """Whether it is more than a veth between two hosts."""
        return self.switched or not self.line.does_nothing

    @property
    def by(self) -> By | None:
        """What does to frames what `line` says: "netem", "box", or nothing."""
        return self.hub.by if self.hub is not None else None

    @property
    def seed(self) -> int | None:
        """What chance is drawn from: the caller's, or the one that was drawn; None where chance decides nothing."""
        return self.hub.seed if self.hub is not None else None

    def counts(self) -> dict[str, Towards]:
        """What has become of the frames to each host since the lab was ready, by its name; of a cable with a line.

        HarnessError, where the box that did it has died; BadInput before the lab is ready.
        """
        if self.hub is None or self.hub.by is None:
            return {}
        self.check_ready()
        return {each.host: each for each in self.hub.towards([host.name for host, _ in self.members])}

    def waiting(self) -> int:
        """How many frames are on the way now.

        HarnessError, where the box that has them has died; BadInput before the lab is ready.
        """
        self.check_ready()
        return self.hub.waiting() if self.hub is not None else 0

    def check_ready(self) -> None:
        """BadInput, where the cable has a line and the lab was not made ready since it was laid."""
        if self.hub is not None and self.hub.is_idle:
            raise BadInput(
                f"cable {self.number} has a line that does nothing yet: call lab.ready() when all cables are laid"
            )

    def used(self) -> LineUsed | None:
        """The line as evidence tells it; None where the cable does nothing to frames."""
        if self.hub is None or self.hub.by is None:
            return None
        return self.hub.used([host.name for host, _ in self.members])

    def choose(self, addresses: Sequence[Chosen] | None, hosts: int, families: tuple[int, ...]) -> list[Addresses]:
        """The addresses of so many hosts, as the caller chose them, in these families; the cable's own for the rest.

        BadInput, in one line, where they cannot be.
        """
        if addresses is not None:
            self.networks.update(
                {family: network for family, network in _networks(addresses, hosts).items() if family in families}
            )
        return [
            {family: self._address_of(addresses, n, family) for family in families} for n in range(1, hosts + 1)
        ]  # fmt: skip

    def _address_of(self, addresses: Sequence[Chosen] | None, n: int, family: int) -> Address:
        if addresses is not None and family in self.networks:
            return _parsed(addresses[n - 1])[family]
        return ipaddress.ip_interface(f"{self.address(n, family)}/{16 if family == IPV4 else 64}")


def _networks(
    addresses: Sequence[Chosen], hosts: int
) -> dict[int, ipaddress.IPv4Network | ipaddress.IPv6Network]:  # fmt: skip
    """The networks of a caller's addresses, by family."""
    if not isinstance(addresses, (tuple, list)) or len(addresses) != hosts:
        raise BadInput(f"addresses has an entry for each of the {hosts} hosts, not {addresses!r}")
    parsed = [_parsed(chosen) for chosen in addresses]
    networks = {}
    for family in {family for each in parsed for family in each}:
        of_family = [each[family] for each in parsed if family in each]
        if len(of_family) != hosts:
            raise BadInput(f"addresses gives {of_family[0]} to a host, and another host none of its family")
        first = of_family[0]
        for address in of_family:
            if address.network != first.network:
                raise BadInput(f"addresses has {first} and {address}, which are not of one network")
        if len({address.ip for address in of_family}) != hosts:
            raise BadInput(f"addresses gives two hosts the same one: {', '.join(map(str, of_family))}")
        networks[family] = first.network
    return networks


def _parsed(chosen: Chosen) -> Addresses:
    """The addresses of one host by family."""
    found: Addresses = {}
    for text in chosen if isinstance(chosen, (tuple, list)) else (chosen,):
        try:
            address = ipaddress.ip_interface(text)
        except ValueError:
            address = None
        if address is None or "/" not in str(text):
            raise BadInput(f"an address has a prefix, as in 192.0.2.1/24 or 2001:db8::1/64; {text!r} is none")
        family = IPV4 if address.version == 4 else IPV6
        if family in found:
            raise BadInput(f"a host has one address of a family on a cable, not {found[family]} and {address}")
        if not _is_of_a_host(address):
            raise BadInput(f"{address} is no address that a host can have")
        found[family] = address
    return found


def _is_of_a_host(address: Address) -> bool:
    network, ip = address.network, address.ip
    if ip.is_loopback or ip.is_multicast or ip.is_unspecified:
        return False
    return address.version == 6 or network.num_addresses <= 2 or ip not in (network[0], network[-1])
