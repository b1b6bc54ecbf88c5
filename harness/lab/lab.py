"""A lab: hosts and the cables between them, declared in a few lines and handed over when traffic passes."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BadInput, NotReady, Unsupported, renamed
from harness.lab import isolation, nft, rtnetlink
from harness.lab.cable import Cable
from harness.lab.host import IPV4, IPV6, Host, Interface
from harness.lab.hub import Hub, check_offloads
from harness.lab.line import check_mtu, line_of
from harness.lab.machine import MachineSysctls, turns
from harness.lab.procfs import Procfs
from harness.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Unpack

    from harness.lab.cable import Chosen
    from harness.lab.host import Addresses
    from harness.lab.impairment import Impairment
    from harness.lab.line import Line, LineWords
    from harness.lab.netns import Namespace

# Each host of a cable has every other as a permanent neighbour, which is quadratic: on larger switches only the first
# host and the others know each other beforehand.
FULL_MESH = 32
# So many neighbours are made known in one message to the kernel, whose answers have to fit into a socket's buffer.
AT_ONCE = 100
# How long a datagram of ready() may be under way before another is sent, in seconds.
UNDER_WAY = 1.0
# In characters: /run/netns has a file for each.
LONGEST_NAME = 60
_numbers = itertools.count(1)


class Lab:
    """A set of hosts that lives as long as the `with` block, or this process.

    `family` (socket.AF_INET or AF_INET6) is what the experiment is about: hosts always have addresses of both, and
    whatever takes no family uses this one. `machine_sysctl` has the knobs of the
    whole machine, to be set in a kernel of our own. `impairments` say, when called, what was done to the traffic.
    `on_host` is called with each host when it has been made.
    """

    def __init__(self, family: int = IPV4) -> None:
        isolation.isolate()
        self.family = socket.AddressFamily(family)
        self.number = next(_numbers)
        self.all_hosts: dict[str, Host] = {}
        self.cables: list[Cable] = []
        self.directory = Path(f"/run/lab{self.number}")
        self.machine_sysctl = MachineSysctls()
        self.on_host: list[Callable[[Host], object]] = []
        self.impairments: list[Callable[[], Impairment]] = []
        self._undo = ExitStack()
        self._routed: list[tuple[Host, Host]] = []
        self._ready = 0
        self._has_ipv6 = Path("/proc/sys/net/ipv6").exists()
        if family == IPV6 and not self._has_ipv6:
            raise Unsupported("the running kernel has IPv6 switched off (ipv6.disable=1 on its command line)")
        turns.join()
        self._undo.callback(turns.leave)
        self._undo.callback(self.machine_sysctl.restore)
        self.directory.mkdir()
        self._undo.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.procfs = Procfs()
        self._undo.callback(self.procfs.close)

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call this when the lab closes, before its hosts go; the last registered is called first."""
        self._undo.callback(callback)

    def close(self) -> None:
        """Release everything: sockets and programs first, then the namespaces."""
        self._undo.close()

    def host(self, name: str) -> Host:
        """A new host."""
        if not _is_name(name):
            raise BadInput(
                f"the name of a host is one of a file, of up to {LONGEST_NAME} printable characters, not {name!r}"
            )
        if name in self.all_hosts:
            raise BadInput(f"the lab has a host named {name!r} already")
        host = Host(self, name)
        # The name for tools that want one (`ip netns exec`): a symbolic link, because a mount would take a
        # grace period to undo and would outlive the descriptor.
        link = Path("/run/netns", name)
        link.unlink(missing_ok=True)
        link.symlink_to(f"/proc/{os.getpid()}/fd/{host.namespace.fd}")
        self._undo.callback(link.unlink, missing_ok=True)
        self._undo.callback(host.close)
        self.all_hosts[name] = host
        for tell in self.on_host:
            tell(host)
        return host

    def hosts(self, *names: str) -> list[Host]:
        """New hosts, in the order of their names."""
        return [self.host(name) for name in names]

    def set_all(self, name: str, value: object) -> None:
        """Set a sysctl on every host: each its own, or, where it is the whole machine's on this kernel, that one."""
        for host in self.all_hosts.values():
            host.sysctl[name] = value

    def set_each(self, name: str, values: Mapping[Host, object]) -> None:
        """Set a sysctl in which hosts differ; Unsupported where it is the whole machine's on this kernel."""
        for host, value in values.items():
            host.sysctl[name] = value
        if any(host.sysctl[name] != str(value) for host, value in values.items()):
            raise Unsupported(
                f"{name} is the whole machine's on kernel {os.uname().release}: hosts of a lab cannot differ in it"
            )

    def link(
        self,
        a: Host,
        b: Host,
        *,
        mtu: int = 1500,
        offloads: bool = False,
        addresses: Sequence[Chosen] | None = None,
        **line: Unpack[LineWords],
    ) -> Cable:
        """A cable between two hosts.

        `mtu` is in bytes. `offloads` leaves checksum and segmentation offload as the driver has them; without, frames
        on the cable are what TCP sends. `addresses` has an entry for each host, with its prefix ("192.0.2.1/24", or one
        of each family); a family without any has the cable's own.

        delay, jitter, loss, duplicate, reorder, rate, queue and seed make it like a real one; each of them, its unit
        and its bounds are those of harness.lab.line.Line. Both directions have them, from when the lab is ready:
        `lab.link(a, b, delay=0.05, loss=1, seed=7)` is a round trip of 100 ms on which one frame in a hundred is lost.

        BadInput, in one line, for what cannot be.
        """
        if a is b:
            raise BadInput(f"host {a.name} cannot be linked to itself")
        return self._lay([a, b], mtu, offloads, addresses, line_of(line))

    def switch(
        self,
        *hosts: Host,
        mtu: int = 1500,
        offloads: bool = False,
        addresses: Sequence[Chosen] | None = None,
        **line: Unpack[LineWords],
    ) -> Cable:
        """A switch with these hosts on it; the rest is as for link().

        A delay is that from any host to any other: a frame is delayed, lost or queued where it leaves for a host, and a
        `rate` is that of each host's own port.
        """
        return self._lay(list(hosts), mtu, offloads, addresses, line_of(line), switched=True)

    def gateway(
        self,
        gateway: Host,
        *,
        inside: Cable,
        outside: Cable,
        masquerade: bool = True,
        **line: Unpack[LineWords],
    ) -> None:
        """Let a host that is on both cables forward between them.

        Hosts inside get it as their default gateway. With `masquerade`, what leaves to the outside carries the
        gateway's own address, IPv4 and IPv6; without, hosts outside get a default route back. With a delay, a loss and
        so on (see link()) the outside is laid anew, as a cable that has them.
        """
        wanted = line_of(line)
        if not wanted.does_nothing:
            self._lay_anew(outside, wanted)
        gateway.firewall.hook = "forward"
        gateway.sysctl["net.ipv4.ip_forward"] = 1
        if self._has_ipv6:
            gateway.sysctl["net.ipv6.conf.all.forwarding"] = 1
        inner, outer = self._interface_on(gateway, inside), self._interface_on(gateway, outside)
        self._default_routes(inside, gateway, inner)
        if masquerade:
            self._masquerade(gateway, outer)
        else:
            self._default_routes(outside, gateway, outer)
        for client, _ in inside.members:
            for server, _ in outside.members:
                if gateway not in (client, server):
                    self._routed.append((client, server))

    def ready(self, deadline: float = PATIENCE) -> None:
        """Hand the lab over: neighbours known, and a datagram went both ways wherever hosts can reach each other.

        Raises NotReady, naming the two hosts, if that does not happen within `deadline` seconds.
        """
        new = self.cables[self._ready :]
        for cable in new:
            self._introduce(cable)
            self._settle(cable, deadline)
            if cable.hub is not None:
                cable.hub.wait_open()
            # Whom the switch does not know yet it sends to all: the first host is known from its first answer on.
            for host, name in cable.members[1:]:
                first, first_name = cable.members[0]
                for family in self._families():
                    here, there = host.address(family, name), first.address(family, first_name)
                    _exchange((host, here), (first, there), family, deadline)
        for client, server in self._routed:
            for family in self._families():
                _exchange((client, client.address(family)), (server, server.address(family)), family, deadline)
        self._ready = len(self.cables)
        self._routed.clear()
        for cable in new:
            if cable.hub is not None:
                cable.hub.arm()
                cable.hub.close_netlink()
        for host in self.all_hosts.values():
            host.close_netlink()

    def _families(self) -> tuple[int, ...]:
        return (IPV4, IPV6) if self._has_ipv6 else (IPV4,)

    def _lay(
        self,
        hosts: list[Host],
        mtu: int,
        offloads: bool,
        addresses: Sequence[Chosen] | None,
        line: Line,
        *,
        switched: bool = False,
    ) -> Cable:
        check_mtu(mtu)
        check_offloads(offloads, line)
        for host in hosts:
            if self.all_hosts.get(getattr(host, "name", "")) is not host:
                raise BadInput(f"{getattr(host, 'name', host)!r} is no host of this lab")
            if hosts.count(host) > 1:
                raise BadInput(f"host {host.name} is on a cable once, not {hosts.count(host)} times")
        cable = Cable(len(self.cables) + 1, mtu=mtu, offloads=offloads, line=line, switched=switched)
        if cable.number > 250:
            raise BadInput("a lab holds at most 250 cables; put hosts on a switch")
        chosen = cable.choose(addresses, len(hosts), self._families())
        self.cables.append(cable)
        self._connect(cable, [(host, f"eth{len(host.interfaces)}") for host in hosts], chosen)
        return cable

    def _lay_anew(self, cable: Cable, line: Line) -> None:
        """Lay a cable that nobody uses yet once more, with a line; interfaces keep their names and addresses."""
        if cable in self.cables[: self._ready] or cable.routed or not cable.line.does_nothing:
            raise BadInput(
                f"cable {cable.number} is in use, or has a line already: give delay, loss and the rest to the link() "
                "or switch() that lays it"
            )
        check_offloads(cable.offloads, line)
        ends = list(cable.members)
        chosen = [host.interfaces[name].with_prefixes() for host, name in ends]
        # Of a veth pair both ends go.
        for host, name in ends if cable.switched else ends[:1]:
            host.netlink().tell(rtnetlink.removed(host.interfaces[name].index))
        cable.members.clear()
        cable.line = line
        self._connect(cable, ends, chosen)

    def _connect(self, cable: Cable, ends: list[tuple[Host, str]], chosen: list[Addresses]) -> None:
        """Make the interfaces of a cable, and give them to their hosts."""
        far_ends = self._switched(cable, ends) if cable.has_middle else self._paired(cable, ends)
        for n, ((host, name), addresses, far_end) in enumerate(zip(ends, chosen, far_ends, strict=True), start=1):
            interface = Interface(
                name,
                _index(host, name),
                cable.mac(n),
                {family: str(address.ip) for family, address in addresses.items()},
                cable.mtu,
                far_end,
                {family: address.network.prefixlen for family, address in addresses.items()},
            )
            host.add_interface(interface, cable.offloads)
            cable.members.append((host, name))
        if cable.hub is not None:
            cable.hub.open()

    def _paired(self, cable: Cable, ends: list[tuple[Host, str]]) -> list[tuple[Namespace, str]]:
        """A veth between two hosts: each end's far end is the other."""
        (a, here), (b, there) = ends
        peer = rtnetlink.Peer(there, b.namespace.fd, cable.mac(2))
        a.netlink().tell(rtnetlink.veth(here, cable.mac(1), peer))
        return [(b.namespace, there), (a.namespace, here)]

    def _switched(self, cable: Cable, ends: list[tuple[Host, str]]) -> list[tuple[Namespace, str]]:
        """A port for each host, with something in the middle that moves frames between them."""
        hub = cable.hub = Hub(Host(self, f"switch{cable.number}"), cable.mtu, cable.line)
        self._undo.callback(hub.close, [host.name for host, _ in ends])
        return [hub.plug(host, name, cable.mac(n)) for n, (host, name) in enumerate(ends, start=1)]

    def _introduce(self, cable: Cable) -> None:
        for i, (host, name) in enumerate(cable.members):
            others = cable.members if len(cable.members) <= FULL_MESH or i == 0 else cable.members[:1]
            there = [other.interfaces[of] for other, of in others if other is not host]
            known = [(each.addresses[family], each.mac) for each in there for family in self._families()]
            for first in range(0, len(known), AT_ONCE):
                host.neighbours(name, known[first : first + AT_ONCE])

    def _settle(self, cable: Cable, deadline: float) -> None:
        """Wait until each host takes the addresses on a cable for its own: before that, what is sent there is lost."""
        for host, name in cable.members:
            for ip in host.interfaces[name].addresses.values():
                setup = host.netlink()
                until(partial(setup.has, ip), deadline=deadline, what=f"{host.name} to take {ip} for its own")

    def check_ready(self) -> None:
        """BadInput, where a cable with a line was laid since ready() was called, if it ever was."""
        for cable in self.cables[self._ready :]:
            cable.check_ready()

    def cable_of(self, host: Host) -> Cable:
        """The cable that the first interface of a host is on."""
        for cable in self.cables:
            if any(member is host for member, _ in cable.members):
                return cable
        raise BadInput(f"host {host.name} is not on any cable yet: link it, or put it on a switch")

    def segment_of(self, host: Host) -> Cable:
        """The old name of cable_of()."""
        renamed("lab.segment_of()", "lab.cable_of()")
        return self.cable_of(host)

    @property
    def segments(self) -> list[Cable]:
        """The old name of `cables`."""
        renamed("lab.segments", "lab.cables")
        return self.cables

    def _interface_on(self, host: Host, cable: Cable) -> str:
        for member, name in cable.members:
            if member is host:
                return name
        raise BadInput(f"host {host.name} is not on cable {cable.number}")

    def _default_routes(self, cable: Cable, gateway: Host, interface: str) -> None:
        cable.routed = True
        for host, _ in cable.members:
            if host is not gateway:
                for family in self._families():
                    host.route("default", gateway.address(family, interface), family)

    def _masquerade(self, gateway: Host, interface: str) -> None:
        # Families apart, because one table for both needs Linux 5.2 (nf_tables_inet NAT, d164385ec572). Both hooks,
        # because before 4.18 replies are translated back only where a chain sits.
        masquerading = (*nft.leaving_by(interface), *nft.masquerade())
        chains = {
            "prerouting": nft.Chain("prerouting", nft.NAT_PREROUTING_PRIORITY, kind="nat"),
            "postrouting": nft.Chain("postrouting", nft.NAT_POSTROUTING_PRIORITY, (masquerading,), kind="nat"),
        }
        for family in ("ip", "ip6")[: len(self._families())]:
            nft.Table(gateway.namespace, "nat", chains, family)


