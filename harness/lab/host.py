"""A host: a network namespace with a name, interfaces, sysctls, and programs that run inside it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from harness.errors import BadInput
from harness.lab import isolation, nft, offload, rtnetlink
from harness.lab.firewall import Firewall, Translation
from harness.lab.netns import Namespace
from harness.lab.program import Program, Ran, run
from harness.lab.rtnetlink import Setup
from harness.lab.sysctl import Sysctls
from harness.lab.tracking import ConnectionTracking
from harness.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from harness.lab.lab import Lab

IPV4, IPV6 = socket.AF_INET, socket.AF_INET6
# Addresses with their prefixes, by family.
Address = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Addresses = dict[int, Address]
NODAD = 0x02  # include/uapi/linux/if_addr.h, IFA_F_NODAD: usable at once
# No reverse path check; no link-local address, hence no router solicitation and nothing to detect duplicates of.
QUIET = {
    "sys/net/ipv4": {"conf/all/rp_filter": b"0", "conf/default/rp_filter": b"0"},
    "sys/net/ipv6": {
        "conf/all/disable_ipv6": b"0",
        "conf/default/disable_ipv6": b"0",
        "conf/default/addr_gen_mode": b"1",
        "conf/default/accept_ra": b"0",
    },
}


def family_of(address: str) -> socket.AddressFamily:
    """The family of an IP address."""
    return IPV6 if ":" in address else IPV4


@dataclass(frozen=True)
class Interface:
    """An interface as it was set up: its name, index, MAC, addresses and prefixes by family, MTU in bytes.

    `far_end` is where its cable ends: what is sent there arrives here.
    """

    name: str
    index: int
    mac: str
    addresses: dict[int, str] = field(default_factory=dict)
    mtu: int = 1500
    far_end: tuple[Namespace, str] | None = None
    prefixes: dict[int, int] = field(default_factory=dict)

    def with_prefixes(self) -> Addresses:
        """Its addresses, each with its prefix."""
        return {
            family: ipaddress.ip_interface(f"{address}/{self.prefixes[family]}")
            for family, address in self.addresses.items()
        }


class Host:
    """A network namespace. `with host:` moves the calling thread inside; a socket made there stays there for life.

    `firewall` drops, rejects and accepts; `nat` translates what leaves by it; `conntrack` is what it knows of the
    connections that pass it.
    """

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.name = name
        self.namespace = Namespace()
        self.interfaces: dict[str, Interface] = {}
        self.sysctl = Sysctls(self.namespace, lab.machine_sysctl)
        self.firewall = Firewall(self.namespace)
        self.nat = Translation(self.namespace, name, lab.family, self.interfaces)
        self.conntrack = ConnectionTracking(self.sysctl)
        self.programs: list[Program] = []
        self._netlink: Setup | None = None
        self._quieten()

    def __enter__(self) -> Host:
        self.namespace.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.namespace.__exit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"<host {self.name} {' '.join(a for i in self.interfaces.values() for a in i.addresses.values())}>"

    @property
    def family(self) -> socket.AddressFamily:
        """The address family that the lab's experiment is about."""
        return self.lab.family

    @property
    def ip(self) -> str:
        """The address of the first interface, in the lab's family."""
        return self.address()

    def address(self, family: int | None = None, interface: str | None = None) -> str:
        """The address of an interface (the first) in a family (the lab's)."""
        if not self.interfaces:
            raise BadInput(f"host {self.name} has no interface yet: link it, or put it on a switch")
        chosen = self.interfaces[interface] if interface else next(iter(self.interfaces.values()))
        return chosen.addresses[self.family if family is None else family]

    def socket(self, kind: int = socket.SOCK_STREAM, family: int | None = None, protocol: int = 0) -> socket.socket:
        """A socket of this host, of the lab's family unless told."""
        with self:
            return socket.socket(self.family if family is None else family, kind, protocol)

    def open(self, path: str | Path, mode: str = "r") -> IO[Any]:
        """Open a file as this host sees it (/proc/thread-self/net, /proc/sys/net)."""
        return self.namespace.call(lambda: Path(path).open(mode))

    def run(self, *argv: object, stdin: str | None = None, timeout: float = 120.0, check: bool = True) -> Ran:
        """Run a program inside to its end and keep its output; `timeout` in seconds.

        Raises MissingProgram, ProgramFailed (with `check`, on a status other than 0), NotReady.
        """
        return run(self.namespace, _words(argv), stdin=stdin, timeout=timeout, check=check)

    def start(self, *argv: object, ready: Callable[[], object] | None = None, deadline: float = PATIENCE) -> Program:
        """Start a program inside, in the background; with `ready`, wait until that is true (`deadline` seconds).

        It is stopped when the lab closes, and killed with all its children if this process dies.
        """
        output = self.lab.directory / f"{self.name}-{len(self.programs)}-{Path(str(_words(argv)[0])).name}.out"
        program = Program(self.namespace, _words(argv), output)
        self.programs.append(program)
        if ready is not None:
            program.wait_ready(ready, deadline)
        return program

    def enter_command(self) -> str:
        """The shell command that enters this host from another terminal of the same user."""
        pid = os.getpid()
        user = "--user --preserve-credentials " if isolation.in_user_namespace() else ""
        return f"nsenter --target {pid} {user}--mount --net=/proc/{pid}/fd/{self.namespace.fd}"

    # Set-up: used by Lab, not by scenarios.

    def netlink(self) -> Setup:
        """The rtnetlink socket that sets this host up; closed when the lab is ready."""
        if self._netlink is None:
            with self:
                self._netlink = Setup()
            self._netlink.tell(rtnetlink.up(1))
        return self._netlink

    def close_netlink(self) -> None:
        """Let go of the set-up socket."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def add_interface(self, interface: Interface, offloads: bool) -> None:
        """Bring a link that lies in the namespace into service: addresses, features, up."""
        self.interfaces[interface.name] = interface
        netlink = self.netlink()
        if not offloads:
            with self.socket(socket.SOCK_DGRAM, IPV4) as control:
                offload.switch(control, interface.name, tx=False, tso=False, gso=False, gro=False)
        netlink.tell(
            rtnetlink.up(interface.index, mtu=interface.mtu),
            *(
                rtnetlink.address(
                    interface.index, address, interface.prefixes[family], flags=0 if family == IPV4 else NODAD
                )
                for family, address in interface.addresses.items()
            ),
        )

    def neighbour(self, interface: str, address: str, mac: str) -> None:
        """A permanent entry in the neighbour table: no ARP, no neighbour discovery."""
        self.neighbours(interface, [(address, mac)])

    def neighbours(self, interface: str, known: Iterable[tuple[str, str]]) -> None:
        """Permanent entries, each an address and a MAC; a hundred at a time."""
        index = self.interfaces[interface].index
        self.netlink().tell(*(rtnetlink.neighbour(index, address, mac) for address, mac in known))

    def route(self, destination: str, via: str, family: int) -> None:
        """A route; `destination` is a prefix or "default"."""
        self.netlink().tell(rtnetlink.route(destination, family, via=via))

    def add_address(self, address: str) -> None:
        """Give the host one more address, on its loopback interface; ready when what is sent to it arrives.

        The kernel takes an IPv6 address for its own a little later than it has a route to it (net/ipv6/addrconf.c,
        addrconf_dad_work()).
        """
        family = family_of(address)
        length, flags = (32, 0) if family == IPV4 else (128, NODAD)
        self.netlink().tell(rtnetlink.address(1, address, length, flags=flags))
        self.close_netlink()
        with self.socket(socket.SOCK_DGRAM, family) as datagrams:
            datagrams.bind((address, 0))
            datagrams.setblocking(False)
            until(lambda: _hears_itself(datagrams), what=f"{self.name} to be reached at {address}")

    def close(self) -> None:
        """Stop what runs inside and let go of the namespace."""
        for program in self.programs:
            program.stop()
        self.close_netlink()
        if nft.outlive_their_namespace():
            nft.remove_all(self.namespace)
        self.namespace.close()

    def _quieten(self) -> None:
        """Silence what would add packets of its own, and what would drop those of raw peers.

        A new namespace takes IPv4's per-interface settings from the machine (devinet_init_net()). Each write takes the
        lock that all network configuration shares, so what is as it should be is left alone.
        """
        procfs = self.lab.procfs.folder()
        with self:
            for folder, settings in QUIET.items():
                with contextlib.suppress(FileNotFoundError), _opened(folder, procfs) as inside:
                    for name, wanted in settings.items():
                        _settle(inside, name, wanted)


@contextlib.contextmanager
def _opened(folder: str, procfs: int) -> Iterator[int]:
    """A folder of sysctls, found once: the kernel looks for it among those of other namespaces (harness.lab.procfs)."""
    opened = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=procfs)
    try:
        yield opened
    finally:
        os.close(opened)


def _settle(folder: int, name: str, wanted: bytes) -> None:
    """Write what a sysctl has to be, unless it is, or the kernel has none of the name."""
    with contextlib.suppress(FileNotFoundError):
        knob = os.open(name, os.O_RDWR | os.O_CLOEXEC, dir_fd=folder)
        try:
            if os.read(knob, 64).strip() != wanted:
                os.pwrite(knob, wanted, 0)
        finally:
            os.close(knob)


def _hears_itself(datagrams: socket.socket) -> bool:
    """Whether a datagram that a socket sends to itself arrives."""
    try:
        datagrams.sendto(b"?", datagrams.getsockname())
        return bool(datagrams.recv(1))
    except OSError:  # no route to it, or nothing has come
        return False


def _words(argv: Sequence[object]) -> list[str]:
    """Accept run("ss", "-lnt") and run(["ss", "-lnt"]) alike."""
    if len(argv) == 1 and isinstance(argv[0], (list, tuple)):
        argv = argv[0]
    return [str(word) for word in argv]
