"""The packet filter of a host as methods: what it drops, rejects, accepts, keeps no track of; as whom others leave."""

from __future__ import annotations

import ipaddress
import itertools
import socket
from typing import TYPE_CHECKING, Protocol, Self, TypedDict

from harness.errors import BadInput
from harness.lab import nft

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Unpack

    from harness.lab.netns import Namespace

HOOKS = ("input", "forward", "output")
# Of the gateway's own rule (Lab.gateway()) a translation here comes before: the first that gives a port decides.
FIRST = nft.NAT_POSTROUTING_PRIORITY - 10
# Where addresses stand in their headers (RFC 791, RFC 8200): source, destination.
PLACES = {4: (12, 16), 6: (8, 24)}
_numbers = itertools.count(1)

Ports = tuple[int, int]


class RuleWords(TypedDict, total=False):
    """Which packets a rule of Firewall meets, and where."""

    state: str | tuple[str, ...] | None
    source: str | None
    destination: str | None
    sport: int | None
    dport: int | None
    hook: str | None


class Rule:
    """A rule that is in force until lift(), the end of `with`, or the lab's."""

    def __init__(self, table: nft.Table, mark: str) -> None:
        self._table = table
        self._mark = mark
        self._last: int | None = None

    @property
    def count(self) -> int:
        """How many packets it has met."""
        return self._table.counted(self._mark) if self._last is None else self._last

    def lift(self) -> int:
        """Take it away; returns how many packets it has met."""
        if self._last is None:
            self._last = self.count
            self._table.take_out(self._mark)
        return self._last

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lift()


class Firewall:
    """What a host's packet filter does to packets, beside what the lab does by itself; made when first used.

    A rule meets packets for which all holds that is given. `state` is that of their connection: "new", "established",
    "related", "invalid" (of none that the host knows) or "untracked", or several of these. `source` and `destination`
    are addresses, or networks ("10.1.0.0/16"); ports are of TCP. `hook` says where: "forward" is what passes through,
    "input" what is for the host, "output" what it sends; unless given, "forward" for a gateway and "input" for others.

    A rule that is added later comes before those that are there, and the first one that meets a packet decides.
    Unsupported, where the kernel has no nf_tables for it; BadInput, in one line, for what is no rule.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._table: nft.Table | None = None
        self.hook = "input"

    def drop(self, **which: Unpack[RuleWords]) -> Rule:
        """Drop packets, and tell nobody."""
        match, hook = _match(which)
        return self._add(hook, [(*match, *nft.drop())])

    def accept(self, **which: Unpack[RuleWords]) -> Rule:
        """Let packets pass, whatever the rules say that were there before."""
        match, hook = _match(which)
        return self._add(hook, [(*match, *nft.accept())])

    def reject(self, **which: Unpack[RuleWords]) -> Rule:
        """Drop packets, and tell who sent them: TCP by an RST, the rest by ICMP's "port unreachable"."""
        match, hook = _match(which)
        by_reset = (*nft.protocol(socket.IPPROTO_TCP), *match, *nft.reject_with_reset())
        return self._add(hook, [by_reset, (*match, *nft.reject())])

    def keep_no_track(self, port: int) -> Rule:
        """Keep no track of the connections to a TCP port, in both directions; they are "untracked" then."""
        check_port(port)
        mark = f"no track {next(_numbers)}"
        chains = {
            way: nft.Chain(
                hook,
                nft.RAW_PRIORITY,
                tuple((*_port(place, port), *nft.counter(), *nft.untracked()) for place in (0, 2)),
            )
            for way, hook in (("arriving", "prerouting"), ("leaving", "output"))
        }
        return _Whole(nft.Table(self._namespace, mark, chains))

    def _add(self, hook: str | None, rules: list[tuple[nft.Expression, ...]]) -> Rule:
        where = self.hook if hook is None else hook
        if where not in HOOKS:
            raise BadInput(f"a rule is for {', '.join(HOOKS)}, not for {hook!r}")
        if self._table is None:
            self._table = nft.Table(self._namespace, "firewall", {name: nft.Chain(name, 0) for name in HOOKS})
        mark = f"rule {next(_numbers)}"
        self._table.insert(where, mark, rules)
        return Rule(self._table, mark)


class _Whole(Rule):
    """A rule that is a table of its own."""

    def __init__(self, table: nft.Table) -> None:
        super().__init__(table, "")
        self._whole = table

    @property
    def count(self) -> int:
        """How many packets it has met."""
        return sum(self._whole.counts()) if self._last is None else self._last

    def lift(self) -> int:
        """Take it away; returns how many packets it has met."""
        if self._last is None:
            self._last = self.count
            self._whole.remove()
        return self._last


class _Addressed(Protocol):
    """An interface, as far as a translation looks at it."""

    @property
    def addresses(self) -> Mapping[int, str]: ...


