"""A machine whose timestamp clock is not this kernel's: a box in its cable moves the clock in every segment.

Hosts of a lab share a kernel, and with it the clock that TCP timestamps are read from; two real machines have been up
for different times. Here the difference is added on the way: to each TSval that the host sends, and taken from each
TSecr that comes back to it. No end notices, and any program that runs in the host has that clock, on any kernel.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
from typing import TYPE_CHECKING

from harness.errors import BadInput
from harness.traffic import frames
from harness.traffic.raw import put

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.lab import Host
    from harness.lab.netns import Namespace

ETH_P_ALL = 3
PACKET_OUTGOING = 4
IPPROTO_TCP = 6
ACK = 0x10
NOP, TIMESTAMP = 1, 8


class ClockShift:
    """The timestamp clock of a host, `ticks` ahead of what its kernel reads, or behind; until the lab closes.

    A tick is the kernel's: a millisecond since 4.13, a jiffy before. The host must be on a switch. Kernels that begin
    the clock of each connection at random (since 4.10, unless net.ipv4.tcp_timestamps is 2) add that as well.
    """

    def __init__(self, host: Host, ticks: int) -> None:
        interface = next(iter(host.interfaces.values()))
        assert interface.far_end is not None
        switch, port = interface.far_end
        if switch in (other.namespace for other in host.lab.all_hosts.values()):
            raise BadInput(f"host {host.name} is on a cable; a clock is moved on the way to a switch")
        self.ticks = ticks
        near, far = _between(switch, port)
        self._ended, ending = os.pipe()
        carrying = threading.Thread(
            target=carry, args=(near, far, self._ended, self._move), name=f"clock of {host.name}", daemon=True
        )
        carrying.start()

        def stop() -> None:
            os.close(ending)
            carrying.join()
            os.close(self._ended)

        host.lab.on_close(stop)

    def _move(self, frame: bytearray, outward: bool) -> None:
        """Move the clock of one frame: TSval of what the host sends, TSecr of what it is sent."""
        tcp = _tcp_of(frame)
        at = tcp and _timestamp_of(frame, tcp)
        if not tcp or not at:
            return
        if not outward:
            at += 4
            if not frame[tcp + 13] & ACK:  # nothing is echoed yet
                return
        odd = (at - tcp) % 2
        words = slice(at - odd, at + 4 + odd)
        before = bytes(frame[words])
        (value,) = struct.unpack_from("!I", frame, at)
        (checksum,) = struct.unpack_from("!H", frame, tcp + 16)
        struct.pack_into("!I", frame, at, (value + (self.ticks if outward else -self.ticks)) % 2**32)
        struct.pack_into("!H", frame, tcp + 16, frames.carry_checksum(checksum, before, bytes(frame[words])))


def carry(near: socket.socket, far: socket.socket, ended: int, change: Callable[[bytearray, bool], None]) -> None:
    """Carry frames between two packet sockets, and change each on its way, until there is something to read at `ended`.

    `change` is given the frame and whether it goes from near to far. What finds no room waits for it.
    """
    directions = {near.fileno(): (near, far, True), far.fileno(): (far, near, False)}
    poll = select.poll()
    for number in (*directions, ended):
        poll.register(number, select.POLLIN)
    with near, far:
        while ended not in (ready := [number for number, _ in poll.poll()]):
            for number in ready:
                source, target, outward = directions[number]
                for frame in _arrived(source):
                    change(frame, outward)
                    put(target, frame)


def _between(switch: Namespace, port: str) -> tuple[socket.socket, socket.socket]:
    """Take a port off the switch and put another cable in its place; packet sockets at the two loose ends."""
    from pyroute2 import IPRoute

    inner, outer = f"{port}in", f"{port}out"
    with switch, IPRoute() as netlink:
        link, bridge = socket.if_nametoindex(port), socket.if_nametoindex("bridge")
        netlink.link("add", kind="veth", ifname=inner, peer={"ifname": outer})
        netlink.link("set", index=link, master=0)
        netlink.link("set", index=socket.if_nametoindex(inner), state="up")
        netlink.link("set", index=socket.if_nametoindex(outer), master=bridge, state="up")
        return _packet_socket(port), _packet_socket(inner)


def _packet_socket(interface: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    made.bind((interface, ETH_P_ALL))
    return made


def _arrived(source: socket.socket) -> Iterator[bytearray]:
    """The frames that have come in, without those that other packet sockets send out there."""
    while True:
        try:
            frame, address = source.recvfrom(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENETDOWN:
                raise
            return
        if address[2] != PACKET_OUTGOING:
            yield bytearray(frame)


def _tcp_of(frame: bytearray) -> int:
    """Where the TCP header begins; 0 if there is none."""
    if frame[12:14] == b"\x08\x00" and frame[23] == IPPROTO_TCP:
        return 14 + (frame[14] & 0xF) * 4
    if frame[12:14] == b"\x86\xdd" and frame[20] == IPPROTO_TCP:
        return 54
    return 0


def _timestamp_of(frame: bytearray, tcp: int) -> int:
    """Where TSval is in a frame; 0 if the segment has no timestamps."""
    at, end = tcp + 20, tcp + (frame[tcp + 12] >> 4) * 4
    while at < end and frame[at]:
        if frame[at] == TIMESTAMP:
            return at + 2
        at += 1 if frame[at] == NOP else max(2, frame[at + 1])
    return 0
