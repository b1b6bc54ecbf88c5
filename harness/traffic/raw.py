"""Raw peers: TCP spoken by the scenario itself, from an address that no interface has.

No kernel owns the address, so none answers for it: what the peer does not send is not sent. Frames leave through a
packet socket at the end of a host's cable, and replies reach it there because the host has a permanent neighbour
entry for the address; the IP layer of the namespace they pass drops them as another host's (PACKET_OTHERHOST).
"""

from __future__ import annotations

import errno
import itertools
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.errors import NotReady
from harness.observe.sockets import end_between
from harness.traffic import frames
from harness.traffic.layers import layers
from harness.traffic.listener import Listener
from harness.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from scapy.layers.inet import TCP

    from harness.lab import Host
    from harness.observe.sockets import Socket

ETH_P_ALL = 3
# include/uapi/linux/if_packet.h
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
SO_ATTACH_FILTER = 26
Options = list[tuple[str, Any]]
# What a Linux client offers (net/ipv4/tcp_output.c, tcp_syn_options()), without timestamps.
SYN_OPTIONS: Options = [("MSS", 1460), ("SAckOK", b""), ("NOP", None), ("WScale", 7)]


def put(sending: socket.socket, frame: bytes | bytearray) -> None:
    """Put a frame on a cable, again as long as there is no room for it.

    All cables of the machine share a queue a processor (net.core.netdev_max_backlog), which somebody else's flood may
    have filled. A veth says so (ENOBUFS: drivers/net/veth.c, veth_xmit(), NET_XMIT_DROP), and a frame that a scenario
    sends once must not get lost there.
    """
    until(lambda: _has_room(sending, frame), what="room for a frame on the cable")


def _has_room(sending: socket.socket, frame: bytes | bytearray) -> bool:
    try:
        sending.send(frame)
    except OSError as error:
        if error.errno != errno.ENOBUFS:
            raise
        return False
    return True


def deliver(host: Host, *delivered: bytes) -> None:
    """Let frames arrive at the first interface of a host, from the far end of its cable, as if they had been on it.

    They have been: where netem is at that end they pass it by.
    """
    interface = next(iter(host.interfaces.values()))
    assert interface.far_end is not None
    namespace, name = interface.far_end
    with namespace, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as cable:
        cable.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        cable.bind((name, 0))
        for frame in delivered:
            put(cable, frame)


class RawPeer:
    """A peer of `host` on the host's cable, with an address of its own that nobody owns.

    `near` is the host whose end of the cable the frames leave from (any other member of the cable); replies are
    parsed by scapy. With `beyond`, `host` is the gateway through which the peer speaks to that host. Closed with the
    lab.
    """

    def __init__(self, host: Host, near: Host, *, beyond: Host | None = None) -> None:
        layers()  # the first segment must not begin with an import, while the kernel's timers run
        host.lab.check_ready()
        cable = host.lab.cable_of(host)
        number = cable.unowned()
        self.host = host
        self.family = host.family
        self.address = cable.address(number, self.family)
        self.mac = cable.mac(number)
        self.received: list[TCP] = []
        (interface,) = (name for member, name in cable.members if member is host)
        self._destination = (beyond or host).ip
        self._host_mac = host.interfaces[interface].mac
        self._interface = interface
        (near_interface,) = (name for member, name in cable.members if member is near)
        with near:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        _only_frames_for(self._socket, self.mac)
        self._socket.bind((near_interface, ETH_P_ALL))
        self._socket.setblocking(False)
        self._ports = itertools.count(20000)
        host.neighbour(interface, self.address, self.mac)
        host.close_netlink()
        host.lab.on_close(self._socket.close)

    def claim_spoofed_network(self) -> None:
        """Let the host send all replies to spoofed addresses (frames.SPOOFED) to this peer, who ignores them."""
        self.host.route(frames.SPOOFED[self.family], self.address, self.family)
        self.host.close_netlink()

    def frame(self, **fields: Any) -> bytes:
        """One frame from this peer to the host; the fields of frames.segment(), ports as (source, destination)."""
        macs, addresses = (self.mac, self._host_mac), (self.address, self._destination)
        return frames.segment(family=self.family, macs=macs, **{"addresses": addresses, **fields})

    def send(self, frame: bytes) -> None:
        """Put a frame on the cable."""
        put(self._socket, frame)

    def poll(self) -> list[TCP]:
        """All segments received up to now, oldest first."""
        known = layers()
        while True:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return self.received
            packet = known.ether(data)
            if known.tcp in packet:
                self.received.append(packet[known.tcp])

    def connection(self, to: Listener | int, *, port: int | None = None, isn: int = 1000) -> RawConnection:
        """A connection to be, from a port of the peer's (a fresh one) to a listener or port of the host."""
        destination = to.port if isinstance(to, Listener) else to
        return RawConnection(self, next(self._ports) if port is None else port, destination, isn)

    def half_open(self, to: Listener | int, n: int) -> list[RawConnection]:
        """n connections of which only the SYN was sent."""
        made = [self.connection(to) for _ in range(n)]
        for connection in made:
            connection.send("S", options=SYN_OPTIONS)
        return made


