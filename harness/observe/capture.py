"""Packets of one host, captured by the kernel into memory while an experiment runs, and read when asked for."""

from __future__ import annotations

import mmap
import socket
import struct
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from harness.errors import BadInput, Forbidden
from harness.lab.impairment import Flags, bits
from harness.listing import Listing
from harness.observe import bpf, segments
from harness.observe.packet import Packet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from harness.lab.host import Host
    from harness.observe.sockets import FourTuple

# include/uapi/linux/if_packet.h and if_arp.h
SOL_PACKET = 263
PACKET_RX_RING = 5
PACKET_STATISTICS = 6
PACKET_VERSION = 10
TPACKET_V2 = 1
TP_STATUS_KERNEL, TP_STATUS_USER = 0, 1
PACKET_OUTGOING = 4
ETH_P_ALL = 3
ARPHRD_ETHER, ARPHRD_LOOPBACK = 1, 772

# struct tpacket2_hdr (status, length, captured, offset, seconds, nanoseconds), then struct sockaddr_ll
# (interface index, hardware type, packet type).
FRAME_HEADER = struct.Struct("=IIIH2xII8x4xiHB")
STATUS = struct.Struct("=I")
RING = struct.Struct("=IIII")
STATISTICS = struct.Struct("=II")
# What the kernel puts before a frame: both structs and room to align the network header (net/packet/af_packet.c).
FRAME_OVERHEAD = 80
BLOCK = 1 << 16