class Translation:
    """As whom TCP connections leave by a host: another source, and ports of choice. The last call counts for new ones.

    `ports` are the first and the last that may be given; `interface` is the one by which they leave, the last unless
    given. It comes before what Lab.gateway() set up.
    """

    def __init__(self, namespace: Namespace, name: str, family: int, interfaces: Mapping[str, _Addressed]) -> None:
        self._namespace = namespace
        self._name = name
        self._family = family
        self._interfaces = interfaces
        self._tables: dict[int, nft.Table] = {}

    def masquerade(self, *, ports: Ports | None = None, interface: str | None = None) -> None:
        """Let connections have the address of the interface that they leave by."""
        by = self._by(interface)
        if ports is None:
            self._replace(self._family, nft.masquerade(), by)
        else:  # masquerading knows ports since 4.6, translating always did
            self.snat(self._interfaces[by].addresses[self._family], ports=ports, interface=by)

    def snat(self, address: str, *, ports: Ports | None = None, interface: str | None = None) -> None:
        """Let connections have this address."""
        check_ports(ports)
        try:
            family = socket.AF_INET if ipaddress.ip_address(address).version == 4 else socket.AF_INET6
        except ValueError:
            raise BadInput(f"{address!r} is no address to leave as") from None
        self._replace(family, nft.leave_as(family, address, ports), self._by(interface))

    def as_before(self) -> None:
        """Let new connections leave as the lab set it up."""
        for table in self._tables.values():
            table.remove()
        self._tables.clear()

    def _by(self, interface: str | None) -> str:
        by = next(reversed(list(self._interfaces)), None) if interface is None else interface
        if by is None or by not in self._interfaces:
            raise BadInput(f"host {self._name} has no interface {by!r}, only {', '.join(self._interfaces) or 'none'}")
        return by

    def _replace(self, family: int, translated: list[nft.Expression], interface: str) -> None:
        rule = (*nft.leaving_by(interface), *nft.protocol(socket.IPPROTO_TCP), *translated)
        # Both hooks: before 4.18 replies are translated back only where a chain sits.
        chains = {
            "prerouting": nft.Chain("prerouting", nft.NAT_PREROUTING_PRIORITY, kind="nat"),
            "postrouting": nft.Chain("postrouting", FIRST, (rule,), kind="nat"),
        }
        name = "ip" if family == socket.AF_INET else "ip6"
        self._tables[family] = nft.Table(self._namespace, "leave", chains, name, anew=True)


def check_port(port: object) -> None:
    """BadInput, if it is no TCP port."""
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise BadInput(f"a port is a whole number from 1 to 65535, not {port!r}")


def check_ports(ports: object) -> None:
    """BadInput, if these are no range of ports, and not None."""
    if ports is None:
        return
    if not isinstance(ports, (tuple, list)) or len(ports) != 2:
        raise BadInput(f"ports are the first and the last, as in (40000, 40019), not {ports!r}")
    for port in ports:
        check_port(port)
    if ports[0] > ports[1]:
        raise BadInput(f"ports go from the first to the last: {ports[0]} is above {ports[1]}")


def _match(which: RuleWords) -> tuple[list[nft.Expression], str | None]:
    """What the words of a rule match, counted, and its hook if they name one."""
    for word in which:
        if word not in RuleWords.__annotations__:
            raise BadInput(f"a rule has no {word!r}, only {', '.join(RuleWords.__annotations__)}")
    expressions: list[nft.Expression] = []
    if (state := which.get("state")) is not None:
        expressions += _state(state)
    networks = {
        number: _network(text)
        for number, text in enumerate((which.get("source"), which.get("destination")))
        if text is not None
    }
    if len({network.version for network in networks.values()}) > 1:
        raise BadInput(f"no packet is from {networks[0]} to {networks[1]}: a packet is of one family")
    for number, network in networks.items():
        expressions += _address(number, network)
    for place, port in ((0, which.get("sport")), (2, which.get("dport"))):
        if port is not None:
            check_port(port)
            expressions += _port(place, port)
    return [*expressions, *nft.counter()], which.get("hook")


def _state(wanted: object) -> list[nft.Expression]:
    names = wanted if isinstance(wanted, (tuple, list)) and wanted else (wanted,)
    for name in names:
        if name not in nft.STATES:
            raise BadInput(f"the state of a connection is one of {', '.join(nft.STATES)}, not {name!r}")
    return nft.state(*names)


def _port(place: int, port: int) -> list[nft.Expression]:
    """A TCP port: at place 0 of the header the source, at 2 the destination."""
    matched = nft.Match(nft.TRANSPORT_HEADER, place, port.to_bytes(2, "big")).expressions()
    return [*nft.protocol(socket.IPPROTO_TCP), *matched]


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(text: object) -> Network:
    try:
        # ipaddress takes a number for an address.
        return ipaddress.ip_network(str(text) if not isinstance(text, (bytes, int)) else "", strict=False)
    except ValueError:
        raise BadInput(f"{text!r} is no address and no network") from None


def _address(which: int, network: Network) -> list[nft.Expression]:
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    place = PLACES[network.version][which]
    matched = nft.Match(nft.NETWORK_HEADER, place, network.network_address.packed, network.netmask.packed)
    return [*nft.version(family), *matched.expressions()]