def _is_name(name: object) -> bool:
    """Whether a host can be called so."""
    is_one = isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable() and bool(name.strip())
    return is_one and "/" not in str(name) and name not in (".", "..")


def _index(host: Host, interface: str) -> int:
    with host:
        return socket.if_nametoindex(interface)


def _exchange(a: tuple[Host, str], b: tuple[Host, str], family: int, deadline: float) -> None:
    """A datagram from a to b, and an answer to where it came from; each with its address.

    Each is waited for before another is sent: what is still under way when the lab is handed over would be counted.
    """
    with a[0].socket(socket.SOCK_DGRAM, family) as here, b[0].socket(socket.SOCK_DGRAM, family) as there:
        for end, address in ((here, a[1]), (there, b[1])):
            end.bind((address, 0))
            end.settimeout(UNDER_WAY)
        port = there.getsockname()[1]

        def passed() -> bool:
            try:
                here.sendto(b"ready?", (b[1], port))
                _, source = there.recvfrom(16)
                there.sendto(b"ready", source)
                return here.recv(16) == b"ready"
            except OSError:
                return False

        try:
            until(passed, deadline=deadline, what=f"a datagram from {a[0].name} to {b[0].name} and back")
        except NotReady as error:
            raise NotReady(f"the lab is not ready: {error}") from None