@dataclass
class RawConnection:
    """One four-tuple of a raw peer. `seq` is the next number to send, `ack` the next one expected."""

    peer: RawPeer
    port: int
    to: int
    seq: int
    ack: int = 0
    taken: int = field(default=0, repr=False)

    def send(
        self,
        flags: str,
        payload: bytes = b"",
        *,
        seq: int | None = None,
        ack: int | None = None,
        window: int = 65535,
        options: Options | None = None,
    ) -> None:
        """Send a segment, flags as scapy writes them ("S", "PA"); moves `seq` on unless one is given."""
        number = self.seq if seq is None else seq
        acknowledged = (self.ack if ack is None else ack) if "A" in flags else 0
        self.peer.send(
            self.peer.frame(
                ports=(self.port, self.to),
                flags=flags,
                seq=number,
                ack=acknowledged,
                window=window,
                options=options,
                payload=payload,
            )
        )
        if seq is None:
            self.seq = (number + len(payload) + ("S" in flags) + ("F" in flags)) % 2**32

    @property
    def at_host(self) -> Socket | None:
        """What the host has of it, without details; None if it has nothing."""
        return end_between(self.peer.host, (self.peer.host.ip, self.to), (self.peer.address, self.port))

    def replies(self) -> list[TCP]:
        """All that the host has sent to this four-tuple."""
        return [s for s in self.peer.poll() if (s.sport, s.dport) == (self.to, self.port)]

    def wait(self, wanted: str | Callable[[TCP], bool], *, deadline: float = PATIENCE) -> TCP:
        """The next reply that has exactly these flags, or for which `wanted` is true; those before it are passed over.

        NotReady, with what did arrive, after `deadline` seconds.
        """
        matches = (lambda s: str(s.flags) == wanted) if isinstance(wanted, str) else wanted

        def found() -> TCP | None:
            for i, reply in enumerate(self.replies()[self.taken :], start=self.taken + 1):
                if matches(reply):
                    self.taken = i
                    return reply
            return None

        try:
            return until(found, deadline=deadline, what=f"a segment {wanted} to port {self.port}")  # type: ignore[return-value]
        except NotReady as error:
            seen = " ".join(str(reply.flags) for reply in self.replies()) or "nothing"
            raise NotReady(f"{error}; received: {seen}") from None

    def syn(self, *, options: Options | None = None, deadline: float = PATIENCE) -> TCP:
        """Send a SYN and wait for the SYN-ACK; `ack` follows it."""
        self.send("S", options=SYN_OPTIONS if options is None else options)
        return self.expect_syn_ack(deadline=deadline)

    def expect_syn_ack(self, *, deadline: float = PATIENCE) -> TCP:
        """Wait for the SYN-ACK of a SYN sent before."""
        reply = self.wait("SA", deadline=deadline)
        self.ack = (reply.seq + 1) % 2**32
        return reply

    def handshake(self, *, deadline: float = PATIENCE) -> None:
        """SYN, SYN-ACK, ACK."""
        self.syn(deadline=deadline)
        self.send("A")


def _only_frames_for(receiving: socket.socket, mac: str) -> None:
    """Let the kernel queue only frames to this MAC: a classic BPF program, four loads and compares."""
    import ctypes

    wanted = bytes.fromhex(mac.replace(":", ""))
    high, low = struct.unpack("!IH", wanted)
    program = struct.pack(
        "HBBI" * 6,
        *(0x20, 0, 0, 0),  # ld [0]
        *(0x15, 0, 3, high),  # jeq high
        *(0x28, 0, 0, 4),  # ldh [4]
        *(0x15, 0, 1, low),  # jeq low
        *(0x06, 0, 0, 0x40000),  # ret whole frame
        *(0x06, 0, 0, 0),  # ret 0
    )
    buffer = ctypes.create_string_buffer(program)
    receiving.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 6, ctypes.addressof(buffer)))