class Capture:
    """A running capture; use as a context manager. After the `with` it keeps what it has.

    A packet is seen as tcpdump sees it: incoming ones before netfilter, outgoing ones after it, and a frame
    that arrives on veth is what the other end sent (offloads are off in a lab).
    """

    def __init__(self, host: Host, interface: str | None, limit: int, snap: int, port: int | None) -> None:
        if limit < 1:
            raise BadInput(f"a capture holds at least one packet, not {limit}")
        self.host = host
        self.interface = interface
        self.limit = limit
        self._snap = snap
        self._frame_size = (FRAME_OVERHEAD + snap + 15) & ~15
        self._port = port
        self._socket: socket.socket | None = None
        self._ring: mmap.mmap | None = None
        self._next = 0
        self._names: dict[int, str] = {}
        self._packets: list[Packet] = []
        self._dropped = 0

    def packets(self) -> list[Packet]:
        """All packets since the capture began, in the order in which they were seen."""
        self._drain()
        return Listing(self._packets)

    def segments(
        self,
        *,
        flags: str | None = None,
        direction: str | None = None,
        src: str | None = None,
        sport: int | None = None,
        dst: str | None = None,
        dport: int | None = None,
        port: int | None = None,
        ends: FourTuple | None = None,
        interface: str | None = None,
    ) -> list[segments.Segment]:
        """The TCP segments since the capture began: those for which all that is given is equal.

        `flags` means what people mean ("S" a SYN and no SYN-ACK, "F" a FIN: `harness.lab.impairment.Flags`). `port` is
        either end's: two connections of a host to two listeners may have it both. `ends` are the two of a connection,
        in either order.
        """
        self._drain()
        meant = None if flags is None else Flags.of(flags)
        wanted = {
            "direction": direction,
            "src": src,
            "sport": sport,
            "dst": dst,
            "dport": dport,
            "interface": interface,
        }
        given = [(name, value) for name, value in wanted.items() if value is not None]
        between = None if ends is None else {ends, ends[::-1]}
        return Listing(
            segment
            for segment in (packet.segment() for packet in self._packets)
            if segment is not None
            and (meant is None or meant.meet(bits(segment.flags), segment.length))
            and all(getattr(segment, name) == value for name, value in given)
            and (port is None or port in (segment.sport, segment.dport))
            and (between is None or ((segment.src, segment.sport), (segment.dst, segment.dport)) in between)
        )

    def exchange(self, **wanted: str | int | FourTuple | None) -> list[str]:
        """The segments (chosen as in `segments`) as lines to read, and a last line if packets are missing."""
        lines = segments.exchange(self.segments(**wanted))  # type: ignore[arg-type]
        if self.dropped:
            lines.append(f"({self.dropped} packets more were not captured: the limit is {self.limit})")
        return lines

    @property
    def dropped(self) -> int:
        """How many packets found no room (PACKET_STATISTICS)."""
        if self._socket is not None:
            _, dropped = STATISTICS.unpack(self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, STATISTICS.size))
            self._dropped += dropped
        return self._dropped

    def write(self, path: Path) -> None:
        """Write everything to a pcapng file."""
        from harness.observe.pcapng import write_pcapng

        write_pcapng(path, [self])

    def __enter__(self) -> Capture:
        per_block = BLOCK // self._frame_size
        blocks = -(-self.limit // per_block)
        ring = RING.pack(BLOCK, blocks, self._frame_size, blocks * per_block)
        with self.host, ExitStack() as undo:
            index = self._index()
            packets = undo.enter_context(self._open())
            packets.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
            packets.setsockopt(SOL_PACKET, PACKET_RX_RING, ring)
            self._ring = mmap.mmap(packets.fileno(), BLOCK * blocks)
            if self._port is not None:
                bpf.attach(packets, bpf.tcp_port(self._port))
            bpf.bind(packets, ETH_P_ALL, index)
            self._names = dict(socket.if_nameindex())
            self._socket = packets
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket is None or self._ring is None:
            return
        self._drain()
        self._dropped = self.dropped
        self._ring.close()
        # The kernel waits for two RCU grace periods, some 20 ms, before it lets go of a packet socket with a ring
        # (packet_release()). The experiment need not wait as well; the lab does, when it closes.
        closing = threading.Thread(target=self._socket.close, name=f"close capture of {self.host.name}")
        closing.start()
        self.host.lab.on_close(closing.join)
        self._socket = self._ring = None

    def _open(self) -> socket.socket:
        # Protocol 0 receives nothing: packets come once it is bound, when the filter and the ring are in place.
        try:
            return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except PermissionError:
            raise Forbidden(f"capturing on {self.host.name} needs CAP_NET_RAW in its network namespace") from None

    def _index(self) -> int:
        if self.interface is None:
            return 0
        try:
            return socket.if_nametoindex(self.interface)
        except OSError:
            known = ", ".join(name for _, name in socket.if_nameindex())
            raise BadInput(f"{self.host.name} has no interface {self.interface!r}, only {known}") from None

    def _drain(self) -> None:
        for packet in self._read():
            if len(self._packets) < self.limit:
                self._packets.append(packet)
            else:
                self._dropped += 1

    def _read(self) -> Iterator[Packet]:
        """The frames that the kernel has filled, handing each slot back."""
        ring = self._ring
        if ring is None:
            return
        per_block = BLOCK // self._frame_size
        slots = len(ring) // BLOCK * per_block
        while True:
            slot = self._next // per_block * BLOCK + self._next % per_block * self._frame_size
            status, length, captured, offset, seconds, nanoseconds, index, hardware, kind = FRAME_HEADER.unpack_from(
                ring, slot
            )
            if not status & TP_STATUS_USER:
                return
            frame = ring[slot + offset : slot + offset + min(captured, self._snap)]
            STATUS.pack_into(ring, slot, TP_STATUS_KERNEL)
            self._next = (self._next + 1) % slots
            # The loopback device shows each packet twice: as it goes out and as it comes in.
            if kind == PACKET_OUTGOING and hardware == ARPHRD_LOOPBACK:
                continue
            yield Packet(
                seconds * 1_000_000_000 + nanoseconds,
                "out" if kind == PACKET_OUTGOING else "in",
                self._name(index),
                length,
                frame,
                hardware in (ARPHRD_ETHER, ARPHRD_LOOPBACK),
            )

    def _name(self, index: int) -> str:
        if index not in self._names:
            with self.host:
                self._names |= dict(socket.if_nameindex())
        return self._names.get(index, str(index))


def capture(
    host: Host, interface: str | None = None, *, limit: int = 20_000, snap: int = 432, port: int | None = None
) -> Capture:
    """Capture the packets of a host, on one interface or on all (loopback included).

    At most `limit` packets are kept, the first ones, `snap` bytes of each; the rest are counted in `dropped`.
    The kernel's memory for them, about `limit` times `snap`, is taken when the `with` begins. With `port`,
    only TCP segments from or to it are looked at. Raises Forbidden without CAP_NET_RAW in the namespace, and
    BadInput for an interface that the host does not have.
    """
    return Capture(host, interface, limit, snap, port)
